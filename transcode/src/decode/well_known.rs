//! Messages with a JSON form of their own, to JSON.
//!
//! Spec: <https://protobuf.dev/programming-guides/json/>, the table's last rows.

use super::Decoder;
use crate::error::WireError;
use crate::json::escape::write_string;
use crate::schema::{Kind, WellKnown};
use crate::tables::MessageTable;
use crate::time::{write_duration, write_timestamp};
use crate::wire::{Cursor, DELIMITED, VARINT};

impl Decoder<'_> {
    pub(super) fn well_known(
        &self,
        known: WellKnown,
        table: &MessageTable,
        wire: &[u8],
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        match known {
            WellKnown::Any => self.any(wire, out, depth),
            WellKnown::Duration | WellKnown::Timestamp => time(known, wire, out),
            WellKnown::FieldMask => field_mask(wire, out),
            WellKnown::Empty => self.gathered(table, wire, out, depth),
            WellKnown::Value => self.value_message(table, wire, out, depth),
            // Each is what its only field is.
            WellKnown::ListValue | WellKnown::Struct | WellKnown::Wrapper => {
                let records = self.gather(table, wire, depth)?;
                match table.fields.first() {
                    Some(field) => self.field_value(field, &records, out, depth).map(drop),
                    None => Err(WireError::Value),
                }
            }
        }
    }

    /// The member of `Value` that is set.
    fn value_message(
        &self,
        table: &MessageTable,
        wire: &[u8],
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        let records = self.gather(table, wire, depth)?;
        let set = table
            .fields
            .iter()
            .find(|field| records.slot(field).count > 0);
        let field = set.ok_or(WireError::Value)?;
        if field.kind == Kind::Double
            && let Some(mut cursor) = records.last(field)
            && !f64::from_bits(cursor.fixed64()?).is_finite()
        {
            return Err(WireError::Value);
        }
        self.field_value(field, &records, out, depth).map(drop)
    }

    /// `{"@type":"...", ...}` with the fields of the message, or its own form as `value`.
    fn any(&self, wire: &[u8], out: &mut Vec<u8>, depth: u32) -> Result<(), WireError> {
        let (mut url, mut value): (&[u8], &[u8]) = (b"", b"");
        let mut cursor = Cursor::new(wire);
        while !cursor.is_at_end() {
            match cursor.tag()? {
                0x0a => url = cursor.delimited()?,
                0x12 => value = cursor.delimited()?,
                tag => cursor.skip(tag, depth)?,
            }
        }
        if url.is_empty() && value.is_empty() {
            out.extend_from_slice(b"{}");
            return Ok(());
        }
        let name = std::str::from_utf8(url)
            .map_err(|_| WireError::Utf8)?
            .rsplit_once('/');
        let message = name
            .and_then(|(_, name)| self.schema.message(name))
            .ok_or(WireError::UnknownAny)?;
        let table = self.tables.message(message);
        out.extend_from_slice(b"{\"@type\":");
        write_string(url, out)?;
        if table
            .well_known
            .is_some_and(|known| known != WellKnown::Empty)
        {
            out.extend_from_slice(b",\"value\":");
            self.message(table, value, out, depth + 1)?;
            out.push(b'}');
            return Ok(());
        }
        let members = out.len();
        self.message(table, value, out, depth + 1)?;
        if out[members..] == *b"{}" {
            out.remove(members);
        } else {
            out[members] = b',';
        }
        Ok(())
    }
}

/// `Timestamp` and `Duration`: seconds in field 1, nanoseconds in field 2.
fn time(known: WellKnown, wire: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut cursor = Cursor::new(wire);
    while !cursor.is_at_end() {
        let tag = cursor.tag()?;
        match (tag >> 3, tag & 7) {
            (1, VARINT) => seconds = cursor.varint()? as i64,
            (2, VARINT) => nanos = cursor.varint()? as i32,
            _ => cursor.skip(tag, 0)?,
        }
    }
    out.push(b'"');
    if known == WellKnown::Timestamp {
        write_timestamp(seconds, nanos, out)?;
    } else {
        write_duration(seconds, nanos, out)?;
    }
    out.push(b'"');
    Ok(())
}

/// The paths `foo_bar` and `baz` to `"fooBar,baz"`; refuses those that would not come back the same.
fn field_mask(wire: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    let mut paths = Vec::new();
    let mut cursor = Cursor::new(wire);
    while !cursor.is_at_end() {
        let tag = cursor.tag()?;
        if (tag >> 3, tag & 7) != (1, DELIMITED) {
            cursor.skip(tag, 0)?;
            continue;
        }
        paths.push(b',');
        let mut path = cursor.delimited()?.iter();
        while let Some(&byte) = path.next() {
            match byte {
                b'_' => match path.next() {
                    Some(letter @ b'a'..=b'z') => paths.push(letter.to_ascii_uppercase()),
                    _ => return Err(WireError::FieldMask),
                },
                b'A'..=b'Z' => return Err(WireError::FieldMask),
                _ => paths.push(byte),
            }
        }
    }
    write_string(paths.get(1..).unwrap_or_default(), out)
}
