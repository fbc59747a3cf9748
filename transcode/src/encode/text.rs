//! Values from plain text: map keys, and what stands in a URL.

use super::Encoder;
use super::scalar::{Scalar, description};
use crate::error::JsonError;
use crate::json::number;
use crate::json::reader::Str;
use crate::options::{Dialect, UnknownFields};
use crate::schema::{EnumId, Kind, MessageId, WellKnown};
use crate::tables::FieldTable;
use crate::wire::{close, open, put_varint};

impl<'a> Encoder<'a, '_> {
    /// The key of a map entry, with its tag.
    pub(super) fn map_key(&mut self, key: &FieldTable, name: Str<'a>) -> Result<(), JsonError> {
        key.put_tag(self.wire);
        if key.kind == Kind::String {
            return self.put_string(name);
        }
        let text = name.text(&mut self.scratch)?;
        let value = match key.kind {
            Kind::Bool => boolean(text),
            kind => number::integer_text(text).and_then(|value| Scalar::integer(kind, value)),
        };
        let what = description(key.kind);
        let value = value.ok_or_else(|| {
            JsonError::new(name.offset, format!("expected {what} as the map key"))
        })?;
        value.put(self.wire);
        Ok(())
    }

    /// The whole text as one value of a field, with its tag.
    pub(super) fn plain_text(&mut self, field: &FieldTable) -> Result<(), JsonError> {
        let text = self.reader.rest();
        let expected = || JsonError::new(0, format!("expected {}", description(field.kind)));
        let scalar = match field.kind {
            Kind::String => {
                field.put_tag(self.wire);
                put_varint(self.wire, text.len() as u64);
                self.wire.extend_from_slice(text);
                return Ok(());
            }
            Kind::Bytes => {
                field.put_tag(self.wire);
                let start = open(self.wire);
                let fits = crate::base64::decode(text, self.wire);
                close(self.wire, start);
                return if fits { Ok(()) } else { Err(expected()) };
            }
            Kind::Message(message) => return self.message_text(field, message, text),
            Kind::Bool => boolean(text),
            Kind::Double | Kind::Float if number::length(text) == Some(text.len()) => {
                Scalar::floating(field.kind, text)
            }
            Kind::Double | Kind::Float => Scalar::not_finite(field.kind, text),
            Kind::Enum(id) => match self.enum_text(id, text)? {
                None => return Ok(()),
                scalar => scalar,
            },
            kind => self.integer_text(kind, text),
        };
        let scalar = scalar.ok_or_else(expected)?;
        field.put_tag(self.wire);
        scalar.put(self.wire);
        Ok(())
    }

    fn integer_text(&self, kind: Kind, text: &[u8]) -> Option<Scalar> {
        let integer = match self.options.dialect {
            Dialect::Proto3 => number::integer_text(text),
            Dialect::Plain => number::plain_integer(text)
                .filter(|found| found.1 == text.len())
                .map(|found| found.0),
        };
        Scalar::integer(kind, integer?)
    }

    /// An enum value by name or number; `None` if the name is unknown and to be skipped.
    fn enum_text(&self, id: EnumId, text: &[u8]) -> Result<Option<Scalar>, JsonError> {
        if let Some(number) = self.tables.enums[id.index()].number(text) {
            return Ok(Some(Scalar::Varint(i64::from(number) as u64)));
        }
        if let Some(number) =
            number::integer_text(text).and_then(|value| Scalar::integer(Kind::Enum(id), value))
        {
            return Ok(Some(number));
        }
        if self.options.unknown_fields == UnknownFields::Ignore {
            return Ok(None);
        }
        let name = &self.schema.enum_info(id).full_name;
        Err(JsonError::new(
            0,
            format!("{name} has no value {:?}", String::from_utf8_lossy(text)),
        ))
    }

    /// A message that is one text in JSON.
    fn message_text(
        &mut self,
        field: &FieldTable,
        message: MessageId,
        text: &'a [u8],
    ) -> Result<(), JsonError> {
        let table = self.tables.message(message);
        field.put_tag(self.wire);
        let start = open(self.wire);
        match (table.well_known, &*table.fields) {
            (Some(WellKnown::Wrapper), [value]) => self.plain_text(value)?,
            (Some(known), _) => self.known_text(known, text, 0)?,
            (None, _) => return Err(JsonError::new(0, "a message has no plain text form")),
        }
        if field.delimited {
            // A group has no length: its byte becomes nothing and an end tag follows.
            self.wire.remove(start - 1);
            field.put_end_tag(self.wire);
        } else {
            close(self.wire, start);
        }
        Ok(())
    }
}

fn boolean(text: &[u8]) -> Option<Scalar> {
    match text {
        b"true" => Some(Scalar::Varint(1)),
        b"false" => Some(Scalar::Varint(0)),
        _ => None,
    }
}
