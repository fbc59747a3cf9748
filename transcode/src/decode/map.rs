//! Maps from the wire: entries are messages of a key and a value, of equal keys the last one counts.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::gather::{Records, for_each_record};
use super::{Decoder, close_object, payload, scalar};
use crate::error::WireError;
use crate::json::escape::write_string;
use crate::schema::Kind;
use crate::tables::FieldTable;
use crate::wire::Cursor;

/// Up to so many entries, equal keys are looked for by comparing all pairs.
const FEW: usize = 12;

/// A key in one form, however it was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'w> {
    Bits(u64),
    Text(&'w [u8]),
}

/// An entry that counts.
pub(super) struct Entry<'w> {
    key: Key<'w>,
    records: Records<'w>,
}

type Entries<'w> = SmallVec<[Entry<'w>; 2]>;

impl Decoder<'_> {
    /// A map as an object, from its `count` records from here on.
    pub(super) fn map(
        &self,
        field: &FieldTable,
        first: Cursor<'_>,
        count: usize,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        let start = out.len();
        let Kind::Message(message) = field.kind else {
            return Ok(());
        };
        if let [key, value] = &*self.tables.message(message).fields {
            for entry in self.map_entries(field, first, count, depth)? {
                out.push(b',');
                self.map_key(key.kind, entry.key, out)?;
                out.push(b':');
                let before = out.len();
                if !self.field_value(value, &entry.records, out, depth + 1)? {
                    out.truncate(before);
                    self.missing_value(value, out, depth)?;
                }
            }
        }
        close_object(out, start);
        Ok(())
    }

    /// The entries that count, in the order of the wire.
    pub(super) fn map_entries<'w>(
        &self,
        field: &FieldTable,
        first: Cursor<'w>,
        count: usize,
        depth: u32,
    ) -> Result<Entries<'w>, WireError> {
        let mut entries = Entries::new();
        let Kind::Message(message) = field.kind else {
            return Ok(entries);
        };
        let table = self.tables.message(message);
        let [key, value] = &*table.fields else {
            return Ok(entries);
        };
        for_each_record(field, first, count, depth, |_, cursor| {
            let records = self.gather(table, payload(field, cursor, depth)?, depth + 1)?;
            // An entry with an unknown value of a closed enum is an unknown field as a whole.
            if !self.has_unknown_value(value, &records)? {
                let key = read_key(key, &records)?;
                entries.push(Entry { key, records });
            }
            Ok(())
        })?;
        keep_last(&mut entries);
        Ok(entries)
    }

    fn has_unknown_value(
        &self,
        value: &FieldTable,
        records: &Records<'_>,
    ) -> Result<bool, WireError> {
        let Kind::Enum(_) = value.kind else {
            return Ok(false);
        };
        let mut cursor = Cursor::new(records.wire);
        while !cursor.is_at_end() {
            let tag = cursor.tag()?;
            if tag != value.tag {
                cursor.skip(tag, 0)?;
            } else if self.is_unknown_value(value.kind, scalar::read(value.kind, &mut cursor)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn map_key(&self, kind: Kind, key: Key<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        match (key, kind) {
            (Key::Text(text), _) => return write_string(text, out),
            (Key::Bits(bits), Kind::Uint64 | Kind::Fixed64) => {
                out.push(b'"');
                scalar::write_integer(bits, out);
            }
            (Key::Bits(bits), Kind::Bool) => {
                out.extend_from_slice(if bits == 0 { b"\"false" } else { b"\"true" });
            }
            (Key::Bits(bits), _) => {
                out.push(b'"');
                scalar::write_integer(bits as i64, out);
            }
        }
        out.push(b'"');
        Ok(())
    }

    /// An entry without a value has the default one, which for a message is the empty message.
    fn missing_value(
        &self,
        value: &FieldTable,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        match value.kind {
            Kind::Message(message) => {
                self.message(self.tables.message(message), &[], out, depth + 2)
            }
            _ => {
                out.extend_from_slice(&value.default);
                Ok(())
            }
        }
    }
}

fn read_key<'w>(key: &FieldTable, records: &Records<'w>) -> Result<Key<'w>, WireError> {
    let mut cursor = match records.last(key) {
        Some(cursor) => cursor,
        None if key.kind == Kind::String => return Ok(Key::Text(b"")),
        None => return Ok(Key::Bits(0)),
    };
    Ok(match key.kind {
        Kind::String => Key::Text(cursor.delimited()?),
        kind => Key::Bits(scalar::read(kind, &mut cursor)?),
    })
}

/// Of entries with equal keys, only the last stays.
fn keep_last(entries: &mut Entries<'_>) {
    let mut at = 0;
    if entries.len() <= FEW {
        while at < entries.len() {
            let (entry, later) = (&entries[at], &entries[at + 1..]);
            if later.iter().any(|other| other.key == entry.key) {
                entries.remove(at);
            } else {
                at += 1;
            }
        }
        return;
    }
    let last: HashMap<Key<'_>, usize> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| (entry.key, at))
        .collect();
    entries.retain(|entry| {
        let stays = last.get(&entry.key) == Some(&at);
        at += 1;
        stays
    });
}
