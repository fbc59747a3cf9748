//! `google.protobuf.Any` from JSON: the type is in the member `@type`, which may stand anywhere in the object.

use super::Encoder;
use crate::error::JsonError;
use crate::json::reader::{Reader, Str};
use crate::options::UnknownFields;
use crate::schema::{MessageId, WellKnown};
use crate::wire::{close, open};

impl<'a> Encoder<'a, '_> {
    pub(super) fn any(&mut self) -> Result<(), JsonError> {
        self.enter()?;
        let mut members = self.reader;
        members.expect(b'{', "an object")?;
        if members.eat(b'}') {
            self.reader = members;
            self.depth -= 1;
            return Ok(());
        }
        let url = type_url(members, self.depth)?;
        let message = self.any_type(url)?;
        self.wire.push(0x0a);
        self.put_string(url)?;
        let before = self.wire.len();
        self.wire.push(0x12);
        let start = open(self.wire);
        let table = self.tables.message(message);
        match table.well_known {
            None => self.object(table, true)?,
            Some(known) => self.any_value(message, known)?,
        }
        if self.wire.len() == start {
            self.wire.truncate(before);
        } else {
            close(self.wire, start);
        }
        self.depth -= 1;
        Ok(())
    }

    fn any_type(&mut self, url: Str<'a>) -> Result<MessageId, JsonError> {
        let text = String::from_utf8_lossy(url.text(&mut self.scratch)?);
        let name = text.rsplit_once('/').map(|(_, name)| name);
        let message = name.and_then(|name| self.schema.message(name));
        message.ok_or_else(|| {
            JsonError::new(url.offset, format!("the type {text:?} is not known")).inside("@type")
        })
    }

    /// A message with a JSON form of its own stands in the member `value`.
    fn any_value(&mut self, message: MessageId, known: WellKnown) -> Result<(), JsonError> {
        self.reader.expect(b'{', "an object")?;
        let mut found = known == WellKnown::Empty;
        loop {
            let name = self.reader.string("a name in quotes")?;
            let text = name.text(&mut self.scratch)?;
            let (is_type, is_value) = (text == b"@type", text == b"value");
            self.reader.expect(b':', "a colon")?;
            if is_value {
                found = true;
                self.body(message).map_err(|error| error.inside("value"))?;
            } else if is_type || self.options.unknown_fields == UnknownFields::Ignore {
                self.reader.skip(self.depth)?;
            } else {
                return Err(JsonError::new(
                    name.offset,
                    "beside @type there is only value",
                ));
            }
            if !self.reader.more(b'}')? {
                break;
            }
        }
        if found {
            Ok(())
        } else {
            Err(JsonError::new(
                self.reader.at(),
                "value is missing beside @type",
            ))
        }
    }
}

/// The member `@type` of an object that has been opened.
fn type_url<'a>(mut members: Reader<'a>, depth: u32) -> Result<Str<'a>, JsonError> {
    loop {
        let name = members.string("a name in quotes")?;
        let is_type = name.text(&mut Vec::new())? == b"@type";
        members.expect(b':', "a colon")?;
        if is_type {
            return members.string("a type URL");
        }
        members.skip(depth)?;
        if !members.more(b'}')? {
            return Err(JsonError::new(members.at(), "@type is missing"));
        }
    }
}
