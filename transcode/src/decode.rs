//! Protobuf bytes to JSON text in one pass, as long as the fields come in the order in which JSON is written.
//!
//! A field that comes out of order, or a single one that comes twice, makes the message be read again by way of an index
//! ([`gather`]), which merges as the specification says. It refuses malformed bytes, strings that are not UTF-8, and values that the
//! mapping has no JSON for; unknown fields are checked and skipped.
//!
//! Spec: <https://protobuf.dev/programming-guides/json/>, <https://protobuf.dev/programming-guides/encoding/#last-one-wins>

pub(crate) mod gather;
mod map;
mod scalar;
mod well_known;

use crate::error::WireError;
use crate::options::{Defaults, JsonOptions};
use crate::schema::{Cardinality, Kind, Schema};
use crate::tables::{FieldTable, MessageTable, Tables};
use crate::wire::{Cursor, DELIMITED, MAX_DEPTH};

/// Reads wire bytes by the tables; keeps nothing between calls.
#[derive(Clone, Copy)]
pub(crate) struct Decoder<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) schema: &'a Schema,
    pub(crate) options: JsonOptions,
}

impl Decoder<'_> {
    /// A message in whichever form JSON has for it.
    pub(crate) fn message(
        &self,
        table: &MessageTable,
        wire: &[u8],
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        if depth > MAX_DEPTH {
            return Err(WireError::Depth);
        }
        if let Some(known) = table.well_known {
            return self.well_known(known, table, wire, out, depth);
        }
        let start = out.len();
        if table.in_order && self.streamed(table, wire, out, depth)? {
            return Ok(());
        }
        out.truncate(start);
        self.gathered(table, wire, out, depth)
    }

    /// Writes fields as they come; false if they do not come in order.
    fn streamed(
        &self,
        table: &MessageTable,
        wire: &[u8],
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<bool, WireError> {
        let start = out.len();
        let emit = self.options.defaults == Defaults::Emit;
        let mut cursor = Cursor::new(wire);
        let mut next = 0;
        let mut oneofs: u64 = 0;
        while !cursor.is_at_end() {
            let first = cursor;
            let tag = cursor.tag()?;
            let Some(field) = table
                .field_tagged(tag, next)
                .filter(|field| field.takes(tag))
            else {
                cursor.skip(tag, depth)?;
                continue;
            };
            if field.index < next {
                return Ok(false);
            }
            if let Some(oneof) = field.oneof {
                let bit = 1u64.checked_shl(oneof).unwrap_or(0);
                if bit == 0 || oneofs & bit != 0 {
                    return Ok(false);
                }
                oneofs |= bit;
            }
            if emit {
                write_defaults(&table.fields[next..field.index], out);
            }
            next = field.index;
            match field.cardinality {
                Cardinality::Single => {
                    if !self.single(field, &mut cursor, out, depth)? {
                        continue;
                    }
                }
                Cardinality::Repeated => self.list(field, tag, &mut cursor, out, depth)?,
                Cardinality::Map => {
                    let count = skip_run(field, tag, &mut cursor, depth)?;
                    field.put_text(out);
                    self.map(field, first, count, out, depth)?;
                    drop_if_empty(field, out);
                }
            }
            next += 1;
        }
        if emit {
            write_defaults(&table.fields[next..], out);
        }
        close_object(out, start);
        Ok(true)
    }

    /// A single field behind its tag, with its name; false if its value is none (an unknown value of a closed enum).
    #[inline(always)]
    fn single(
        &self,
        field: &FieldTable,
        cursor: &mut Cursor<'_>,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<bool, WireError> {
        let omit = !(field.presence || field.emit);
        match field.kind {
            Kind::String => {
                let text = cursor.delimited()?;
                if !(omit && text.is_empty()) {
                    field.put_text(out);
                    crate::json::escape::write_string(text, out)?;
                }
            }
            // Like any scalar below; the most frequent one is spared two more looks at its kind.
            Kind::Int64 => {
                let value = cursor.varint()? as i64;
                if !(omit && value == 0) {
                    field.put_text(out);
                    self.write_int64(value, out);
                }
            }
            Kind::Message(_) => {
                field.put_text(out);
                self.value(field, cursor, out, depth)?;
            }
            Kind::Bytes => {
                let bytes = cursor.delimited()?;
                if !(omit && bytes.is_empty()) {
                    field.put_text(out);
                    crate::base64::write(bytes, out);
                }
            }
            kind => {
                let bits = scalar::read(kind, cursor)?;
                if self.is_unknown_value(kind, bits) {
                    return Ok(false);
                }
                if !(omit && bits == 0) {
                    field.put_text(out);
                    self.write_scalar(kind, bits, out);
                }
            }
        }
        Ok(true)
    }

    /// A list, whose first record's tag has been read, with its name: as far as its records follow one another.
    fn list(
        &self,
        field: &FieldTable,
        tag: u32,
        cursor: &mut Cursor<'_>,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        field.put_text(out);
        let start = out.len();
        let mut tag = tag;
        loop {
            self.elements(field, tag, cursor, out, depth)?;
            let Some(following) = following(field, cursor) else {
                break;
            };
            tag = following;
        }
        close_list(out, start);
        drop_if_empty(field, out);
        Ok(())
    }

    /// The element, or packed elements, of one record, each after a comma.
    #[inline(always)]
    fn elements(
        &self,
        field: &FieldTable,
        tag: u32,
        cursor: &mut Cursor<'_>,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        if tag == field.tag {
            return self.element(field, cursor, out, depth);
        }
        let mut packed = Cursor::new(cursor.delimited()?);
        while !packed.is_at_end() {
            self.element(field, &mut packed, out, depth)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn element(
        &self,
        field: &FieldTable,
        cursor: &mut Cursor<'_>,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        let before = out.len();
        out.push(b',');
        if !self.value(field, cursor, out, depth)? {
            out.truncate(before);
        }
        Ok(())
    }

    /// One value of a field's kind behind its tag; false, and nothing written, if it is an unknown value of a closed enum.
    #[inline(always)]
    fn value(
        &self,
        field: &FieldTable,
        cursor: &mut Cursor<'_>,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<bool, WireError> {
        match field.kind {
            Kind::Message(message) => {
                let bytes = payload(field, cursor, depth)?;
                self.message(self.tables.message(message), bytes, out, depth + 1)?;
            }
            Kind::String => crate::json::escape::write_string(cursor.delimited()?, out)?,
            Kind::Bytes => crate::base64::write(cursor.delimited()?, out),
            kind => {
                let bits = scalar::read(kind, cursor)?;
                if self.is_unknown_value(kind, bits) {
                    return Ok(false);
                }
                self.write_scalar(kind, bits, out);
            }
        }
        Ok(true)
    }
}

impl FieldTable {
    /// The tag is one of this field's; with another wire type it would be an unknown field.
    #[inline(always)]
    pub(crate) fn takes(&self, tag: u32) -> bool {
        tag == self.tag || self.takes_packed(tag)
    }

    #[inline(always)]
    fn takes_packed(&self, tag: u32) -> bool {
        let packable =
            self.cardinality == Cardinality::Repeated && !matches!(self.kind, Kind::Message(_));
        packable && tag == self.packed_tag()
    }
}

/// The bytes of a message behind its tag.
#[inline(always)]
fn payload<'w>(
    field: &FieldTable,
    cursor: &mut Cursor<'w>,
    depth: u32,
) -> Result<&'w [u8], WireError> {
    if field.tag & 7 == DELIMITED {
        cursor.delimited()
    } else {
        cursor.group(field.tag >> 3, depth)
    }
}

/// The tag of the next record if it is this field's too; moves behind it.
#[inline(always)]
fn following(field: &FieldTable, cursor: &mut Cursor<'_>) -> Option<u32> {
    // The first byte already tells most other fields apart, and a malformed tag is reported when it is its turn.
    let first = cursor.peek()?;
    if (first ^ field.tag as u8) & 0x78 != 0 {
        return None;
    }
    let mut ahead = *cursor;
    let tag = ahead.tag().ok().filter(|&tag| field.takes(tag))?;
    *cursor = ahead;
    Some(tag)
}

/// Skips records of a field that follow one another; how many there were.
fn skip_run(
    field: &FieldTable,
    tag: u32,
    cursor: &mut Cursor<'_>,
    depth: u32,
) -> Result<usize, WireError> {
    let mut count = 1;
    cursor.skip(tag, depth)?;
    while let Some(tag) = following(field, cursor) {
        cursor.skip(tag, depth)?;
        count += 1;
    }
    Ok(count)
}

/// A list or map that has just been written, and that came to nothing, is as if unset.
#[inline(always)]
fn drop_if_empty(field: &FieldTable, out: &mut Vec<u8>) {
    let end = out.len() - field.default.len();
    if !field.emit && out[end..] == *field.default && out[end - 1] == b':' {
        out.truncate(end - field.text_length());
    }
}

/// Fields that are unset and written all the same.
fn write_defaults(fields: &[FieldTable], out: &mut Vec<u8>) {
    for field in fields.iter().filter(|field| field.emit) {
        field.put_text(out);
        out.extend_from_slice(&field.default);
    }
}

/// Ends an object whose members were each written with a comma before them.
#[inline(always)]
fn close_object(out: &mut Vec<u8>, start: usize) {
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// Ends a list whose elements were each written with a comma before them.
#[inline(always)]
fn close_list(out: &mut Vec<u8>, start: usize) {
    match out.get_mut(start) {
        Some(comma) => *comma = b'[',
        None => out.push(b'['),
    }
    out.push(b']');
}
