//! What a backend answered: status, message and details out of headers and trailers, see "Responses" of
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. `grpc-message` is percent-decoded
//! leniently, as the specification asks; details that are not base64 are dropped rather than an outcome lost.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, StatusCode};

use super::error::{CallError, code};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
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
    /// Headers; those of a trailers-only answer are in `trailers`.
    pub headers: HeaderMap,
    /// Trailers, the status among them.
    pub trailers: HeaderMap,
    /// The message, without its prefix. Empty unless `code` is OK.
    pub body: Bytes,
}

// === impl Reply ===

impl Reply {
    /// A reply out of the block that holds its status.
    pub(crate) fn new(headers: HeaderMap, trailers: HeaderMap) -> Result<Self, CallError> {
        let status = trailers.get(&STATUS).ok_or(CallError::NoStatus)?;
        let code = parse_code(status.as_bytes());
        if code == code::OK {
            return Ok(Self {
                headers,
                trailers,
                ..Self::default()
            });
        }
        let message = trailers
            .get(&MESSAGE)
            .map(|text| percent_decode(text.as_bytes()))
            .unwrap_or_default();
        let details = trailers
            .get(&DETAILS)
            .and_then(|text| decode_binary(text.as_bytes()));
        Ok(Self {
            code,
            message: message.into_owned(),
            details,
            headers,
            trailers,
            body: Bytes::new(),
        })
    }
}

/// Whether this answer carries gRPC at all. One with a status of its own does, whatever HTTP says.
pub(crate) fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<(), CallError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    if headers.contains_key(STATUS) || (status == StatusCode::OK && is_grpc(content_type)) {
        return Ok(());
    }
    let content_type = String::from_utf8_lossy(content_type).into_owned();
    Err(CallError::NotGrpc {
        status: status.as_u16(),
        content_type,
    })
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
