//! How a connection of HTTP/1.1 becomes a WebSocket (RFC 6455 section 4.2). Refused: other versions than 13, and keys that are none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use sha1::{Digest, Sha1};

use crate::edge::Headers;
use crate::edge::head::Head;
use crate::edge::refusal::Refusal;

/// What every server appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const VERSION: &[u8] = b"13";
/// Bytes of a key.
const KEY: usize = 16;

/// The head that says yes, with these lines more.
pub(in crate::edge) fn accepted(head: &Head, headers: &Headers) -> Result<Vec<u8>, Refusal> {
    if head.header("sec-websocket-version") != Some(VERSION) {
        return Err(Refusal::WebSocketVersion);
    }
    let key = head.header("sec-websocket-key").unwrap_or_default();
    if STANDARD.decode(key).map(|key| key.len()) != Ok(KEY) {
        return Err(Refusal::BadRequest("the Sec-WebSocket-Key is no key"));
    }
    let accept = HeaderValue::try_from(accept(key));
    let accept = accept.map_err(|_| Refusal::BadRequest("the Sec-WebSocket-Key is no key"))?;
    let own = [
        (
            HeaderName::from_static("upgrade"),
            HeaderValue::from_static("websocket"),
        ),
        (
            http::header::CONNECTION,
            HeaderValue::from_static("Upgrade"),
        ),
        (http::header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let mut out = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in own.iter().chain(headers) {
        let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
        line.iter().for_each(|part| out.extend_from_slice(part));
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
