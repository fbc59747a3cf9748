//! JSON text to protobuf bytes in one pass: each value is written as it is read, lengths of messages are patched in afterwards.
//!
//! Fields are written in the order of the text, which the wire format allows. It refuses, beside what does not fit a field, the same
//! field twice and two fields of a oneof; the plain dialect takes the last of the former.
//!
//! Spec: <https://protobuf.dev/programming-guides/json/>

mod any;
mod scalar;
mod seen;
mod text;
mod well_known;

use crate::error::JsonError;
use crate::json::reader::{Reader, too_deep};
use crate::options::{Dialect, JsonOptions, UnknownFields};
use crate::path::FieldPath;
use crate::schema::{Cardinality, Kind, MessageId, Schema};
use crate::tables::{FieldTable, MessageTable, Tables};
use crate::wire::{MAX_DEPTH, close, open};
use seen::Seen;

/// One JSON text on its way to the wire.
pub(crate) struct Encoder<'a, 'w> {
    tables: &'a Tables,
    schema: &'a Schema,
    options: JsonOptions,
    reader: Reader<'a>,
    wire: &'w mut Vec<u8>,
    depth: u32,
    /// For strings with escapes that are not written as they are.
    scratch: Vec<u8>,
}

impl<'a, 'w> Encoder<'a, 'w> {
    pub(crate) fn new(
        tables: &'a Tables,
        schema: &'a Schema,
        options: JsonOptions,
        text: &'a [u8],
        wire: &'w mut Vec<u8>,
    ) -> Encoder<'a, 'w> {
        Encoder {
            tables,
            schema,
            options,
            reader: Reader::new(text),
            wire,
            depth: 0,
            scratch: Vec::new(),
        }
    }

    /// The whole text is one message.
    pub(crate) fn document(&mut self, message: MessageId) -> Result<(), JsonError> {
        self.body(message)?;
        self.reader.end()
    }

    /// The whole text is the value of the field at the end of the path.
    pub(crate) fn field_document(&mut self, path: &FieldPath) -> Result<(), JsonError> {
        self.along(path, |encoder, table, field| {
            encoder.field(table, field, &mut Seen::default(), 0)
        })?;
        self.reader.end()
    }

    /// The text, which is not JSON, is the value (one more, if repeated) of the field at the end of the path.
    pub(crate) fn field_text(&mut self, path: &FieldPath) -> Result<(), JsonError> {
        self.along(path, |encoder, _, field| {
            encoder
                .plain_text(field)
                .map_err(|error| error.inside(&field.name))
        })
    }

    /// Opens the messages on the way, writes the field, closes them.
    fn along(
        &mut self,
        path: &FieldPath,
        write: impl FnOnce(&mut Self, &'a MessageTable, &'a FieldTable) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        let Some((&(message, index), outer)) = path.steps().split_last() else {
            return Ok(());
        };
        let mut opened = Vec::new();
        for &(message, index) in outer {
            let field = &self.tables.message(message).fields[index];
            field.put_tag(self.wire);
            opened.push((field, if field.delimited { 0 } else { open(self.wire) }));
        }
        let table = self.tables.message(message);
        let written = write(self, table, &table.fields[index]);
        for (field, start) in opened.into_iter().rev() {
            if field.delimited {
                field.put_end_tag(self.wire);
            } else {
                close(self.wire, start);
            }
        }
        written.map_err(|error| {
            outer.iter().rev().fold(error, |error, &(message, index)| {
                error.inside(&self.tables.message(message).fields[index].name)
            })
        })
    }

    /// The content of a message, in whichever form JSON has for it.
    fn body(&mut self, message: MessageId) -> Result<(), JsonError> {
        let table = self.tables.message(message);
        match table.well_known {
            Some(known) => self.well_known(known, table),
            None => self.object(table, false),
        }
    }

    fn enter(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            Err(too_deep(self.reader.at()))
        } else {
            Ok(())
        }
    }

    /// An object's members to a message's fields. In an `Any` the member `@type` is not a field.
    fn object(&mut self, table: &'a MessageTable, in_any: bool) -> Result<(), JsonError> {
        self.enter()?;
        let start = self.wire.len();
        let mut seen = Seen::default();
        let mut next = 0;
        self.reader.expect(b'{', "an object")?;
        let mut more = !self.reader.eat(b'}');
        while more {
            match self.key(table, next, in_any)? {
                Some(field) => {
                    next = field.index + 1;
                    self.field(table, field, &mut seen, start)?;
                }
                None => self.reader.skip(self.depth)?,
            }
            more = self.reader.more(b'}')?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// A member's name and colon; `None` if the member is to be skipped. `next` is the likeliest field.
    #[inline(always)]
    fn key(
        &mut self,
        table: &'a MessageTable,
        next: usize,
        in_any: bool,
    ) -> Result<Option<&'a FieldTable>, JsonError> {
        self.reader.expect(b'"', "a field name in quotes")?;
        let guess = table.fields.get(next).and_then(|field| {
            let rest = self.reader.rest();
            let key = field.keys.iter().find(|key| rest.starts_with(key))?;
            Some((field, key.len()))
        });
        let field = match guess {
            Some((field, length)) => {
                self.reader.advance(length);
                Some(field)
            }
            None => self.looked_up_key(table, in_any)?,
        };
        self.reader.expect(b':', "a colon")?;
        Ok(field)
    }

    fn looked_up_key(
        &mut self,
        table: &'a MessageTable,
        in_any: bool,
    ) -> Result<Option<&'a FieldTable>, JsonError> {
        let name = self.reader.string_after_quote()?;
        let text = name.text(&mut self.scratch)?;
        let field = table.field_named(text);
        let ours = in_any && text == b"@type";
        if field.is_some() || ours || self.options.unknown_fields == UnknownFields::Ignore {
            return Ok(field);
        }
        let text = String::from_utf8_lossy(text);
        Err(JsonError::new(
            name.offset,
            format!("the message has no field {text:?}"),
        ))
    }

    /// A member's value. `start` is where the message begins on the wire.
    #[inline(always)]
    fn field(
        &mut self,
        table: &'a MessageTable,
        field: &'a FieldTable,
        seen: &mut Seen,
        start: usize,
    ) -> Result<(), JsonError> {
        let result = self.field_value(table, field, seen, start);
        result.map_err(|error| error.inside(&field.name))
    }

    #[inline(always)]
    fn field_value(
        &mut self,
        table: &'a MessageTable,
        field: &'a FieldTable,
        seen: &mut Seen,
        start: usize,
    ) -> Result<(), JsonError> {
        if self.reader.peek() == b'n' && !field.takes_null {
            return self.reader.literal("null");
        }
        let again = seen.insert(field.index);
        if again {
            self.again(field, start)?;
        }
        if let Some(oneof) = field.oneof
            && !again
            && seen.insert(table.fields.len() + oneof as usize)
        {
            return Err(JsonError::new(
                self.reader.at(),
                "another field of the same oneof is there too",
            ));
        }
        match field.cardinality {
            Cardinality::Single => self.single(field, !field.presence && !again),
            Cardinality::Repeated => self.list(field),
            Cardinality::Map => self.map(field),
        }
    }

    /// The field has been there before.
    #[cold]
    fn again(&mut self, field: &FieldTable, start: usize) -> Result<(), JsonError> {
        if self.options.dialect == Dialect::Proto3 {
            return Err(JsonError::new(self.reader.at(), "the field is there twice"));
        }
        // The last one counts. On the wire that is so by itself, except that lists would add up.
        if field.cardinality != Cardinality::Single {
            seen::remove_records(self.wire, start, field);
        }
        Ok(())
    }

    /// One value with its tag; nothing if it is the default and `omit_default`.
    #[inline(always)]
    fn single(&mut self, field: &'a FieldTable, omit_default: bool) -> Result<(), JsonError> {
        match field.kind {
            Kind::String => self.string(field, omit_default),
            Kind::Bytes => self.bytes(field, omit_default),
            Kind::Message(message) => self.message(field, message),
            kind => {
                let Some(value) = self.scalar(kind)? else {
                    return Ok(());
                };
                if !(omit_default && value.is_zero()) {
                    field.put_tag(self.wire);
                    value.put(self.wire);
                }
                Ok(())
            }
        }
    }

    /// A message with its tag and its length or end tag.
    fn message(&mut self, field: &'a FieldTable, message: MessageId) -> Result<(), JsonError> {
        field.put_tag(self.wire);
        if field.delimited {
            self.body(message)?;
            field.put_end_tag(self.wire);
        } else {
            let start = open(self.wire);
            self.body(message)?;
            close(self.wire, start);
        }
        Ok(())
    }

    fn list(&mut self, field: &'a FieldTable) -> Result<(), JsonError> {
        self.reader.expect(b'[', "a list")?;
        if self.reader.eat(b']') {
            return Ok(());
        }
        if field.packed {
            return self.packed_list(field);
        }
        let mut index = 0;
        loop {
            self.single(field, false)
                .map_err(|error| error.inside(&format!("[{index}]")))?;
            index += 1;
            if !self.reader.more(b']')? {
                return Ok(());
            }
        }
    }

    fn packed_list(&mut self, field: &'a FieldTable) -> Result<(), JsonError> {
        let before = self.wire.len();
        field.put_packed_tag(self.wire);
        let start = open(self.wire);
        let mut index = 0;
        loop {
            let value = self
                .scalar(field.kind)
                .map_err(|error| error.inside(&format!("[{index}]")))?;
            if let Some(value) = value {
                value.put(self.wire);
            }
            index += 1;
            if !self.reader.more(b']')? {
                break;
            }
        }
        // Of unknown enum values, which were all skipped, nothing is left.
        if self.wire.len() == start {
            self.wire.truncate(before);
        } else {
            close(self.wire, start);
        }
        Ok(())
    }

    fn map(&mut self, field: &'a FieldTable) -> Result<(), JsonError> {
        let Kind::Message(entry) = field.kind else {
            return Ok(());
        };
        let [key, value] = &*self.tables.message(entry).fields else {
            return Ok(());
        };
        self.reader.expect(b'{', "an object")?;
        let mut more = !self.reader.eat(b'}');
        while more {
            let before = self.wire.len();
            field.put_tag(self.wire);
            let start = open(self.wire);
            let name = self.reader.string("a map key in quotes")?;
            self.map_key(key, name)?;
            self.reader.expect(b':', "a colon")?;
            let value_start = self.wire.len();
            self.single(value, false).map_err(|error| {
                error.inside(&format!("[\"{}\"]", String::from_utf8_lossy(name.raw)))
            })?;
            if self.wire.len() == value_start {
                // An unknown enum value: the entry goes with it.
                self.wire.truncate(before);
            } else {
                close(self.wire, start);
            }
            more = self.reader.more(b'}')?;
        }
        Ok(())
    }
}
