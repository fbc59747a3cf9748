//! HTTP/JSON to gRPC bytes and back: pure, compiled from descriptors.
//!
//! No I/O and no runtime. A [`Schema`] is built from descriptor sets when the configuration loads; a [`Codec`] compiles tables
//! from it for one set of [`JsonOptions`], and turns JSON text into protobuf bytes and back without a message in between.
//! A [`Router`] finds what a host and a raw path stand for.

mod codec;
pub mod descriptor;
mod error;
mod options;
mod path;
mod percent;
mod router;
pub mod schema;
mod shape;
mod status;
mod template;

pub use codec::Codec;
pub use error::{JsonError, WireError};
pub use options::{Defaults, Dialect, Enums, Int64, JsonOptions, Names, UnknownFields};
pub use path::{FieldPath, FieldPathError};
pub use router::{
    Captures, Entry, HostPattern, Match, PathPattern, Router, RouterBuilder, RouterError,
};
pub use schema::{MessageId, Schema, SchemaError};
pub use shape::{Shape, ShapeError, ShapeNode};
pub use status::Code;
pub use template::{Template, TemplateError, Variable};
