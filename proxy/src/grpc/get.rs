//! Connect's unary calls by GET, for methods that change nothing: the message stands in the query, so that caches on the way
//! can keep answers. Specification: <https://connectrpc.com/docs/protocol#unary-get-request>.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::Method;

use super::connect::refused;
use crate::edge::Head;
use crate::route_table::form_decoded;
use crate::stream::Ended;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What the query of such a call says.
pub(super) struct Get {
    /// The message, compressed or not.
    pub(super) message: Bytes,
    /// What it is compressed with.
    pub(super) coding: Option<String>,
}

/// Whether a request is such a call, whatever its row is.
pub(crate) fn is_get(head: &Head) -> bool {
    *head.method() == Method::GET && value(head, "connect").as_deref() == Some(b"v1")
}

/// How the message is encoded, `proto` or `json`.
pub(super) fn encoding(head: &Head) -> Option<Vec<u8>> {
    value(head, "encoding")
}

impl Get {
    /// Reads the query of a GET; nothing of other methods.
    pub(super) fn of(head: &Head) -> Result<Option<Self>, Ended> {
        if *head.method() != Method::GET {
            return Ok(None);
        }
        let message = value(head, "message").ok_or(refused("the query has no `message`"))?;
        let message = match value(head, "base64").as_deref() {
            Some(b"1") => {
                let text = message.iter().map(|byte| match byte {
                    b'+' | b' ' => b'-',
                    b'/' => b'_',
                    other => *other,
                });
                let text: Vec<u8> = text.collect();
                let decoded = BASE64.decode(text);
                decoded.map_err(|_| refused("the `message` of the query is not base64"))?
            }
            _ => message,
        };
        let coding = value(head, "compression");
        let coding = coding.and_then(|coding| String::from_utf8(coding).ok());
        Ok(Some(Self {
            message: message.into(),
            coding,
        }))
    }
}

/// The value of a parameter of the query, decoded.
fn value(head: &Head, name: &str) -> Option<Vec<u8>> {
    let mut pairs = head.query()?.split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(form_decoded(value))
}
