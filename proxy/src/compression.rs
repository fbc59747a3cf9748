//! Bodies in content codings (RFC 9110 section 8.4): answers that are worth it in the one that the client likes best, of
//! gzip, br and zstd; requests as gzip, br or zstd, decoded within the same limit as if they had come plain.
//!
//! Refused: unknown codings and several on top of each other (415), what decodes to more than the limit (413), before
//! more than that is decoded.

mod coding;
mod flow;

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method};

pub(crate) use self::coding::{Coding, DecodeError};
pub(crate) use self::flow::Flow;

use crate::edge::{Answer, Head, Length, Refusal};
use crate::error::GatewayError;

/// Smaller answers fit into one packet or two anyway.
pub(crate) const WORTH: usize = 1024;

/// Encodes an answer if the client wants that and it is worth it.
pub(crate) fn encode(head: &Head, answer: &mut Answer) {
    let short = answer.body.len() < WORTH;
    if short || !Answered::of(answer).is_worth_it() || *head.method() == Method::HEAD {
        return;
    }
    let vary = HeaderValue::from_static("accept-encoding");
    answer.headers.push((VARY, vary));
    let wanted = head.header("accept-encoding").and_then(Coding::wanted);
    let Some(coding) = wanted.filter(|_| answer.length == Length::OfBody) else {
        return;
    };
    // Writing to memory does not fail; an answer that is not encoded is one all the same.
    if let Ok(encoded) = coding.encode(&answer.body)
        && encoded.len() < answer.body.len()
    {
        answer.body = encoded;
        let name = HeaderValue::from_static(coding.as_str());
        answer.headers.push((CONTENT_ENCODING, name));
    }
}

/// What the pieces of an answer that goes on are encoded by, if the client wants that and it is worth it.
pub(crate) fn flow(head: &Head, answer: &mut Answer) -> Option<Flow> {
    let answered = Answered::of(answer);
    let chosen = flow_for(&answered, head.header("accept-encoding"))?;
    let vary = HeaderValue::from_static("accept-encoding");
    answer.headers.push((VARY, vary));
    let (name, flow) = chosen?;
    let name = HeaderValue::from_static(name);
    answer.headers.push((CONTENT_ENCODING, name));
    Some(flow)
}

/// What an answer's pieces are encoded by, and how that is called. `Some(None)`: another client might have got it encoded.
pub(crate) fn flow_for(
    answered: &Answered<'_>,
    accept: Option<&[u8]>,
) -> Option<Option<(&'static str, Flow)>> {
    if !answered.is_worth_it() {
        return None;
    }
    let coding = accept.and_then(Coding::wanted);
    let flow = coding.and_then(|coding| Some((coding.as_str(), Flow::new(coding).ok()?)));
    Some(flow)
}

/// The body of a request without its coding, of which there may be `most` bytes.
pub(crate) fn decode<'b>(
    head: &Head,
    body: &'b [u8],
    most: usize,
) -> Result<Cow<'b, [u8]>, GatewayError> {
    let Some(name) = head.header("content-encoding") else {
        return Ok(Cow::Borrowed(body));
    };
    if name.is_empty() || name.eq_ignore_ascii_case(b"identity") || body.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    decoded(name, body, most).map(Cow::Owned)
}

/// What was encoded as `name` says, of which there may be `most` bytes.
pub(crate) fn decoded(name: &[u8], body: &[u8], most: usize) -> Result<Vec<u8>, GatewayError> {
    let coding = Coding::named(name).ok_or(GatewayError::UnknownCoding)?;
    coding.decode(body, most).map_err(|why| match why {
        DecodeError::TooLarge(_) => GatewayError::Refused(Refusal::BodyTooLarge),
        DecodeError::Broken(..) => GatewayError::Elements(why.to_string()),
    })
}

/// What an answer is, as far as it matters to its coding.
pub(crate) struct Answered<'a> {
    pub(crate) kind: Option<&'a HeaderValue>,
    pub(crate) coding: Option<&'a HeaderValue>,
    /// Of its body, if that is known.
    pub(crate) length: Option<usize>,
}

impl<'a> Answered<'a> {
    fn of(answer: &'a Answer) -> Self {
        let value = |name| {
            let mut headers = answer.headers.iter();
            let found = headers.find(|(known, _)| *known == name);
            found.map(|(_, value)| value)
        };
        Self {
            kind: value(CONTENT_TYPE),
            coding: value(CONTENT_ENCODING),
            length: None,
        }
    }

    /// Whether it is text, or a message, that nobody has encoded yet, and that is not short.
    fn is_worth_it(&self) -> bool {
        // Their messages are encoded one by one, if at all.
        const FRAMED: [&[u8]; 2] = [b"application/grpc", b"application/connect+"];
        let kind = self.kind.map(HeaderValue::as_bytes).unwrap_or_default();
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
        let kind = kind.trim_ascii();
        let is_text = kind.starts_with(b"text/")
            || kind.ends_with(b"json")
            || kind.ends_with(b"xml")
            || kind == b"application/proto"
            || kind == b"application/javascript";
        is_text
            && self.coding.is_none()
            && self.length.is_none_or(|length| length >= WORTH)
            && !FRAMED.iter().any(|start| kind.starts_with(start))
    }
}
