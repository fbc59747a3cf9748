//! One call as it is received: response headers, message, trailers, put together into a reply as they come.
//! Refused: a message before headers, headers in the middle, names in capitals and pseudo headers that no
//! response has (RFC 9113 section 8.1 to 8.3).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::error::{CallError, code};
use super::super::message::Assembly;
use super::super::reply::{Fields, Reply};
use crate::compression::Coding;

/// What has been received so far.
#[derive(Debug)]
pub(super) struct Exchange {
    status: Option<u16>,
    fields: Fields,
    message: Assembly,
    /// The final response headers are there.
    answered: bool,
    malformed: Option<&'static str>,
}

// === impl Exchange ===

impl Exchange {
    /// Nothing yet; a message may have `limit` bytes. `relayed`: somebody else reads what the messages are encoded with.
    pub(super) fn new(limit: usize, relayed: bool) -> Self {
        Self {
            status: None,
            fields: Fields::new(relayed),
            message: Assembly::new(limit),
            answered: false,
            malformed: None,
        }
    }

    /// Whether the final response headers are there.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// A block of headers begins.
    pub(super) fn begin_block(&mut self) {
        if self.answered {
            self.fields.begin_trailers();
        }
        self.status = None;
    }

    /// One of its fields.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if let Err(why) = self.try_field(name, value) {
            self.malformed.get_or_insert(why);
        }
    }

    fn try_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name == b":status" {
            let digits = std::str::from_utf8(value)
                .ok()
                .filter(|text| text.len() == 3);
            let status = digits
                .and_then(|text| text.parse().ok())
                .ok_or("a status that is none")?;
            let first = self.status.replace(status).is_none() && !self.answered;
            return if first {
                Ok(())
            } else {
                Err("a status too many")
            };
        }
        if name.first() == Some(&b':') {
            return Err("a pseudo header that no response has");
        }
        if self.fields.take(name, value) {
            return Ok(());
        }
        let name = HeaderName::from_lowercase(name).map_err(|_| "a header's name that is none")?;
        let value = HeaderValue::from_bytes(value).map_err(|_| "a header's value that is none")?;
        self.fields.append(name, value);
        Ok(())
    }

    /// The block is complete. `end`: the stream ends with it.
    pub(super) fn end_block(&mut self, end: bool, too_large: bool) -> Result<(), CallError> {
        if too_large {
            return Err(CallError::Malformed("more headers than are accepted"));
        }
        if let Some(why) = self.malformed {
            return Err(CallError::Malformed(why));
        }
        match (self.answered, self.status) {
            (true, _) if end => Ok(()),
            (true, _) => Err(CallError::Malformed("headers in the middle of the answer")),
            (false, None) => Err(CallError::Malformed("headers without a status")),
            (false, Some(100..=199)) if !end => {
                self.fields.forget();
                Ok(())
            }
            (false, Some(status)) => {
                self.answered = true;
                self.fields.check_head(status)
            }
        }
    }

    /// A piece of the message.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        self.may_have_data()?;
        self.message.push(bytes)
    }

    /// Whether it is time for messages.
    pub(super) fn may_have_data(&self) -> Result<(), CallError> {
        if self.answered {
            return Ok(());
        }
        Err(CallError::Malformed("a message before the headers"))
    }

    /// The stream has ended.
    pub(super) fn finish(self) -> Result<Reply, CallError> {
        self.fields.into_reply(self.message)
    }

    /// The stream has ended, whose messages were taken as they came. `whole`: none of them is cut short.
    pub(super) fn finish_stream(self, whole: bool) -> Result<Reply, CallError> {
        let reply = self.fields.into_end()?;
        if reply.code == code::OK && !whole {
            return Err(CallError::Malformed("the message is cut short"));
        }
        Ok(reply)
    }

    /// What messages are encoded in, where they are.
    pub(super) fn coding(&self) -> Option<Coding> {
        self.fields.coding()
    }

    /// The metadata of the response headers, while no trailers have come.
    pub(super) fn metadata(&self) -> &HeaderMap {
        self.fields.metadata()
    }
}
