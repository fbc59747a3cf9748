//! Which scripts of browsers may call a route from other sites (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::fmt;

use super::Timeout;

/// What browsers are told about a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose scripts may call it.
    pub origins: Vec<Origin>,
    /// Header lines that they may send; none: whatever they ask for.
    pub headers: Vec<String>,
    /// Header lines of answers that they may read, beside those of gRPC and the request's id.
    pub expose: Vec<String>,
    /// Cookies and the like may come along.
    pub credentials: bool,
    /// How long a browser need not ask again.
    pub max_age: Timeout,
}

/// Whose scripts these are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Anybody's.
    Any,
    /// Of this scheme, host and port.
    Exact(String),
    /// Of every host below this one: scheme, and what the host and port end with, `.` first.
    Below(String, String),
}

impl Cors {
    /// `max_age` where it is not given.
    pub const DEFAULT_MAX_AGE: Timeout = Timeout::from_secs::<600>();
}

impl Origin {
    /// Whether it is this one, as a browser writes it.
    #[must_use]
    pub fn is(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Below(scheme, end) => origin
                .strip_prefix(scheme.as_str())
                .and_then(|host| host.len().checked_sub(end.len()).map(|at| (host, at)))
                .and_then(|(host, at)| host.get(at..).filter(|_| at > 0))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(exact) => f.write_str(exact),
            Self::Below(scheme, end) => write!(f, "{scheme}*{end}"),
        }
    }
}
