//! Numbers, booleans and enums from the wire to JSON.

use super::Decoder;
use crate::error::WireError;
use crate::json::escape::put_short;
use crate::options::Int64;
use crate::schema::Kind;
use crate::wire::{Cursor, unzigzag};

/// The value behind a tag in 64 bits: signed ones sign-extended, floating ones as their bits; 0 is the default of every kind.
#[inline(always)]
pub(super) fn read(kind: Kind, cursor: &mut Cursor<'_>) -> Result<u64, WireError> {
    Ok(match kind {
        Kind::Int64 | Kind::Uint64 => cursor.varint()?,
        Kind::Int32 | Kind::Enum(_) => i64::from(cursor.varint()? as i32) as u64,
        Kind::Uint32 => u64::from(cursor.varint()? as u32),
        Kind::Sint32 => i64::from(unzigzag(u64::from(cursor.varint()? as u32)) as i32) as u64,
        Kind::Sint64 => unzigzag(cursor.varint()?) as u64,
        Kind::Bool => u64::from(cursor.varint()? != 0),
        Kind::Float | Kind::Fixed32 => u64::from(cursor.fixed32()?),
        Kind::Sfixed32 => i64::from(cursor.fixed32()? as i32) as u64,
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => cursor.fixed64()?,
        Kind::String | Kind::Bytes | Kind::Message(_) => 0,
    })
}

impl Decoder<'_> {
    /// A number that a closed enum does not have, which counts as an unknown field.
    #[inline(always)]
    pub(super) fn is_unknown_value(&self, kind: Kind, bits: u64) -> bool {
        let Kind::Enum(id) = kind else { return false };
        let table = &self.tables.enums[id.index()];
        table.closed && table.text(bits as i32).is_none()
    }

    /// The JSON text of what [`read`] gave.
    #[inline(always)]
    pub(super) fn write_scalar(&self, kind: Kind, bits: u64, out: &mut Vec<u8>) {
        match kind {
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => self.write_int64(bits as i64, out),
            Kind::Uint64 | Kind::Fixed64 => self.write_int64(bits, out),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => {
                write_integer(bits as i64, out);
            }
            Kind::Bool => out.extend_from_slice(if bits == 0 { b"false" } else { b"true" }),
            Kind::Enum(id) => {
                let table = &self.tables.enums[id.index()];
                match table.text(bits as i32) {
                    _ if table.null_value => out.extend_from_slice(b"null"),
                    Some(text) => out.extend_from_slice(text),
                    None => write_integer(bits as i32, out),
                }
            }
            Kind::Float => write_float(f32::from_bits(bits as u32), out),
            Kind::Double => write_double(f64::from_bits(bits), out),
            Kind::String | Kind::Bytes | Kind::Message(_) => {}
        }
    }

    #[inline(always)]
    pub(super) fn write_int64(&self, value: impl itoa::Integer, out: &mut Vec<u8>) {
        if self.options.int64 == Int64::Number {
            return write_integer(value, out);
        }
        out.push(b'"');
        write_integer(value, out);
        out.push(b'"');
    }
}

#[inline(always)]
pub(super) fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    put_short(out, itoa::Buffer::new().format(value).as_bytes());
}

fn write_float(value: f32, out: &mut Vec<u8>) {
    if value.is_finite() {
        write_finite(zmij::Buffer::new().format_finite(value), out);
    } else {
        write_double(value.into(), out);
    }
}

fn write_double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        write_finite(zmij::Buffer::new().format_finite(value), out);
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}

/// Whole numbers without `.0`, as other implementations write them; but `-0` would be an integer without a sign to many readers.
fn write_finite(text: &str, out: &mut Vec<u8>) {
    let whole = text.strip_suffix(".0").filter(|&whole| whole != "-0");
    out.extend_from_slice(whole.unwrap_or(text).as_bytes());
}
