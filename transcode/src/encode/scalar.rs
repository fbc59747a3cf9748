//! Values of one field: numbers, booleans, enums, strings, bytes, and the same from plain text.

use super::Encoder;
use crate::error::JsonError;
use crate::json::escape::put_short;
use crate::json::number::{self, Integer};
use crate::json::reader::Str;
use crate::options::{Dialect, UnknownFields};
use crate::schema::{EnumId, Kind};
use crate::tables::FieldTable;
use crate::wire::{close, open, put_varint, zigzag};

/// A value that is not length-delimited, as it goes on the wire.
#[derive(Clone, Copy)]
pub(super) enum Scalar {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
}

impl Scalar {
    #[inline(always)]
    pub(super) fn is_zero(self) -> bool {
        matches!(
            self,
            Scalar::Varint(0) | Scalar::Fixed32(0) | Scalar::Fixed64(0)
        )
    }

    #[inline(always)]
    pub(super) fn put(self, wire: &mut Vec<u8>) {
        match self {
            Scalar::Varint(value) => put_varint(wire, value),
            Scalar::Fixed32(value) => wire.extend_from_slice(&value.to_le_bytes()),
            Scalar::Fixed64(value) => wire.extend_from_slice(&value.to_le_bytes()),
        }
    }

    /// An integer of this kind; `None` if it is out of range.
    #[inline(always)]
    pub(super) fn integer(kind: Kind, value: Integer) -> Option<Scalar> {
        let int32 = || value.signed(i32::MIN.into(), i32::MAX.into());
        let int64 = || value.signed(i64::MIN, i64::MAX);
        Some(match kind {
            Kind::Int64 => Scalar::Varint(int64()? as u64),
            Kind::Int32 | Kind::Enum(_) => Scalar::Varint(int32()? as u64),
            Kind::Uint32 => Scalar::Varint(value.unsigned(u32::MAX.into())?),
            Kind::Uint64 => Scalar::Varint(value.unsigned(u64::MAX)?),
            Kind::Sint32 => Scalar::Varint(zigzag(int32()?)),
            Kind::Sint64 => Scalar::Varint(zigzag(int64()?)),
            Kind::Fixed32 => Scalar::Fixed32(value.unsigned(u32::MAX.into())? as u32),
            Kind::Fixed64 => Scalar::Fixed64(value.unsigned(u64::MAX)?),
            Kind::Sfixed32 => Scalar::Fixed32(int32()? as u32),
            Kind::Sfixed64 => Scalar::Fixed64(int64()? as u64),
            _ => return None,
        })
    }

    /// A number of a floating kind from a whole JSON number; `None` if it is too large.
    pub(super) fn floating(kind: Kind, text: &[u8]) -> Option<Scalar> {
        Some(match kind {
            Kind::Float => Scalar::Fixed32(number::float(text)?.to_bits()),
            _ => Scalar::Fixed64(number::double(text)?.to_bits()),
        })
    }

    /// `NaN`, `Infinity` and `-Infinity`.
    pub(super) fn not_finite(kind: Kind, text: &[u8]) -> Option<Scalar> {
        let value = match text {
            b"NaN" => f64::NAN,
            b"Infinity" => f64::INFINITY,
            b"-Infinity" => f64::NEG_INFINITY,
            _ => return None,
        };
        Some(match kind {
            Kind::Float => Scalar::Fixed32((value as f32).to_bits()),
            _ => Scalar::Fixed64(value.to_bits()),
        })
    }
}

/// What belongs into a field of this kind, for error texts.
pub(super) fn description(kind: Kind) -> &'static str {
    match kind {
        Kind::Double | Kind::Float => "a number",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "an integer from -2147483648 to 2147483647",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "an integer of 64 bits",
        Kind::Uint32 | Kind::Fixed32 => "an integer from 0 to 4294967295",
        Kind::Uint64 | Kind::Fixed64 => "an integer of 64 bits from 0 on",
        Kind::Bool => "true or false",
        Kind::String => "a string",
        Kind::Bytes => "a base64 string",
        Kind::Enum(_) => "the name or number of an enum value",
        Kind::Message(_) => "an object",
    }
}

impl<'a> Encoder<'a, '_> {
    /// A value that is not length-delimited; `None` for an enum name that is unknown and to be skipped.
    #[inline(always)]
    pub(super) fn scalar(&mut self, kind: Kind) -> Result<Option<Scalar>, JsonError> {
        match kind {
            Kind::Bool => self.boolean().map(Some),
            Kind::Double | Kind::Float => self.floating(kind).map(Some),
            Kind::Enum(id) => self.enumeration(kind, id),
            _ => self.integer(kind).map(Some),
        }
    }

    #[inline(always)]
    fn integer(&mut self, kind: Kind) -> Result<Scalar, JsonError> {
        self.reader.peek();
        if let Some((value, length)) = number::plain_integer(self.reader.rest())
            && let Some(scalar) = Scalar::integer(kind, value)
        {
            self.reader.advance(length);
            return Ok(scalar);
        }
        self.unusual_integer(kind)
    }

    /// In quotes, with a fraction or exponent, or not an integer at all.
    #[cold]
    fn unusual_integer(&mut self, kind: Kind) -> Result<Scalar, JsonError> {
        let plain = self.options.dialect == Dialect::Plain;
        let what = description(kind);
        let next = self.reader.peek();
        let at = self.reader.at();
        if next == b'"' && !plain {
            let string = self.reader.string(what)?;
            let text = string.text(&mut self.scratch)?;
            let value = number::integer_text(text).and_then(|value| Scalar::integer(kind, value));
            return value
                .ok_or_else(|| JsonError::new(at, format!("expected {what}, found another text")));
        }
        let text = self.reader.number(what)?;
        let exact = if plain {
            number::plain_integer(text).map(|found| found.0)
        } else {
            number::exact_integer(text)
        };
        let value = exact.and_then(|value| Scalar::integer(kind, value));
        value.ok_or_else(|| {
            let shown = String::from_utf8_lossy(&text[..text.len().min(40)]);
            JsonError::new(at, format!("expected {what}, found {shown}"))
        })
    }

    fn boolean(&mut self) -> Result<Scalar, JsonError> {
        match self.reader.peek() {
            b't' => self.reader.literal("true").map(|()| Scalar::Varint(1)),
            b'f' => self.reader.literal("false").map(|()| Scalar::Varint(0)),
            _ => Err(self.reader.expected(description(Kind::Bool))),
        }
    }

    fn floating(&mut self, kind: Kind) -> Result<Scalar, JsonError> {
        let next = self.reader.peek();
        let at = self.reader.at();
        if next == b'"' && self.options.dialect == Dialect::Proto3 {
            let string = self.reader.string("a number")?;
            let value = self.floating_text(kind, string)?;
            return value
                .ok_or_else(|| JsonError::new(at, "expected a number, found another text"));
        }
        let text = self.reader.number("a number")?;
        Scalar::floating(kind, text)
            .ok_or_else(|| JsonError::new(at, "the number is too large for the field"))
    }

    fn floating_text(&mut self, kind: Kind, string: Str<'a>) -> Result<Option<Scalar>, JsonError> {
        let text = string.text(&mut self.scratch)?;
        let number = number::length(text) == Some(text.len());
        Ok(if number {
            Scalar::floating(kind, text)
        } else {
            Scalar::not_finite(kind, text)
        })
    }

    fn enumeration(&mut self, kind: Kind, id: EnumId) -> Result<Option<Scalar>, JsonError> {
        let table = &self.tables.enums[id.index()];
        let next = self.reader.peek();
        if next == b'n' && table.null_value {
            return self
                .reader
                .literal("null")
                .map(|()| Some(Scalar::Varint(0)));
        }
        if next != b'"' {
            return self.integer(kind).map(Some);
        }
        let name = self.reader.string(description(kind))?;
        let text = name.text(&mut self.scratch)?;
        match table.number(text) {
            Some(number) => Ok(Some(Scalar::Varint(i64::from(number) as u64))),
            None if self.options.unknown_fields == UnknownFields::Ignore => Ok(None),
            None => {
                let text = String::from_utf8_lossy(text);
                let name = &self.schema.enum_info(id).full_name;
                Err(JsonError::new(
                    self.reader.at(),
                    format!("{name} has no value {text:?}"),
                ))
            }
        }
    }

    #[inline(always)]
    pub(super) fn string(
        &mut self,
        field: &FieldTable,
        omit_default: bool,
    ) -> Result<(), JsonError> {
        let string = self.reader.string(description(Kind::String))?;
        if string.raw.is_empty() && omit_default {
            return Ok(());
        }
        field.put_tag(self.wire);
        self.put_string(string)
    }

    /// A string after its tag: its length and its characters.
    #[inline(always)]
    pub(super) fn put_string(&mut self, string: Str<'a>) -> Result<(), JsonError> {
        if !string.escaped {
            put_varint(self.wire, string.raw.len() as u64);
            put_short(self.wire, string.raw);
            return Ok(());
        }
        let start = open(self.wire);
        string.write_to(self.wire)?;
        close(self.wire, start);
        Ok(())
    }

    pub(super) fn bytes(
        &mut self,
        field: &FieldTable,
        omit_default: bool,
    ) -> Result<(), JsonError> {
        let string = self.reader.string(description(Kind::Bytes))?;
        if string.raw.is_empty() && omit_default {
            return Ok(());
        }
        let text = string.text(&mut self.scratch)?;
        field.put_tag(self.wire);
        let start = open(self.wire);
        if !crate::base64::decode(text, self.wire) {
            return Err(JsonError::new(string.offset, "not base64"));
        }
        close(self.wire, start);
        Ok(())
    }
}
