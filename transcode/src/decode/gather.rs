//! The slow and right way: an index of a message's records by field, then the fields in whichever order is wanted.
//!
//! Singles: the last record counts; messages: all records together; lists: all elements; oneofs: a record of another member
//! clears what was there.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{Decoder, close_list, close_object, payload, scalar};
use crate::error::WireError;
use crate::schema::{Cardinality, Kind, MessageId};
use crate::tables::{FieldTable, MessageTable};
use crate::wire::Cursor;

/// Where a field's records are.
#[derive(Clone, Copy, Default)]
pub(crate) struct Slot {
    /// Before the tag of its first record.
    first: usize,
    /// Behind the tag of its last record.
    last: usize,
    /// 0: the field is unset.
    pub(crate) count: usize,
}

/// A message's records by field.
pub(crate) struct Records<'w> {
    pub(crate) wire: &'w [u8],
    slots: SmallVec<[Slot; 16]>,
}

impl<'w> Records<'w> {
    #[inline(always)]
    pub(crate) fn slot(&self, field: &FieldTable) -> Slot {
        self.slots[field.index]
    }

    /// Before the tag of a field's first record.
    fn at_first(&self, slot: Slot) -> Cursor<'w> {
        Cursor::starting_at(self.wire, slot.first)
    }

    /// Behind the tag of a field's last record.
    pub(super) fn last(&self, field: &FieldTable) -> Option<Cursor<'w>> {
        let slot = self.slot(field);
        (slot.count > 0).then(|| Cursor::starting_at(self.wire, slot.last))
    }
}

impl Decoder<'_> {
    /// Reads a message once and notes where each field is.
    pub(crate) fn gather<'w>(
        &self,
        table: &MessageTable,
        wire: &'w [u8],
        depth: u32,
    ) -> Result<Records<'w>, WireError> {
        let mut slots: SmallVec<[Slot; 16]> =
            SmallVec::from_elem(Slot::default(), table.fields.len());
        // Oneof and the member that is set.
        let mut members: SmallVec<[(u32, usize); 4]> = SmallVec::new();
        let mut cursor = Cursor::new(wire);
        let mut next = 0;
        while !cursor.is_at_end() {
            let at = cursor.at();
            let tag = cursor.tag()?;
            let value = cursor;
            cursor.skip(tag, depth)?;
            let Some(field) = table
                .field_tagged(tag, next)
                .filter(|field| field.takes(tag))
            else {
                continue;
            };
            next = if field.cardinality == Cardinality::Single {
                field.index + 1
            } else {
                field.index
            };
            if field.cardinality == Cardinality::Single && matches!(field.kind, Kind::Enum(_)) {
                let bits = scalar::read(field.kind, &mut value.clone())?;
                if self.is_unknown_value(field.kind, bits) {
                    continue;
                }
            }
            if let Some(oneof) = field.oneof {
                set_member(&mut members, &mut slots, oneof, field.index);
            }
            let slot = &mut slots[field.index];
            if slot.count == 0 {
                slot.first = at;
            }
            slot.last = value.at();
            slot.count += 1;
        }
        Ok(Records { wire, slots })
    }

    /// A message whose fields do not come in order.
    #[cold]
    pub(super) fn gathered(
        &self,
        table: &MessageTable,
        wire: &[u8],
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        let records = self.gather(table, wire, depth)?;
        let start = out.len();
        for field in &table.fields {
            let before = out.len();
            field.put_text(out);
            let value = out.len();
            let written = self.field_value(field, &records, out, depth)?;
            let default = !field.presence && out[value..] == *field.default;
            if !field.emit && (!written || default) {
                out.truncate(before);
            }
        }
        close_object(out, start);
        Ok(())
    }

    /// The JSON value of a field; its default, and false, if it is unset.
    pub(crate) fn field_value(
        &self,
        field: &FieldTable,
        records: &Records<'_>,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<bool, WireError> {
        let slot = records.slot(field);
        if slot.count == 0 {
            out.extend_from_slice(&field.default);
            return Ok(false);
        }
        match (field.cardinality, field.kind) {
            (Cardinality::Single, Kind::Message(message)) => {
                let bytes = merged(field, records, slot, depth)?;
                self.message(self.tables.message(message), &bytes, out, depth + 1)?;
            }
            (Cardinality::Single, _) => {
                if let Some(mut cursor) = records.last(field) {
                    self.value(field, &mut cursor, out, depth)?;
                }
            }
            (Cardinality::Repeated, _) => {
                let start = out.len();
                for_each_record(
                    field,
                    records.at_first(slot),
                    slot.count,
                    depth,
                    |tag, cursor| self.elements(field, tag, cursor, out, depth),
                )?;
                close_list(out, start);
            }
            (Cardinality::Map, _) => {
                self.map(field, records.at_first(slot), slot.count, out, depth)?;
            }
        }
        Ok(true)
    }

    /// The value of the field at the end of a path of message and field index.
    pub(crate) fn at_path(
        &self,
        path: &[(MessageId, usize)],
        wire: &[u8],
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), WireError> {
        let Some((&(message, index), rest)) = path.split_first() else {
            return Ok(());
        };
        let table = self.tables.message(message);
        let field = &table.fields[index];
        let records = self.gather(table, wire, depth)?;
        if rest.is_empty() {
            return self.field_value(field, &records, out, depth).map(drop);
        }
        let bytes = self.field_message(field, &records, depth)?;
        self.at_path(rest, bytes.as_deref().unwrap_or_default(), out, depth + 1)
    }

    /// The bytes of a single message field; `None` if it is unset.
    pub(crate) fn field_message<'w>(
        &self,
        field: &FieldTable,
        records: &Records<'w>,
        depth: u32,
    ) -> Result<Option<Cow<'w, [u8]>>, WireError> {
        let slot = records.slot(field);
        if slot.count == 0 {
            Ok(None)
        } else {
            merged(field, records, slot, depth).map(Some)
        }
    }

    /// Calls back with the bytes of each message of a repeated field.
    pub(crate) fn each_message(
        &self,
        field: &FieldTable,
        records: &Records<'_>,
        depth: u32,
        mut visit: impl FnMut(&[u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let slot = records.slot(field);
        for_each_record(
            field,
            records.at_first(slot),
            slot.count,
            depth,
            |_, cursor| visit(payload(field, cursor, depth)?),
        )
    }

    /// The number of elements of a list, or of distinct keys of a map.
    pub(crate) fn count(
        &self,
        field: &FieldTable,
        records: &Records<'_>,
        depth: u32,
    ) -> Result<usize, WireError> {
        let slot = records.slot(field);
        match (field.cardinality, field.kind) {
            (Cardinality::Map, _) => {
                let first = records.at_first(slot);
                Ok(self.map_entries(field, first, slot.count, depth)?.len())
            }
            (_, Kind::Message(_) | Kind::String | Kind::Bytes) => Ok(slot.count),
            (_, kind) => {
                let mut count = 0;
                let mut element = |cursor: &mut Cursor<'_>| {
                    let bits = scalar::read(kind, cursor)?;
                    count += usize::from(!self.is_unknown_value(kind, bits));
                    Ok(())
                };
                for_each_record(
                    field,
                    records.at_first(slot),
                    slot.count,
                    depth,
                    |tag, cursor| {
                        if tag == field.tag {
                            return element(cursor);
                        }
                        let mut packed = Cursor::new(cursor.delimited()?);
                        while !packed.is_at_end() {
                            element(&mut packed)?;
                        }
                        Ok(())
                    },
                )?;
                Ok(count)
            }
        }
    }
}

/// A record of one member clears the others.
fn set_member(
    members: &mut SmallVec<[(u32, usize); 4]>,
    slots: &mut [Slot],
    oneof: u32,
    index: usize,
) {
    match members.iter_mut().find(|member| member.0 == oneof) {
        Some((_, set)) if *set == index => {}
        Some((_, set)) => {
            slots[*set] = Slot::default();
            *set = index;
        }
        None => members.push((oneof, index)),
    }
}

/// The bytes of a message; several records one after the other are the merged message.
fn merged<'w>(
    field: &FieldTable,
    records: &Records<'w>,
    slot: Slot,
    depth: u32,
) -> Result<Cow<'w, [u8]>, WireError> {
    if slot.count == 1
        && let Some(mut cursor) = records.last(field)
    {
        return payload(field, &mut cursor, depth).map(Cow::Borrowed);
    }
    let mut all = Vec::new();
    for_each_record(
        field,
        records.at_first(slot),
        slot.count,
        depth,
        |_, cursor| {
            all.extend_from_slice(payload(field, cursor, depth)?);
            Ok(())
        },
    )?;
    Ok(Cow::Owned(all))
}

/// Calls back behind the tag of each of the `count` records of a field, from the first one on.
#[inline(always)]
pub(super) fn for_each_record<'w>(
    field: &FieldTable,
    first: Cursor<'w>,
    count: usize,
    depth: u32,
    mut visit: impl FnMut(u32, &mut Cursor<'w>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut cursor = first;
    let mut left = count;
    while left > 0 {
        let tag = cursor.tag()?;
        if field.takes(tag) {
            visit(tag, &mut cursor)?;
            left -= 1;
        } else {
            cursor.skip(tag, depth)?;
        }
    }
    Ok(())
}
