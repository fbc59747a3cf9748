//! The outcome of a call as gRPC tells it: `grpc-status`, `grpc-message`, `grpc-status-details-bin`. What fails in the
//! gateway has the same `ErrorInfo` that it has in JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::dialect::{Dialect, Spoken};
use super::{connect, web};
use crate::edge::Answer;
use crate::error::GatewayError;
use crate::upstream::{Reply, code};

pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const DOMAIN: &str = "highpress";

/// The trailers that tell of a reply, its metadata with them.
pub(super) fn trailers(mut reply: Reply) -> HeaderMap {
    let mut trailers = std::mem::take(&mut reply.trailers);
    tell(&Told::of(&reply), &mut trailers);
    trailers
}

/// Those fields of a failure's answer that are trailers once the answer has begun.
pub(super) fn trailers_of(told: &Answer) -> HeaderMap {
    let fields = told.headers.iter();
    let status = fields.filter(|(name, _)| [STATUS, MESSAGE, DETAILS].contains(name));
    status.cloned().collect()
}

/// A status that a client is told.
pub(super) struct Told<'a> {
    pub(super) code: u32,
    pub(super) message: Cow<'a, str>,
    /// A `google.rpc.Status` on the wire.
    pub(super) details: Option<Cow<'a, [u8]>>,
}

impl<'a> Told<'a> {
    /// That of a backend.
    pub(super) fn of(reply: &'a Reply) -> Self {
        Self {
            code: reply.code,
            message: Cow::Borrowed(&reply.message),
            details: reply.details.as_deref().map(Cow::Borrowed),
        }
    }

    /// That of a failure; the gateway's own say why in an `ErrorInfo`.
    pub(super) fn of_error(error: &'a GatewayError) -> Self {
        if let GatewayError::Backend(reply) = error {
            return Self::of(reply);
        }
        let (code, message) = (code_of(error), error.to_string());
        let details = details(code, &message, error.reason());
        Self {
            code,
            message: Cow::Owned(message),
            details: Some(Cow::Owned(details)),
        }
    }
}

/// A failure inside the gateway, as a client of gRPC is told of it: all of it in one head.
pub(crate) fn refusal(spoken: Spoken<'_>, error: &GatewayError) -> Answer {
    match spoken.dialect {
        Dialect::Connect => return connect::refusal(None, error),
        Dialect::ConnectStream => return connect::refusal(Some(spoken.content_type()), error),
        Dialect::Grpc | Dialect::Web | Dialect::WebText => {}
    }
    let told = Told::of_error(error);
    let mut status = HeaderMap::new();
    tell(&told, &mut status);
    only_status(spoken.content_type(), spoken.answer, status)
}

/// An answer that is a status and nothing else.
pub(super) fn only_status(
    content_type: HeaderValue,
    dialect: Dialect,
    status: HeaderMap,
) -> Answer {
    let mut body = Vec::new();
    if dialect != Dialect::Grpc {
        web::last_frame(dialect, &status, &mut body);
    }
    let mut answer = Answer::new(200, content_type, body);
    let mut last = None;
    for (name, value) in status {
        // A further value of a field comes without its name.
        last = name.or(last);
        answer
            .headers
            .extend(last.clone().map(|name| (name, value)));
    }
    answer
}

/// gRPC knows no paths, only methods that are not there.
fn code_of(error: &GatewayError) -> u32 {
    match error {
        GatewayError::NotFound(_) | GatewayError::MethodNotAllowed { .. } => code::UNIMPLEMENTED,
        error => error.code(),
    }
}

fn tell(told: &Told<'_>, fields: &mut HeaderMap) {
    fields.insert(STATUS, HeaderValue::from(told.code));
    let message = HeaderValue::try_from(percent_encoded(&told.message));
    if let Some(message) = message.ok().filter(|message| !message.is_empty()) {
        fields.insert(MESSAGE, message);
    }
    let details = told.details.as_ref();
    let details = details.map(|details| HeaderValue::try_from(STANDARD_NO_PAD.encode(details)));
    if let Some(Ok(details)) = details {
        fields.insert(DETAILS, details);
    }
}

/// Space to `~` stand for themselves, but for `%`.
fn percent_encoded(message: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                encoded.push('%');
                encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
                encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
            plain => encoded.push(char::from(plain)),
        }
    }
    encoded
}

/// A `google.rpc.Status` with an `ErrorInfo`, on the wire.
fn details(code: u32, message: &str, reason: &str) -> Vec<u8> {
    let (mut info, mut any, mut status) = (Vec::new(), Vec::new(), Vec::new());
    field(1, reason.as_bytes(), &mut info);
    field(2, DOMAIN.as_bytes(), &mut info);
    field(1, ERROR_INFO.as_bytes(), &mut any);
    field(2, &info, &mut any);
    status.push(1 << 3);
    varint(code as usize, &mut status);
    field(2, message.as_bytes(), &mut status);
    field(3, &any, &mut status);
    status
}

/// The types and bytes of the details in a `google.rpc.Status`; none of what is no status.
pub(super) fn details_of(status: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for (number, any) in fields_of(status) {
        if number == 3 {
            let (mut kind, mut value) = (String::new(), Vec::new());
            for (number, bytes) in fields_of(any) {
                match number {
                    1 => kind = String::from_utf8_lossy(bytes).into_owned(),
                    2 => value = bytes.to_vec(),
                    _ => {}
                }
            }
            found.push((kind, value));
        }
    }
    found
}

/// The fields of bytes of a message, as far as it can be read.
fn fields_of(mut wire: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let tag = read_varint(&mut wire)?;
            let length = match tag & 7 {
                0 => {
                    read_varint(&mut wire)?;
                    continue;
                }
                1 => 8,
                2 => usize::try_from(read_varint(&mut wire)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let (bytes, rest) = wire.split_at_checked(length)?;
            wire = rest;
            if tag & 7 == 2 {
                return Some((tag >> 3, bytes));
            }
        }
    })
}

fn read_varint(wire: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = wire.split_first()?;
        *wire = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("a b~%\n\u{e4}"), "a b~%25%0A%C3%A4");
    }

    #[test]
    fn failures_carry_what_json_would() {
        let spoken = Spoken::read(b"application/grpc", None, false).unwrap();
        let answer = refusal(spoken, &GatewayError::NotFound("/a.B/C".to_owned()));
        let value = |name: HeaderName| {
            let found = answer.headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        assert_eq!((answer.status, value(STATUS).as_deref()), (200, Some("12")));
        assert_eq!(value(MESSAGE).as_deref(), Some("no route takes /a.B/C"));
        let details = STANDARD_NO_PAD.decode(value(DETAILS).unwrap()).unwrap();
        let text = String::from_utf8_lossy(&details).into_owned();
        assert!(
            text.contains("NOT_FOUND") && text.contains(ERROR_INFO),
            "{text}"
        );
        assert!(answer.body.is_empty());
        let info = &details_of(&details)[0];
        assert_eq!(info.0, ERROR_INFO);
        assert_eq!(details_of(&[1, 2, 3]), []);
    }
}
