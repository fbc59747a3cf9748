//! Which requests a route takes.

use std::fmt;

use super::Pattern;

/// Which requests a route takes: all conditions have to hold. One that is not given holds always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// The path.
    pub path: PathMatch,
    /// The method is one of these; empty: any.
    pub methods: Vec<HttpMethod>,
    /// The host is one of these; empty: any.
    pub hosts: Vec<HostPattern>,
    /// Conditions on header lines, all of them.
    pub headers: Vec<FieldMatch>,
    /// Conditions on query parameters, all of them.
    pub query: Vec<FieldMatch>,
}

impl Match {
    /// How many conditions there are beside host and path: the more, the earlier the route is tried.
    #[must_use]
    pub fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.query.len()
    }
}

/// The condition on the path of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PathMatch {
    /// Any path; of a transcoded route: what the annotations of its services say.
    #[default]
    Any,
    /// This path and no other. Starts with `/`.
    Exact(String),
    /// Paths that start so. Starts with `/`.
    Prefix(String),
    /// Paths that match as a whole.
    Regex(Pattern),
}

/// An HTTP method: a token in upper case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpMethod(pub(crate) String);

impl HttpMethod {
    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A host that a route is for, in lower case and without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host.
    Exact(String),
    /// `*.example.com`: every host below it. The text is `example.com`.
    Wildcard(String),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// A condition on a header line or a query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMatch {
    /// Its name; of a header line: in lower case.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

/// What the value of a header line or query parameter must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// Exactly this.
    Exact(String),
    /// Start so.
    Prefix(String),
    /// End so.
    Suffix(String),
    /// Have this somewhere.
    Contains(String),
    /// Match as a whole.
    Regex(Pattern),
    /// Be there, whatever it is.
    Present,
    /// Not be there.
    Absent,
}

impl ValueMatch {
    /// Whether the condition holds for `value` (`None`: it is not there).
    #[must_use]
    pub fn matches(&self, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::Absent);
        };
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            // A condition's text is never empty, so `windows` has a size.
            Self::Contains(text) => value
                .windows(text.len().max(1))
                .any(|w| w == text.as_bytes()),
            Self::Regex(pattern) => pattern.matches(value),
            Self::Present => true,
            Self::Absent => false,
        }
    }
}
