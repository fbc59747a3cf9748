//! What a backend answered: status, message and details out of headers and trailers, see "Responses" of
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. `grpc-message` is percent-decoded
//! leniently, as the specification asks; details that are not base64 are dropped rather than an outcome lost.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::{CallError, code};
use super::message::Assembly;
use crate::compression::Coding;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The outcome of a call, as the backend told it.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// gRPC status code, 0 to 16; anything else that a backend sends is UNKNOWN.
    pub code: u32,
    /// Text of the status.
    pub message: String,
    /// Decoded `grpc-status-details-bin`.
    pub details: Option<Bytes>,
    /// Metadata that came before the message, without what gRPC and HTTP themselves put there.
    pub headers: HeaderMap,
    /// Metadata that came with the status, likewise.
    pub trailers: HeaderMap,
    /// The message, without its prefix. Empty unless `code` is OK.
    pub body: Bytes,
}

/// Headers and trailers while they come in.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// The block that is being read, or the latest one.
    block: Block,
    /// The response headers, once trailers follow them.
    headers: HeaderMap,
    content_type: ContentType,
    /// What messages are encoded in, if that is known here.
    coding: Option<Coding>,
    /// How messages are encoded is metadata: it is not for us.
    relayed: bool,
}

/// What one block says.
#[derive(Debug, Default)]
struct Block {
    code: Option<u32>,
    message: String,
    details: Option<Bytes>,
    metadata: HeaderMap,
}

#[derive(Debug, Default)]
enum ContentType {
    #[default]
    Absent,
    Grpc,
    Other(String),
}

// === impl Reply ===

impl Reply {
    /// Whether the caller is to blame for the status: INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED,
    /// FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED.
    #[must_use]
    pub fn is_callers_own(&self) -> bool {
        matches!(self.code, 3 | 5 | 6 | 7 | 9..=12 | 16)
    }
}

// === impl Fields ===

impl Fields {
    pub(crate) fn new(relayed: bool) -> Self {
        Self {
            relayed,
            ..Self::default()
        }
    }

    /// As if nothing had come.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.relayed);
    }

    /// Takes a field that has a meaning of its own; false if it is metadata.
    pub(crate) fn take(&mut self, name: &[u8], value: &[u8]) -> bool {
        match name {
            b"grpc-status" => self.block.code = Some(parse_code(value)),
            b"grpc-message" => self.block.message = percent_decode(value).into_owned(),
            b"grpc-status-details-bin" => self.block.details = decode_binary(value),
            b"content-type" if is_grpc(value) => self.content_type = ContentType::Grpc,
            b"content-type" => {
                self.content_type = ContentType::Other(String::from_utf8_lossy(value).into_owned())
            }
            b"grpc-encoding" | b"grpc-accept-encoding" if self.relayed => return false,
            b"grpc-encoding" => self.coding = Coding::named(value),
            b"grpc-accept-encoding" => {}
            b"date" | b"server" | b"content-length" => {}
            _ => return false,
        }
        true
    }

    /// Takes metadata.
    pub(crate) fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.block.metadata.append(name, value);
    }

    /// What was read so far were the headers; trailers follow. A status among the headers stands only if
    /// the trailers have none.
    pub(crate) fn begin_trailers(&mut self) {
        self.headers = std::mem::take(&mut self.block.metadata);
    }

    /// Whether this answer carries gRPC at all. One with a status of its own does, whatever HTTP says.
    pub(crate) fn check_head(&self, status: u16) -> Result<(), CallError> {
        let content_type = match &self.content_type {
            ContentType::Grpc if status == 200 => return Ok(()),
            _ if self.block.code.is_some() => return Ok(()),
            ContentType::Absent => String::new(),
            ContentType::Grpc => "application/grpc".to_owned(),
            ContentType::Other(text) => text.clone(),
        };
        Err(CallError::NotGrpc {
            status,
            content_type,
            retry_after: self.block.metadata.get(RETRY_AFTER).cloned(),
        })
    }

    /// The whole answer. OK promises exactly one message.
    pub(crate) fn into_reply(self, message: Assembly) -> Result<Reply, CallError> {
        let coding = self.coding;
        let mut reply = self.into_end()?;
        if reply.code == code::OK {
            let message = message.finish()?;
            let message = message.ok_or(CallError::Malformed("status OK without a message"))?;
            reply.body = message.plain(coding)?;
        }
        Ok(reply)
    }

    /// The outcome, whatever messages came before it.
    pub(crate) fn into_end(self) -> Result<Reply, CallError> {
        let Block {
            code,
            message,
            details,
            metadata,
        } = self.block;
        let code = code.ok_or(CallError::NoStatus)?;
        let mut reply = Reply {
            code,
            headers: self.headers,
            trailers: metadata,
            ..Reply::default()
        };
        if code != code::OK {
            (reply.message, reply.details) = (message, details);
        }
        Ok(reply)
    }

    /// What messages are encoded in.
    pub(crate) fn coding(&self) -> Option<Coding> {
        self.coding
    }

    /// Metadata of the block that was read last.
    pub(crate) fn metadata(&self) -> &HeaderMap {
        &self.block.metadata
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    const WANTED: &[u8] = b"application/grpc";
    let Some((start, rest)) = content_type.split_at_checked(WANTED.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(WANTED) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

fn parse_code(text: &[u8]) -> u32 {
    match text {
        [digit @ b'0'..=b'9'] => u32::from(digit - b'0'),
        [b'1', digit @ b'0'..=b'6'] => u32::from(10 + digit - b'0'),
        _ => code::UNKNOWN,
    }
}

/// Broken escapes stand as they are, broken UTF-8 is replaced: a bad message must not hide the status.
fn percent_decode(text: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'%', text).is_none() {
        return String::from_utf8_lossy(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, tail @ ..])
                if let (Some(high), Some(low)) = (hex(*high), hex(*low)) =>
            {
                decoded.push(high << 4 | low);
                rest = tail;
            }
            _ => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Base64, padded or not. Several values in one header line are a list: the first one counts.
fn decode_binary(text: &[u8]) -> Option<Bytes> {
    let first = text.split(|byte| *byte == b',').next()?;
    BASE64.decode(first.trim_ascii()).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests;
