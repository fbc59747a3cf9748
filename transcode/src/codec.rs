//! JSON text to protobuf bytes and back, by tables compiled from a schema for one set of options.

use std::sync::Arc;

use crate::decode::Decoder;
use crate::encode::Encoder;
use crate::error::{JsonError, WireError};
use crate::options::JsonOptions;
use crate::path::FieldPath;
use crate::schema::{MessageId, Schema};
use crate::shape::{Shape, ShapeError, ShapeNode};
use crate::tables::Tables;

/// Tables for every message of a schema: share one per distinct options.
///
/// Message ids, paths and shapes must come from the codec's own schema. Output is appended; after an error it ends in an
/// unfinished message.
#[derive(Debug)]
pub struct Codec {
    schema: Arc<Schema>,
    options: JsonOptions,
    tables: Tables,
}

impl Codec {
    /// Compiles the tables.
    pub fn new(schema: Arc<Schema>, options: JsonOptions) -> Codec {
        let tables = Tables::new(&schema, options);
        Codec {
            schema,
            options,
            tables,
        }
    }

    /// The schema it was compiled from.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The options it was compiled for.
    pub fn options(&self) -> JsonOptions {
        self.options
    }

    /// A JSON document to the bytes of a message.
    pub fn encode(
        &self,
        message: MessageId,
        json: &[u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        self.encoder(json, wire).document(message)
    }

    /// A JSON document to one field of a message (`body: "field"`): a fragment that merges with what is there.
    pub fn encode_field(
        &self,
        field: &FieldPath,
        json: &[u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        self.encoder(json, wire).field_document(field)
    }

    /// Plain text, as a URL has it, to one field, or to one more element of a repeated field: a fragment that merges.
    pub fn encode_text(
        &self,
        field: &FieldPath,
        text: &str,
        wire: &mut Vec<u8>,
    ) -> Result<(), JsonError> {
        self.encoder(text.as_bytes(), wire).field_text(field)
    }

    /// The bytes of a message to JSON.
    pub fn decode(
        &self,
        message: MessageId,
        wire: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        self.decoder()
            .message(self.tables.message(message), wire, json, 1)
    }

    /// One field of the bytes of a message to JSON (`response_body`); if it is unset its default, `null` for a message.
    pub fn decode_field(
        &self,
        field: &FieldPath,
        wire: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        self.decoder().at_path(field.steps(), wire, json, 1)
    }

    /// Compiles a shape for a message.
    pub fn shape(&self, message: MessageId, node: &ShapeNode) -> Result<Shape, ShapeError> {
        Shape::compile(&self.schema, message, node)
    }

    /// The bytes of a message to JSON in a shape.
    pub fn decode_shape(
        &self,
        shape: &Shape,
        wire: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        shape.write(&self.decoder(), wire, json)
    }

    fn encoder<'a, 'w>(&'a self, text: &'a [u8], wire: &'w mut Vec<u8>) -> Encoder<'a, 'w> {
        Encoder::new(&self.tables, &self.schema, self.options, text, wire)
    }

    fn decoder(&self) -> Decoder<'_> {
        Decoder {
            tables: &self.tables,
            schema: &self.schema,
            options: self.options,
        }
    }
}
