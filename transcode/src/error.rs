//! What can be wrong with input. The texts are shown to API users, so they name the place and what belongs there.

use std::fmt::{self, Display};

/// JSON (or text of a URL) that does not fit the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    offset: usize,
    path: String,
    what: String,
}

impl JsonError {
    /// `what` is wrong at this byte of the input.
    #[cold]
    pub fn new(offset: usize, what: impl Into<String>) -> JsonError {
        JsonError(Box::new(Details {
            offset,
            path: String::new(),
            what: what.into(),
        }))
    }

    /// The byte of the input at which it shows.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// The place in the message, such as `items[3].resource_id`; empty for the whole.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What is wrong, without the place.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// It is inside this field, or inside this element (`[3]`).
    #[cold]
    #[must_use]
    pub fn inside(mut self, segment: &str) -> JsonError {
        let dot = !self.0.path.is_empty() && !self.0.path.starts_with('[');
        self.0.path.insert_str(0, if dot { "." } else { "" });
        self.0.path.insert_str(0, segment);
        self
    }
}

impl Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.0.path)?;
        }
        write!(f, "{} (at byte {})", self.0.what, self.0.offset)
    }
}

impl std::error::Error for JsonError {}

/// Protobuf bytes that are not the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a value.
    #[error("the protobuf message is cut off")]
    Truncated,
    /// A varint of more than ten bytes.
    #[error("the protobuf message has a number of more than 64 bits")]
    Varint,
    /// A field number of 0 or a wire type that does not exist.
    #[error("the protobuf message has an invalid tag")]
    Tag,
    /// A group without its end, or an end without its group.
    #[error("the protobuf message has a group that does not match")]
    Group,
    /// A `string` that is not UTF-8.
    #[error("the protobuf message has a string that is not UTF-8")]
    Utf8,
    /// Messages nested deeper than 100.
    #[error("the protobuf message is nested too deeply")]
    Depth,
    /// A `Timestamp` or `Duration` that the JSON mapping has no text for.
    #[error("the protobuf message has a time outside the range that JSON can show")]
    Time,
    /// A `FieldMask` path that cannot be turned into JSON and back.
    #[error("the protobuf message has a field mask path without a JSON form")]
    FieldMask,
    /// A `Value` that is empty, NaN or infinite.
    #[error("the protobuf message has a google.protobuf.Value without a JSON form")]
    Value,
    /// An `Any` whose type is not in the schema.
    #[error("the protobuf message has a google.protobuf.Any of an unknown type")]
    UnknownAny,
}
