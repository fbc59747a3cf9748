//! Messages with a JSON form of their own, from JSON.
//!
//! Spec: <https://protobuf.dev/programming-guides/json/>, the table's last rows.

use super::Encoder;
use crate::error::JsonError;
use crate::json::number;
use crate::schema::WellKnown;
use crate::tables::MessageTable;
use crate::time::{parse_duration, parse_timestamp};
use crate::wire::{close, open, put_varint};

impl<'a> Encoder<'a, '_> {
    /// The content of a well-known message.
    pub(super) fn well_known(
        &mut self,
        known: WellKnown,
        table: &'a MessageTable,
    ) -> Result<(), JsonError> {
        match known {
            WellKnown::Any => self.any(),
            WellKnown::Empty => self.object(table, false),
            WellKnown::ListValue => self.list_value(),
            WellKnown::Struct => self.struct_value(),
            WellKnown::Value => self.value(),
            WellKnown::Wrapper => match &*table.fields {
                [value] => self.single(value, !value.presence),
                _ => self.object(table, false),
            },
            WellKnown::Duration | WellKnown::FieldMask | WellKnown::Timestamp => {
                let string = self.reader.string(text_form(known))?;
                if !string.escaped {
                    return self.known_text(known, string.raw, string.offset);
                }
                let mut text = Vec::new();
                string.write_to(&mut text)?;
                self.known_text(known, &text, string.offset)
            }
        }
    }

    /// The content of a message that is one text.
    pub(super) fn known_text(
        &mut self,
        known: WellKnown,
        text: &[u8],
        offset: usize,
    ) -> Result<(), JsonError> {
        let time = match known {
            WellKnown::Timestamp => parse_timestamp(text),
            WellKnown::Duration => parse_duration(text),
            WellKnown::FieldMask => return self.field_mask(text, offset),
            _ => None,
        };
        let (seconds, nanos) = time.ok_or_else(|| {
            JsonError::new(
                offset,
                format!("expected {}, found another text", text_form(known)),
            )
        })?;
        for (tag, value) in [(0x08, seconds), (0x10, i64::from(nanos))] {
            if value != 0 {
                self.wire.push(tag);
                put_varint(self.wire, value as u64);
            }
        }
        Ok(())
    }

    /// `fooBar,baz.quux` to the paths `foo_bar` and `baz.quux`.
    fn field_mask(&mut self, text: &[u8], offset: usize) -> Result<(), JsonError> {
        if text.is_empty() {
            return Ok(());
        }
        for path in text.split(|&byte| byte == b',') {
            self.wire.push(0x0a);
            let start = open(self.wire);
            for &byte in path {
                match byte {
                    b'A'..=b'Z' => self
                        .wire
                        .extend_from_slice(&[b'_', byte.to_ascii_lowercase()]),
                    b'_' => {
                        return Err(JsonError::new(
                            offset,
                            "the paths of a field mask are in lowerCamelCase",
                        ));
                    }
                    _ => self.wire.push(byte),
                }
            }
            close(self.wire, start);
        }
        Ok(())
    }

    fn struct_value(&mut self) -> Result<(), JsonError> {
        self.enter()?;
        self.reader.expect(b'{', "an object")?;
        let mut more = !self.reader.eat(b'}');
        while more {
            self.wire.push(0x0a);
            let entry = open(self.wire);
            let name = self.reader.string("a name in quotes")?;
            self.wire.push(0x0a);
            self.put_string(name)?;
            self.reader.expect(b':', "a colon")?;
            self.wire.push(0x12);
            let start = open(self.wire);
            self.value()?;
            close(self.wire, start);
            close(self.wire, entry);
            more = self.reader.more(b'}')?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn list_value(&mut self) -> Result<(), JsonError> {
        self.enter()?;
        self.reader.expect(b'[', "a list")?;
        let mut more = !self.reader.eat(b']');
        while more {
            self.wire.push(0x0a);
            let start = open(self.wire);
            self.value()?;
            close(self.wire, start);
            more = self.reader.more(b']')?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Any JSON value to a `google.protobuf.Value`.
    fn value(&mut self) -> Result<(), JsonError> {
        match self.reader.peek() {
            b'n' => {
                self.reader.literal("null")?;
                self.wire.extend_from_slice(&[0x08, 0]);
            }
            b't' => {
                self.reader.literal("true")?;
                self.wire.extend_from_slice(&[0x20, 1]);
            }
            b'f' => {
                self.reader.literal("false")?;
                self.wire.extend_from_slice(&[0x20, 0]);
            }
            b'"' => {
                let string = self.reader.string("a string")?;
                self.wire.push(0x1a);
                self.put_string(string)?;
            }
            b'{' | b'[' => self.nested_value()?,
            _ => {
                let text = self.reader.number("a value")?;
                let at = self.reader.at();
                let value = number::double(text)
                    .ok_or_else(|| JsonError::new(at, "the number is too large"))?;
                self.wire.push(0x11);
                self.wire.extend_from_slice(&value.to_le_bytes());
            }
        }
        Ok(())
    }

    fn nested_value(&mut self) -> Result<(), JsonError> {
        let object = self.reader.peek() == b'{';
        self.wire.push(if object { 0x2a } else { 0x32 });
        let start = open(self.wire);
        if object {
            self.struct_value()?;
        } else {
            self.list_value()?;
        }
        close(self.wire, start);
        Ok(())
    }
}

fn text_form(known: WellKnown) -> &'static str {
    match known {
        WellKnown::Timestamp => "a time like \"2024-01-31T12:00:00Z\"",
        WellKnown::Duration => "a duration like \"1.5s\"",
        _ => "field paths like \"name,owner.email\"",
    }
}
