//! How the requests of a route become gRPC calls.

use super::{ByteSize, ProfileName, ServiceName};

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
    /// What clients of streams get that do not say what they want.
    pub stream: StreamForm,
    /// The largest request body, or message of one that streams.
    pub max_body: ByteSize,
    /// Whether `POST /package.Service/Method` is taken too.
    pub unannotated: bool,
    /// What becomes of a path that a template takes but for a slash at its end.
    pub trailing_slash: TrailingSlash,
    /// Headers in lower case that become metadata beside those that always do.
    pub request_metadata: Vec<String>,
    /// What becomes of the metadata of replies.
    pub response_metadata: ResponseMetadata,
    /// Whether answers are compressed for clients that want that.
    pub compression: bool,
}

impl Transcode {
    /// The largest request body where the route does not say.
    pub const DEFAULT_MAX_BODY: ByteSize = ByteSize::from_kib::<4096>();
}

/// What becomes of a path that a template takes but for a slash at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TrailingSlash {
    /// It is another path.
    #[default]
    Strict,
    /// It is taken as if the slash were not there.
    Ignore,
    /// The client is sent to the path without it.
    Redirect,
}

/// What becomes of the metadata and trailers of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResponseMetadata {
    /// Headers of the same name.
    #[default]
    Headers,
    /// Headers `grpc-metadata-NAME`, and `grpc-trailer-NAME` for trailers.
    Prefixed,
    /// Nothing.
    None,
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

/// How the messages of a stream stand in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StreamForm {
    /// A line each.
    #[default]
    Ndjson,
    /// In one JSON array.
    Array,
    /// As server-sent events.
    Sse,
}
