//! What can go wrong with a call, in words for a log line: what is wrong with Consul, and what only a person with rights can
//! change. No error holds the token.

use std::fmt;
use std::time::Duration;

/// The right that a call needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `service`, `key`, `node`, …
    pub resource: &'static str,
    /// `read` or `write`.
    pub access: &'static str,
    /// Of what: the service or the key.
    pub name: Box<str>,
}

impl Rule {
    pub(crate) fn new(resource: &'static str, access: &'static str, name: &str) -> Self {
        Self {
            resource,
            access,
            name: name.into(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource,
            access,
            name,
        } = self;
        write!(f, "`{resource}:{access}` on `{name}`")
    }
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect to {address}: {why}")]
    Connect {
        /// Where.
        address: Box<str>,
        /// What the system says.
        why: Box<str>,
    },
    /// Nothing, or not all of an answer, in time.
    #[error("no {what} within {after:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The connection broke, or what came over it was not HTTP.
    #[error("the connection broke: {0}")]
    Broken(Box<str>),
    /// An answer that nobody wants in memory.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
    /// An answer without success.
    #[error("status {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The beginning of the body.
        message: Box<str>,
    },
    /// The token lacks a right.
    #[error("403: the token lacks {rule} ({message})")]
    Forbidden {
        /// The missing right.
        rule: Rule,
        /// What Consul says.
        message: Box<str>,
    },
    /// A success that means nothing.
    #[error("nonsense: {0}")]
    Nonsense(Box<str>),
    /// An answer of a server that has not heard of the leader for too long.
    #[error("the answer is {age:?} old, older than the {bound:?} that are allowed")]
    Stale {
        /// Since the server heard of the leader.
        age: Duration,
        /// What is allowed.
        bound: Duration,
    },
    /// A value that Consul does not take.
    #[error(
        "the value has {size} bytes, and Consul takes at most {limit} (512 KiB): split it, or keep it in a file"
    )]
    ValueTooLong {
        /// Of the value.
        size: usize,
        /// Consul's.
        limit: usize,
    },
}

impl Error {
    pub(crate) fn nonsense(why: impl Into<Box<str>>) -> Self {
        Self::Nonsense(why.into())
    }

    /// True where waiting does not help, but a right does.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }
}
