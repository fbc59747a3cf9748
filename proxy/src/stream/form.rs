//! The forms in which a stream of messages is JSON: a line each (NDJSON), one array, or events (SSE, the HTML
//! standard's server-sent events). A failure in the middle is told in the same form, as the last thing. The messages of a
//! WebSocket are JSON and nothing else.

use std::io::Write;

use http::HeaderValue;
use http::header::{CACHE_CONTROL, HeaderName};

use crate::edge::{Answer, Length};

/// What a client sees of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A message a line, `application/x-ndjson`.
    Ndjson,
    /// One JSON array, `application/json`.
    Array,
    /// `text/event-stream`, each message an event with a number.
    Sse,
    /// A message of a WebSocket.
    Message,
}

/// Media types by which clients ask for a form.
const TYPES: [(&str, Form); 6] = [
    ("text/event-stream", Form::Sse),
    ("application/x-ndjson", Form::Ndjson),
    ("application/ndjson", Form::Ndjson),
    ("application/jsonl", Form::Ndjson),
    ("application/x-json-stream", Form::Ndjson),
    ("application/json", Form::Array),
];

/// Nginx and its like hold streams back otherwise.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

impl Form {
    /// Its media type in an OpenAPI document.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Array | Self::Message => "application/json",
            Self::Sse => "text/event-stream",
        }
    }

    /// What the client takes best, and the route's own form if it has no preference (RFC 9110 section 12.5.1).
    pub(crate) fn wanted(accept: Option<&[u8]>, own: Self) -> Self {
        let accept = accept.and_then(|accept| std::str::from_utf8(accept).ok());
        let mut best = (0.0, own);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let known = TYPES
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            let Some((_, form)) = known else {
                continue;
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            let weight: f32 = weight.map_or(Some(1.0), |q| q.parse().ok()).unwrap_or(0.0);
            if weight > best.0 {
                best = (weight, *form);
            }
        }
        best.1
    }

    /// The word for it in the file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Array => "array",
            Self::Sse => "sse",
            Self::Message => "websocket",
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(self.media_type())
    }

    /// The answer that a stream begins with.
    pub(crate) fn answer(self) -> Answer {
        let mut answer = Answer::new(200, self.content_type(), Vec::new());
        if self == Self::Sse {
            answer
                .headers
                .push((CACHE_CONTROL, HeaderValue::from_static("no-cache")));
        }
        answer.headers.push(UNBUFFERED);
        answer
    }

    /// What a HEAD is told; nobody is asked for it.
    pub(crate) fn head(self) -> Answer {
        Answer {
            length: Length::Told(None),
            ..self.answer()
        }
    }

    /// Appends a message, of which `count` came before. `number` is that of the event.
    pub(crate) fn message(self, json: &[u8], count: u64, number: u64, out: &mut Vec<u8>) {
        match self {
            Self::Message => out.extend_from_slice(json),
            Self::Ndjson => {
                out.extend_from_slice(json);
                out.push(b'\n');
            }
            Self::Array => {
                out.push(if count == 0 { b'[' } else { b',' });
                out.extend_from_slice(json);
            }
            Self::Sse => {
                // Writing to memory cannot fail.
                let _ = writeln!(out, "id: {number}");
                event_data(json, out);
            }
        }
    }

    /// Appends a failure, as the last of the stream.
    pub(crate) fn failure(self, json: &[u8], count: u64, out: &mut Vec<u8>) {
        if self == Self::Sse {
            out.extend_from_slice(b"event: error\n");
            return event_data(json, out);
        }
        let mut item = Vec::with_capacity(json.len() + 12);
        item.extend_from_slice(b"{\"error\":");
        item.extend_from_slice(json);
        item.push(b'}');
        self.message(&item, count, 0, out);
        self.end(count + 1, out);
    }

    /// Appends what ends a stream of so many messages.
    pub(crate) fn end(self, count: u64, out: &mut Vec<u8>) {
        if self == Self::Array {
            out.extend_from_slice(if count == 0 { b"[]" } else { b"]" });
        }
    }

    /// What shows a client, and whoever stands between, that a stream without messages is alive.
    pub(crate) fn keep_alive(self) -> Option<&'static [u8]> {
        (self == Self::Sse).then_some(b": keep-alive\n\n")
    }
}

/// JSON has line breaks only between its tokens: each line is one of the event's data.
fn event_data(json: &[u8], out: &mut Vec<u8>) {
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(form: Form, messages: &[&str], failure: Option<&str>) -> String {
        let (mut out, mut count) = (Vec::new(), 0);
        for message in messages {
            form.message(message.as_bytes(), count, count + 1, &mut out);
            count += 1;
        }
        match failure {
            Some(failure) => form.failure(failure.as_bytes(), count, &mut out),
            None => form.end(count, &mut out),
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn each_form_is_what_its_readers_expect() {
        assert_eq!(stream(Form::Ndjson, &["{}", "1"], None), "{}\n1\n");
        assert_eq!(stream(Form::Array, &["{}", "1"], None), "[{},1]");
        assert_eq!(stream(Form::Array, &[], None), "[]");
        assert_eq!(
            stream(Form::Sse, &["{}", "1"], None),
            "id: 1\ndata: {}\n\nid: 2\ndata: 1\n\n"
        );
    }

    #[test]
    fn a_failure_is_the_last_thing_in_every_form() {
        let lines = "1\n{\"error\":{\"code\":13}}\n";
        assert_eq!(stream(Form::Ndjson, &["1"], Some("{\"code\":13}")), lines);
        for (messages, expected) in [
            (&[][..], "[{\"error\":{}}]"),
            (&["1"][..], "[1,{\"error\":{}}]"),
        ] {
            assert_eq!(stream(Form::Array, messages, Some("{}")), expected);
        }
        let event = "event: error\ndata: {\ndata: }\n\n";
        assert_eq!(stream(Form::Sse, &[], Some("{\n}")), event);
    }

    #[test]
    fn the_client_chooses_if_it_has_a_preference() {
        let wanted = |accept: &str| Form::wanted(Some(accept.as_bytes()), Form::Ndjson);
        assert_eq!(wanted("text/event-stream"), Form::Sse);
        assert_eq!(wanted("*/*"), Form::Ndjson);
        assert_eq!(wanted("application/json, text/plain, */*"), Form::Array);
        assert_eq!(
            wanted("application/json;q=0.5, Text/Event-Stream;q=0.6"),
            Form::Sse
        );
        assert_eq!(wanted("application/json;q=0"), Form::Ndjson);
        assert_eq!(wanted("application/json;q=nonsense"), Form::Ndjson);
        assert_eq!(Form::wanted(None, Form::Sse), Form::Sse);
    }
}
