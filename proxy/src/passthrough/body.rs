//! What is done to answers that are passed through where the route wants it: the words for browsers, and compression piece by
//! piece. Never touched: ranges, answers that say `no-transform`, and those that are encoded already.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, ETAG, ORIGIN, TRANSFER_ENCODING, VARY,
};
use http::{HeaderName, HeaderValue, Method, Version};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::Pass;
use crate::compression::{Answered, Flow, flow_for};
use crate::cors;

/// A request's body of up to so many bytes comes in one go: the deadline that backends hear of is not moved by waiting for it.
const SHORT: u64 = 64 * 1024;

/// Whether no more of a request's body is to come, or little.
pub(super) fn is_short(session: &mut Session) -> bool {
    let length = session.req_header().headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length <= SHORT) || session.as_mut().is_body_done()
}

/// The site whose script asks.
pub(super) fn origin(session: &Session) -> Option<&[u8]> {
    let origin = session.req_header().headers.get(ORIGIN);
    origin.map(HeaderValue::as_bytes)
}

/// Collects header lines for an answer of pingora's.
struct Lines<'r>(&'r mut ResponseHeader);

impl Extend<(HeaderName, HeaderValue)> for Lines<'_> {
    fn extend<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, lines: T) {
        for (name, value) in lines {
            // A head takes a few lines more.
            let _ = self.0.append_header(name, value);
        }
    }
}

impl Pass {
    /// The last touches to the head of an answer.
    pub(super) fn finish_head(&mut self, session: &Session, response: &mut ResponseHeader) {
        let Some(row) = self.row() else {
            return;
        };
        if let Some(cors) = &row.policies.cors {
            for name in cors::OURS {
                response.remove_header(&name);
            }
            cors.answer(origin(session), &mut Lines(response));
        }
        if row.policies.compression {
            self.flow = compressed(session, response);
        }
    }

    /// Encodes a piece of the answer's body, where that is done here.
    pub(super) fn encode(&mut self, piece: &mut Option<Bytes>, last: bool) {
        let Some(flow) = &mut self.flow else {
            return;
        };
        let mut out = Vec::new();
        // Writing to memory does not fail.
        if let Some(piece) = piece.as_ref().filter(|piece| !piece.is_empty()) {
            out = flow.push(piece).unwrap_or_default();
        }
        if last && let Some(flow) = self.flow.take() {
            out.extend(flow.finish().unwrap_or_default());
        }
        *piece = (!out.is_empty() || piece.is_some()).then(|| out.into());
    }
}

/// What encodes an answer's body, and its head changed for that; nothing if it stays as it is.
fn compressed(session: &Session, response: &mut ResponseHeader) -> Option<Flow> {
    let request = session.req_header();
    let keeps = |name: &HeaderName, word: &str| {
        let mut lines = response.headers.get_all(name).iter();
        lines.any(|line| line.to_str().is_ok_and(|line| line.contains(word)))
    };
    let has_body = response.status.is_success() && !matches!(response.status.as_u16(), 204..=206);
    if !has_body
        || request.method == Method::HEAD
        || request.version < Version::HTTP_11
        || keeps(&CACHE_CONTROL, "no-transform")
        || response.headers.contains_key("content-range")
    {
        return None;
    }
    let length = response.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let answered = Answered {
        kind: response.headers.get(http::header::CONTENT_TYPE),
        coding: response.headers.get(http::header::CONTENT_ENCODING),
        length,
    };
    let accept = request.headers.get(http::header::ACCEPT_ENCODING);
    let chosen = flow_for(&answered, accept.map(HeaderValue::as_bytes))?;
    let mut lines = Lines(response);
    lines.extend([(VARY, HeaderValue::from_static("accept-encoding"))]);
    let (name, flow) = chosen?;
    lines.extend([(
        http::header::CONTENT_ENCODING,
        HeaderValue::from_static(name),
    )]);
    if request.version == Version::HTTP_11 {
        lines.extend([(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))]);
    }
    response.remove_header(&CONTENT_LENGTH);
    response.remove_header(&ACCEPT_RANGES);
    response.remove_header("content-md5");
    weaken(response);
    Some(flow)
}

/// The bytes are others, the meaning is the same (RFC 9110 section 8.8.1).
fn weaken(response: &mut ResponseHeader) {
    let strong = response.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    let weak = strong
        .filter(|tag| !tag.starts_with("W/"))
        .map(|tag| format!("W/{tag}"));
    if let Some(weak) = weak {
        // As above.
        let _ = response.insert_header(ETAG, weak);
    }
}
