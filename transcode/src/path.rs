//! A field reached through nested messages, such as `shelf.theme.name`: what URLs and templates name.

use crate::schema::{Cardinality, Field, Kind, MessageId, Schema, WellKnown};

/// A resolved path of fields; only meaningful with the schema it was resolved against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath {
    steps: Vec<(MessageId, usize)>,
}

/// Why a path names no field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldPathError {
    /// A message has no such field.
    #[error("{message} has no field {field}")]
    NoSuchField {
        /// Full name of the message.
        message: String,
        /// The step of the path.
        field: String,
    },
    /// A step that is not the last is not one message.
    #[error("{field} in {message} is not a single message, so the path cannot go through it")]
    NotAMessage {
        /// Full name of the message.
        message: String,
        /// The step of the path.
        field: String,
    },
}

impl FieldPath {
    /// Resolves `a.b.c` from a message; each step is a JSON or original name.
    pub fn resolve(
        schema: &Schema,
        message: MessageId,
        path: &str,
    ) -> Result<FieldPath, FieldPathError> {
        let mut steps: Vec<(MessageId, usize)> = Vec::new();
        let mut at = Some(message);
        for (position, step) in path.split('.').enumerate() {
            let Some(id) = at else {
                let (message, index) = steps[position - 1];
                let message = schema.message_info(message);
                return Err(FieldPathError::NotAMessage {
                    message: message.full_name.clone(),
                    field: message.fields[index].name.clone(),
                });
            };
            let info = schema.message_info(id);
            let field =
                info.field_by_any_name(step)
                    .ok_or_else(|| FieldPathError::NoSuchField {
                        message: info.full_name.clone(),
                        field: step.to_owned(),
                    })?;
            steps.push((id, field.index));
            at = match (field.kind, field.cardinality) {
                (Kind::Message(inner), Cardinality::Single) => Some(inner),
                _ => None,
            };
        }
        Ok(FieldPath { steps })
    }

    /// Message and field index of each step; never empty.
    pub(crate) fn steps(&self) -> &[(MessageId, usize)] {
        &self.steps
    }

    /// The field at its end.
    pub fn field<'a>(&self, schema: &'a Schema) -> &'a Field {
        let (message, index) = self.steps[self.steps.len() - 1];
        &schema.message_info(message).fields[index]
    }

    /// A value of the field has a plain text form, so that it can stand in a URL: scalars, enums, and the well-known types that
    /// are one text or number.
    pub fn takes_text(&self, schema: &Schema) -> bool {
        let field = self.field(schema);
        let Kind::Message(id) = field.kind else {
            return true;
        };
        let well_known = schema.message_info(id).well_known;
        let texts = [
            WellKnown::Duration,
            WellKnown::FieldMask,
            WellKnown::Timestamp,
            WellKnown::Wrapper,
        ];
        well_known.is_some_and(|known| texts.contains(&known))
    }
}
