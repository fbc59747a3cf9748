//! JSON text to protobuf bytes and back, by tables compiled from a schema for one set of options.

use std::sync::Arc;

use crate::error::{JsonError, WireError};
use crate::options::JsonOptions;
use crate::path::FieldPath;
use crate::schema::{MessageId, Schema};
use crate::shape::{Shape, ShapeError, ShapeNode};

/// Tables for every message of a schema: share one per distinct options.
#[derive(Debug)]
pub struct Codec {
    schema: Arc<Schema>,
    options: JsonOptions,
}

impl Codec {
    /// Compiles the tables.
    pub fn new(schema: Arc<Schema>, options: JsonOptions) -> Codec {
        Codec { schema, options }
    }

    /// The schema it was compiled from.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The options it was compiled for.
    pub fn options(&self) -> JsonOptions {
        self.options
    }

    /// A JSON document to the bytes of a message, appended. After an error `wire` holds an unfinished message.
    pub fn encode(
        &self,
        message: MessageId,
        json: &[u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        let _ = (message, json, wire);
        unimplemented!()
    }

    /// A JSON document to one field of a message (`body: "field"`), appended as a fragment that merges with what is there.
    pub fn encode_field(
        &self,
        field: &FieldPath,
        json: &[u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        let _ = (field, json, wire);
        unimplemented!()
    }

    /// Plain text, as a URL has it, to one field or one more element of a repeated field, appended as a fragment that merges.
    pub fn encode_text(
        &self,
        field: &FieldPath,
        text: &str,
        wire: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        let _ = (field, text, wire);
        unimplemented!()
    }

    /// The bytes of a message to JSON, appended.
    pub fn decode(
        &self,
        message: MessageId,
        wire: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let _ = (message, wire, json);
        unimplemented!()
    }

    /// One field of the bytes of a message to JSON (`response_body`), its default (`null` for a message) if it is unset.
    pub fn decode_field(
        &self,
        field: &FieldPath,
        wire: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let _ = (field, wire, json);
        unimplemented!()
    }

    /// Compiles a shape for a message.
    pub fn shape(&self, message: MessageId, node: &ShapeNode) -> Result<Shape, ShapeError> {
        let _ = node;
        Ok(Shape {
            message,
            paths: Vec::new(),
        })
    }

    /// The bytes of a message to JSON in a shape, appended.
    pub fn decode_shape(
        &self,
        shape: &Shape,
        wire: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let _ = (shape, wire, json);
        unimplemented!()
    }
}
