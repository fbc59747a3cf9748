//! A route: which requests it takes, and what becomes of them.

use std::fmt;

use super::{ByteSize, ClusterName, Pattern, ProfileName, RouteName, ServiceName, Timeout};

/// One row of the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Unique among the routes.
    pub name: RouteName,
    /// Which requests it takes.
    pub matches: Match,
    /// What is done with them.
    pub action: Action,
    /// Where they go: a cluster of the same snapshot.
    pub to: ClusterName,
    /// How long a unary call may take as a whole, and a stream up to its first message.
    pub timeout: Timeout,
}

impl Route {
    /// How long a call may take where the route does not say.
    pub const DEFAULT_TIMEOUT: Timeout = Timeout::from_secs::<15>();

    /// The transcoding of the route, if that is what it does.
    #[must_use]
    pub fn transcode(&self) -> Option<&Transcode> {
        match &self.action {
            Action::Transcode(transcode) => Some(transcode),
            Action::PassThrough => None,
        }
    }
}

/// What is done with a request that a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It becomes a gRPC call. The cluster speaks gRPC.
    Transcode(Transcode),
    /// It is passed on as it is. The cluster speaks HTTP.
    PassThrough,
}

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

/// How requests become gRPC calls and answers become JSON. An option that is `None` is the profile's to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcode {
    /// Full names of the services, at least one.
    pub services: Vec<ServiceName>,
    /// `standard`, `phase1`, or one of the snapshot's profiles.
    pub profile: ProfileName,
    /// How 64-bit integers are written.
    pub int64: Option<Int64>,
    /// How enum values are written.
    pub enums: Option<Enums>,
    /// How fields are named in answers.
    pub names: Option<Names>,
    /// Whether fields that have their default value are written.
    pub defaults: Option<Defaults>,
    /// What is done with fields and query parameters that the message does not have.
    pub unknown_fields: Option<UnknownFields>,
    /// The largest request body.
    pub max_body: ByteSize,
    /// Whether `POST /package.Service/Method` is taken too.
    pub unannotated: bool,
}

impl Transcode {
    /// The largest request body where the route does not say.
    pub const DEFAULT_MAX_BODY: ByteSize = ByteSize::from_kib::<4096>();
}

/// How 64-bit integers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Int64 {
    /// `"42"`, as proto3 JSON says.
    String,
    /// `42`.
    Number,
}

/// How enum values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enums {
    /// By name.
    Name,
    /// By number.
    Number,
}

/// How fields are named in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// By their JSON name: `resourceId`.
    Camel,
    /// As in the .proto file: `resource_id`.
    Original,
}

/// Whether fields that have their default value are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defaults {
    /// They are left out.
    Omit,
    /// They are written.
    Emit,
}

/// What is done with fields and query parameters that the message does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnknownFields {
    /// The request is refused.
    Reject,
    /// They are skipped.
    Ignore,
}
