//! A JSON text of a message in another shape than its own: literals around chosen fields, compiled for one message.
//!
//! Writing one costs what decoding costs: each message involved is read once. It refuses, when it is compiled, paths that name no
//! field and literals that are not JSON.

use crate::decode::Decoder;
use crate::error::WireError;
use crate::json::reader::Reader;
use crate::path::{FieldPath, FieldPathError};
use crate::schema::{Cardinality, Kind, MessageId, Schema};
use crate::tables::quoted;

/// What to write, as a profile says it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The number of elements of a repeated field or map (a path through single messages).
    Count(String),
}

/// A [`ShapeNode`] compiled for a message.
#[derive(Debug)]
pub struct Shape {
    message: MessageId,
    steps: Vec<Step>,
    /// Fields are asked for, so the message's records are gathered first.
    gathers: bool,
}

#[derive(Debug)]
enum Step {
    Text(Vec<u8>),
    Whole,
    /// A field's value.
    Value(usize),
    Count(usize),
    /// In a single message, the empty one when unset.
    Inside(usize, Shape),
    /// A single message, `null` when unset.
    One(usize, Shape),
    /// Each element.
    Many(usize, Shape),
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

impl Shape {
    pub(crate) fn compile(
        schema: &Schema,
        message: MessageId,
        node: &ShapeNode,
    ) -> Result<Shape, ShapeError> {
        let mut shape = Shape {
            message,
            steps: Vec::new(),
            gathers: false,
        };
        shape.add(schema, node)?;
        shape.gathers = shape
            .steps
            .iter()
            .any(|step| !matches!(step, Step::Text(_) | Step::Whole));
        Ok(shape)
    }

    fn add(&mut self, schema: &Schema, node: &ShapeNode) -> Result<(), ShapeError> {
        match node {
            ShapeNode::Json(text) => {
                let mut reader = Reader::new(text.as_bytes());
                let checked = reader.skip(0).and_then(|()| reader.end());
                checked.map_err(|_| ShapeError::NotJson(text.clone()))?;
                self.text(text);
            }
            ShapeNode::Object(members) => {
                for (index, (name, value)) in members.iter().enumerate() {
                    self.text(if index == 0 { "{" } else { "," });
                    self.text(&quoted(name));
                    self.text(":");
                    self.add(schema, value)?;
                }
                self.text(if members.is_empty() { "{}" } else { "}" });
            }
            ShapeNode::Whole => self.steps.push(Step::Whole),
            ShapeNode::Field(path) => {
                let path = FieldPath::resolve(schema, self.message, path)?;
                self.steps.push(along(path.steps(), Step::Value));
            }
            ShapeNode::Count(path) => {
                let resolved = FieldPath::resolve(schema, self.message, path)?;
                if resolved.field(schema).cardinality == Cardinality::Single {
                    return Err(ShapeError::NotCountable(path.clone()));
                }
                self.steps.push(along(resolved.steps(), Step::Count));
            }
            ShapeNode::Each(path, inner) => {
                let resolved = FieldPath::resolve(schema, self.message, path)?;
                let field = resolved.field(schema);
                let (Kind::Message(message), false) =
                    (field.kind, field.cardinality == Cardinality::Map)
                else {
                    return Err(ShapeError::NotAMessage(path.clone()));
                };
                let inner = Shape::compile(schema, message, inner)?;
                let single = field.cardinality == Cardinality::Single;
                self.steps.push(along(resolved.steps(), |index| {
                    if single {
                        Step::One(index, inner)
                    } else {
                        Step::Many(index, inner)
                    }
                }));
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if let Some(Step::Text(before)) = self.steps.last_mut() {
            before.extend_from_slice(text.as_bytes());
        } else {
            self.steps.push(Step::Text(text.into()));
        }
    }

    pub(crate) fn write(
        &self,
        decoder: &Decoder<'_>,
        wire: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        self.write_at(decoder, wire, out, 1)
    }

    fn write_at(
        &self,
        decoder: &Decoder<'_>,
        wire: &[u8],
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        let table = decoder.tables.message(self.message);
        let records = if self.gathers {
            Some(decoder.gather(table, wire, depth)?)
        } else {
            None
        };
        for step in &self.steps {
            match (step, &records) {
                (Step::Text(text), _) => out.extend_from_slice(text),
                (Step::Whole, _) => decoder.message(table, wire, out, depth)?,
                (Step::Value(index), Some(records)) => {
                    decoder.field_value(&table.fields[*index], records, out, depth)?;
                }
                (Step::Count(index), Some(records)) => {
                    let count = decoder.count(&table.fields[*index], records, depth)?;
                    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
                }
                (Step::Inside(index, inner), Some(records)) => {
                    let bytes = decoder.field_message(&table.fields[*index], records, depth)?;
                    inner.write_at(
                        decoder,
                        bytes.as_deref().unwrap_or_default(),
                        out,
                        depth + 1,
                    )?;
                }
                (Step::One(index, inner), Some(records)) => {
                    match decoder.field_message(&table.fields[*index], records, depth)? {
                        Some(bytes) => inner.write_at(decoder, &bytes, out, depth + 1)?,
                        None => out.extend_from_slice(b"null"),
                    }
                }
                (Step::Many(index, inner), Some(records)) => {
                    out.push(b'[');
                    let start = out.len();
                    decoder.each_message(&table.fields[*index], records, depth, |bytes| {
                        if out.len() > start {
                            out.push(b',');
                        }
                        inner.write_at(decoder, bytes, out, depth + 1)
                    })?;
                    out.push(b']');
                }
                (_, None) => {}
            }
        }
        Ok(())
    }
}

/// The step at the end of a path, inside the messages on the way.
fn along(path: &[(MessageId, usize)], last: impl FnOnce(usize) -> Step) -> Step {
    let (outer, end) = match path {
        [outer @ .., end] => (outer, end.1),
        [] => (path, 0),
    };
    let message_of = |position: usize| path[position].0;
    outer
        .iter()
        .enumerate()
        .rev()
        .fold(last(end), |step, (position, &(_, index))| {
            Step::Inside(
                index,
                Shape {
                    message: message_of(position + 1),
                    steps: vec![step],
                    gathers: true,
                },
            )
        })
}
