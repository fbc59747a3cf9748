//! A JSON text of a message in another shape than its own: literals around chosen fields, compiled for one message.

use crate::path::{FieldPath, FieldPathError};
use crate::schema::MessageId;

/// What to write, as a profile says it.
#[derive(Clone, Debug, PartialEq)]
pub enum ShapeNode {
    /// JSON text, written as it is.
    Json(String),
    /// An object with these members in this order.
    Object(Vec<(String, ShapeNode)>),
    /// The message as the codec's options say.
    Whole,
    /// A field's value (a path through single messages); its default, or `null` for a message, when unset.
    Field(String),
    /// A message field in another shape; each element of a repeated one. `null` when unset, `[]` when empty.
    Each(String, Box<ShapeNode>),
    /// The number of elements of a repeated field or map.
    Count(String),
}

/// A [`ShapeNode`] compiled for a message.
#[derive(Debug)]
pub struct Shape {
    pub(crate) message: MessageId,
    pub(crate) paths: Vec<FieldPath>,
}

/// Why a shape does not fit a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A path names no field.
    #[error(transparent)]
    Field(#[from] FieldPathError),
    /// `Each` of a field that is not a message.
    #[error("{0} is not a message, so it cannot be given a shape")]
    NotAMessage(String),
    /// `Count` of a single field.
    #[error("{0} is neither repeated nor a map, so it cannot be counted")]
    NotCountable(String),
    /// A literal that is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
}
