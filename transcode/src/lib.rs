//! HTTP/JSON to gRPC bytes and back: pure, compiled from descriptors.
//!
//! No I/O and no runtime. A [`Schema`] is built from descriptor sets when the configuration loads; a [`Codec`] compiles tables
//! from it for one set of [`JsonOptions`], and turns JSON text into protobuf bytes and back without a message in between.
//! A [`Router`] finds what a host and a raw path stand for; a [`Transcoder`] compiles annotations and a [`Profile`] to [`Binding`]s,
//! each of which is one way to call one method: route, encode the request, call, decode the response or write the error.

mod base64;
mod binding;
mod breaks;
mod checks;
mod codec;
mod decode;
pub mod descriptor;
mod encode;
mod error;
mod errors;
#[cfg(test)]
mod fixture;
mod http_body;
mod json;
mod names;
pub mod openapi;
mod options;
mod path;
mod percent;
mod profile;
mod query;
mod request;
mod router;
pub mod schema;
mod service_config;
mod shape;
mod status;
mod tables;
mod template;
mod time;
mod transcoder;
mod wire;

pub use binding::Binding;
pub use breaks::breaks;
pub use codec::Codec;
pub use error::{JsonError, WireError};
pub use errors::{Errors, Failure};
pub use http_body::{Download, Upload};
pub use options::{Defaults, Dialect, Enums, Int64, JsonOptions, Names, UnknownFields};
pub use path::{FieldPath, FieldPathError};
pub use profile::{JsonChoices, Profile, ProfileError};
pub use request::RequestError;
pub use router::{
    Captures, Entry, HostPattern, Match, PathPattern, Router, RouterBuilder, RouterError,
};
pub use schema::{Idempotency, MessageId, Schema, SchemaError};
pub use service_config::ServiceConfigError;
pub use shape::{Shape, ShapeError, ShapeNode};
pub use status::Code;
pub use template::{Template, TemplateError, Variable};
pub use transcoder::{CompileError, Request, Transcoder};
