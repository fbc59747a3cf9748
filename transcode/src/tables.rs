//! What a message is to the hot path: per field the bytes to write and to compare with, settled when the configuration loads.

use std::fmt::Write as _;

use crate::names::NameTable;
use crate::options::{Defaults, Dialect, Enums, Int64, JsonOptions, Names};
use crate::schema::{Cardinality, Enum, Field, Kind, Message, MessageId, Schema, WellKnown};
use crate::wire::{self, put_varint};

/// Names whose JSON text has up to so many bytes are copied without a call.
const SHORT: usize = 32;

/// Tables of every message and enum of a schema.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) messages: Box<[MessageTable]>,
    pub(crate) enums: Box<[EnumTable]>,
}

/// One message.
#[derive(Debug)]
pub(crate) struct MessageTable {
    pub(crate) well_known: Option<WellKnown>,
    pub(crate) fields: Box<[FieldTable]>,
    /// JSON and original names.
    names: NameTable,
    /// The same in lower case, for the plain dialect.
    folded: Option<NameTable>,
    numbers: NumberTable,
    /// Declaration order is number order, so that ordinary bytes come in the order in which JSON is written.
    pub(crate) in_order: bool,
}

/// One field.
#[derive(Debug)]
pub(crate) struct FieldTable {
    pub(crate) index: usize,
    /// As it is written in JSON.
    pub(crate) name: Box<str>,
    /// `name"` for each of the two names: what follows the opening quote.
    pub(crate) keys: [Box<[u8]>; 2],
    /// `,"name":`
    text: Box<[u8]>,
    /// The same if it is that short, so that it is copied without a call.
    short_text: [u8; SHORT],
    /// The value when unset: `0`, `""`, `[]`, `null` for a message.
    pub(crate) default: Box<[u8]>,
    /// It is written also when it holds its default.
    pub(crate) emit: bool,
    /// Number and wire type of a value, or of one element.
    pub(crate) tag: u32,
    tag_bytes: [u8; 5],
    tag_length: u8,
    pub(crate) kind: Kind,
    pub(crate) cardinality: Cardinality,
    pub(crate) presence: bool,
    pub(crate) packed: bool,
    pub(crate) delimited: bool,
    /// JSON `null` is a value of it: `google.protobuf.Value` and `NullValue`.
    pub(crate) takes_null: bool,
    pub(crate) oneof: Option<u32>,
}

/// One enum.
#[derive(Debug)]
pub(crate) struct EnumTable {
    names: NameTable,
    /// Sorted by number; the JSON text, with quotes.
    texts: Box<[(i32, Box<[u8]>)]>,
    pub(crate) closed: bool,
    pub(crate) null_value: bool,
}

/// Field numbers to indexes: small ones by a direct table.
#[derive(Debug)]
struct NumberTable {
    /// Index plus one, 0 if there is no such field.
    direct: Box<[u32]>,
    /// The rest, sorted.
    sparse: Box<[(u32, u32)]>,
}

impl Tables {
    pub(crate) fn new(schema: &Schema, options: JsonOptions) -> Tables {
        Tables {
            enums: schema
                .enums()
                .map(|(_, info)| EnumTable::new(info, options))
                .collect(),
            messages: schema
                .messages()
                .map(|(_, info)| MessageTable::new(schema, info, options))
                .collect(),
        }
    }

    #[inline(always)]
    pub(crate) fn message(&self, id: MessageId) -> &MessageTable {
        &self.messages[id.index()]
    }
}

impl MessageTable {
    fn new(schema: &Schema, message: &Message, options: JsonOptions) -> MessageTable {
        let fields: Box<[FieldTable]> = message
            .fields
            .iter()
            .map(|field| FieldTable::new(schema, field, options))
            .collect();
        let json_names = message
            .fields
            .iter()
            .map(|field| (field.json_name.as_str(), field.index as u32));
        let original_names = message
            .fields
            .iter()
            .map(|field| (field.name.as_str(), field.index as u32));
        // A plain reader knows each field by one name only, the one that is written.
        let all: Vec<(&str, u32)> = match (options.dialect, options.names) {
            (Dialect::Proto3, _) => json_names.chain(original_names).collect(),
            (Dialect::Plain, Names::Camel) => json_names.collect(),
            (Dialect::Plain, Names::Original) => original_names.collect(),
        };
        let lower: Vec<(String, u32)> = all
            .iter()
            .map(|(name, index)| (name.to_ascii_lowercase(), *index))
            .collect();
        MessageTable {
            well_known: message.well_known,
            names: NameTable::new(all.iter().map(|&(name, index)| (name.as_bytes(), index))),
            folded: (options.dialect == Dialect::Plain).then(|| {
                NameTable::new(lower.iter().map(|(name, index)| (name.as_bytes(), *index)))
            }),
            numbers: NumberTable::new(&message.fields),
            in_order: fields.is_sorted_by_key(|field| field.tag),
            fields,
        }
    }

    /// The field with this name: JSON or original, or in a plain dialect the written one in any letter case.
    pub(crate) fn field_named(&self, name: &[u8]) -> Option<&FieldTable> {
        let index = self.names.get(name).or_else(|| {
            let folded = self.folded.as_ref()?;
            folded.get(&name.to_ascii_lowercase())
        })?;
        Some(&self.fields[index as usize])
    }

    /// The field that a tag is for. `next` is the likeliest index.
    #[inline(always)]
    pub(crate) fn field_tagged(&self, tag: u32, next: usize) -> Option<&FieldTable> {
        match self.fields.get(next) {
            Some(field) if field.tag == tag => Some(field),
            _ => self.field_numbered(tag >> 3),
        }
    }

    pub(crate) fn field_numbered(&self, number: u32) -> Option<&FieldTable> {
        self.fields.get(self.numbers.get(number)?)
    }
}

impl NumberTable {
    fn new(fields: &[Field]) -> NumberTable {
        let limit = (fields.len() as u32 * 4).max(64);
        let largest = fields
            .iter()
            .map(|field| field.number)
            .filter(|&number| number < limit)
            .max();
        let mut direct = vec![0; largest.map_or(0, |largest| largest as usize + 1)];
        let mut sparse = Vec::new();
        for field in fields {
            match direct.get_mut(field.number as usize) {
                Some(slot) => *slot = field.index as u32 + 1,
                None => sparse.push((field.number, field.index as u32)),
            }
        }
        sparse.sort_unstable();
        NumberTable {
            direct: direct.into(),
            sparse: sparse.into(),
        }
    }

    #[inline]
    fn get(&self, number: u32) -> Option<usize> {
        if let Some(&slot) = self.direct.get(number as usize) {
            return (slot as usize).checked_sub(1);
        }
        let at = self
            .sparse
            .binary_search_by_key(&number, |entry| entry.0)
            .ok()?;
        Some(self.sparse[at].1 as usize)
    }
}

impl FieldTable {
    fn new(schema: &Schema, field: &Field, options: JsonOptions) -> FieldTable {
        let name = match options.names {
            Names::Camel => &field.json_name,
            Names::Original => &field.name,
        };
        let tag = field.number << 3 | wire_type(field);
        let mut bytes = Vec::with_capacity(5);
        put_varint(&mut bytes, u64::from(tag));
        let mut tag_bytes = [0; 5];
        tag_bytes[..bytes.len()].copy_from_slice(&bytes);
        let single = field.cardinality == Cardinality::Single;
        let text: Box<[u8]> = format!(",{}:", quoted(name)).into_bytes().into();
        FieldTable {
            index: field.index,
            name: name.as_str().into(),
            keys: keys(field, options),
            short_text: std::array::from_fn(|at| text.get(at).copied().unwrap_or(0)),
            text,
            default: default_text(schema, field, options).into_bytes().into(),
            emit: options.defaults == Defaults::Emit && !field.presence,
            tag,
            tag_bytes,
            tag_length: bytes.len() as u8,
            kind: field.kind,
            cardinality: field.cardinality,
            presence: field.presence,
            packed: field.packed,
            delimited: field.delimited,
            takes_null: single && takes_null(schema, field.kind),
            oneof: field.oneof.map(|oneof| oneof as u32),
        }
    }

    /// Appends `,"name":`.
    #[inline(always)]
    pub(crate) fn put_text(&self, out: &mut Vec<u8>) {
        let length = self.text.len();
        if length <= SHORT {
            let end = out.len() + length;
            out.extend_from_slice(&self.short_text);
            out.truncate(end);
        } else {
            out.extend_from_slice(&self.text);
        }
    }

    /// The length of `,"name":`.
    pub(crate) fn text_length(&self) -> usize {
        self.text.len()
    }

    #[inline(always)]
    pub(crate) fn put_tag(&self, out: &mut Vec<u8>) {
        self.put_tag_as(self.tag, out);
    }

    /// The field's number with the wire type of packed elements.
    #[inline]
    pub(crate) fn put_packed_tag(&self, out: &mut Vec<u8>) {
        self.put_tag_as(self.packed_tag(), out);
    }

    pub(crate) fn put_end_tag(&self, out: &mut Vec<u8>) {
        self.put_tag_as(self.tag & !7 | wire::GROUP_END, out);
    }

    pub(crate) fn packed_tag(&self) -> u32 {
        self.tag & !7 | wire::DELIMITED
    }

    /// Only the first byte depends on the wire type.
    #[inline(always)]
    fn put_tag_as(&self, tag: u32, out: &mut Vec<u8>) {
        if self.tag_length == 1 {
            out.push(tag as u8);
            return;
        }
        let first = out.len();
        out.extend_from_slice(&self.tag_bytes[..usize::from(self.tag_length)]);
        out[first] = tag as u8 | 0x80;
    }
}

impl EnumTable {
    fn new(info: &Enum, options: JsonOptions) -> EnumTable {
        let text = |name: &str, number: i32| match options.enums {
            _ if info.null_value => "null".to_owned(),
            Enums::Name => quoted(name),
            Enums::Number => number.to_string(),
        };
        let mut texts: Vec<(i32, Box<[u8]>)> = Vec::new();
        for value in &info.values {
            // Of several names for a number, the first one is written.
            if !texts.iter().any(|(number, _)| *number == value.number) {
                texts.push((
                    value.number,
                    text(&value.name, value.number).into_bytes().into(),
                ));
            }
        }
        texts.sort_by_key(|entry| entry.0);
        EnumTable {
            names: NameTable::new(
                info.values
                    .iter()
                    .map(|value| (value.name.as_bytes(), value.number as u32)),
            ),
            texts: texts.into(),
            closed: info.closed,
            null_value: info.null_value,
        }
    }

    pub(crate) fn number(&self, name: &[u8]) -> Option<i32> {
        self.names.get(name).map(|number| number as i32)
    }

    /// The JSON text of a value that has a name.
    #[inline]
    pub(crate) fn text(&self, number: i32) -> Option<&[u8]> {
        // Most enums count from 0 without a gap.
        if let Some((at, text)) = self.texts.get(number as usize)
            && *at == number
        {
            return Some(text);
        }
        let at = self
            .texts
            .binary_search_by_key(&number, |entry| entry.0)
            .ok()?;
        Some(&self.texts[at].1)
    }
}

/// What follows the opening quote of a key, in the names that are read, the likeliest first. A JSON name that needs
/// escapes is left to the slow way.
fn keys(field: &Field, options: JsonOptions) -> [Box<[u8]>; 2] {
    let plain = quoted(&field.json_name).len() == field.json_name.len() + 2;
    let json = if plain { &field.json_name } else { &field.name };
    let names = match (options.dialect, options.names) {
        (Dialect::Proto3, Names::Camel) => [json, &field.name],
        (Dialect::Proto3, Names::Original) => [&field.name, json],
        (Dialect::Plain, Names::Camel) => [json, json],
        (Dialect::Plain, Names::Original) => [&field.name, &field.name],
    };
    names.map(|name| [name.as_bytes(), b"\""].concat().into())
}

/// The wire type of a value of this kind.
fn wire_type(field: &Field) -> u32 {
    match field.kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => wire::FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => wire::FIXED32,
        Kind::String | Kind::Bytes => wire::DELIMITED,
        Kind::Message(_) if field.delimited => wire::GROUP,
        Kind::Message(_) => wire::DELIMITED,
        _ => wire::VARINT,
    }
}

/// JSON `null` is a value of this kind.
pub(crate) fn takes_null(schema: &Schema, kind: Kind) -> bool {
    match kind {
        Kind::Message(id) => schema.message_info(id).well_known == Some(WellKnown::Value),
        Kind::Enum(id) => schema.enum_info(id).null_value,
        _ => false,
    }
}

fn default_text(schema: &Schema, field: &Field, options: JsonOptions) -> String {
    match (field.cardinality, field.kind) {
        (Cardinality::Repeated, _) => "[]".to_owned(),
        (Cardinality::Map, _) => "{}".to_owned(),
        (Cardinality::Single, Kind::Message(_)) => "null".to_owned(),
        (Cardinality::Single, Kind::String | Kind::Bytes) => "\"\"".to_owned(),
        (Cardinality::Single, Kind::Bool) => "false".to_owned(),
        (Cardinality::Single, Kind::Enum(id)) => {
            let info = schema.enum_info(id);
            let first = &info.values[0];
            match options.enums {
                _ if info.null_value => "null".to_owned(),
                Enums::Name => quoted(&first.name),
                Enums::Number => first.number.to_string(),
            }
        }
        (
            Cardinality::Single,
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64,
        ) if options.int64 == Int64::String => "\"0\"".to_owned(),
        (Cardinality::Single, _) => "0".to_owned(),
    }
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            // Writing to a string cannot fail.
            letter if letter < ' ' => drop(write!(quoted, "\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
