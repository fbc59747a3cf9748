//! Failures as clients see them: status and body by the route's profile, and the headers that go with them.
//!
//! Every failure carries `x-request-id` (the caller's own if it sent one), 405 its `Allow`, and whatever can be
//! tried again later `Retry-After`. What is not the caller's fault is logged with that id.

use std::borrow::Cow;
use std::cell::RefCell;

use http::header::{ACCEPT_ENCODING, ALLOW, RETRY_AFTER, SEC_WEBSOCKET_VERSION};
use http::{HeaderName, HeaderValue};
use mesh_config::model::ResponseMetadata;
use transcode::Errors;

use crate::edge::{Answer, Head, Headers, Refusal};
use crate::error::{Blame, GatewayError};
use crate::grpc::{self, CONNECT_VERSION, Spoken};
use crate::metadata;
use crate::route_table::{Row, Target};
use crate::upstream::Reply;

/// The header that ties an answer to a line in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a failure's wording and its line in the log need of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The raw path.
    pub path: &'a str,
    /// The caller's `x-request-id`.
    pub id: Option<&'a [u8]>,
    /// The caller's `accept`.
    pub accept: Option<&'a [u8]>,
    /// The caller's `content-type`: clients of gRPC are told as gRPC tells it.
    pub content_type: Option<&'a [u8]>,
    /// It speaks Connect.
    pub connects: bool,
}

impl<'a> From<&'a Head> for Asked<'a> {
    fn from(head: &'a Head) -> Self {
        let by_get = grpc::is_get(head);
        Self {
            method: head.method().as_str(),
            path: head.path(),
            id: head.header("x-request-id"),
            accept: head.header("accept"),
            content_type: match by_get {
                true => Some(b"application/json"),
                false => head.header("content-type"),
            },
            connects: by_get || head.header(CONNECT_VERSION).is_some(),
        }
    }
}

/// The answer to a request that failed. `row`: in whose shape; without one, the standard profile's.
pub(crate) fn failed(row: Option<&Row>, asked: Asked<'_>, error: &GatewayError) -> Answer {
    let id = request_id(asked.id);
    let only_grpc = |row: &Row| matches!(row.target, Target::Grpc(_));
    let connects = asked.connects || row.is_some_and(only_grpc);
    let spoken = asked
        .content_type
        .and_then(|kind| Spoken::read(kind, asked.accept, connects));
    let mut answer = match spoken {
        Some(spoken) => grpc::refusal(spoken, error),
        None => worded(row, asked.accept.is_some_and(problem_only), error),
    };
    if let Ok(id) = HeaderValue::from_bytes(id.as_bytes()) {
        answer.headers.push((REQUEST_ID, id));
    }
    if let (GatewayError::Backend(reply), Some(row), None) = (error, row, spoken) {
        told_by_backend(row, reply, &mut answer.headers);
    }
    log(row, asked, &id, answer.status, error);
    answer
}

/// Adds what a backend said beside its status; what the gateway itself says stands.
fn told_by_backend(row: &Row, reply: &Reply, headers: &mut Headers) {
    let Some(transcoded) = row.transcoded() else {
        return;
    };
    let mut told = Headers::new();
    let entries = (&reply.headers, &reply.trailers);
    metadata::returning(transcoded.returning, &[], entries, &mut told);
    told.retain(|(name, _)| !headers.iter().any(|(known, _)| known == name));
    headers.append(&mut told);
}

/// The answer to what could not be read as a request.
pub(crate) fn headless(error: &GatewayError) -> Answer {
    worded(None, false, error)
}

/// The answer to OPTIONS where no rule takes it (RFC 9110 section 9.3.7).
pub(crate) fn methods(allow: &str) -> Answer {
    let mut answer = Answer {
        status: 204,
        ..Answer::default()
    };
    if let Ok(allow) = HeaderValue::from_str(&format!("{allow}, OPTIONS")) {
        answer.headers.push((ALLOW, allow));
    }
    answer
}

/// The answer when a row is asked for that its table does not have, which the compiler cannot rule out.
pub(crate) fn lost_row() -> Answer {
    Answer {
        status: 500,
        ..Answer::default()
    }
}

/// The answer itself, without the headers that tie it to the log.
pub(crate) fn worded(row: Option<&Row>, problem: bool, error: &GatewayError) -> Answer {
    let message = Cow::Owned(error.to_string());
    let failure = error.failure(&message);
    let mut body = Vec::with_capacity(256);
    let standard;
    let shape = match row.and_then(Row::shape) {
        Some(shape) => shape,
        None => {
            standard = Errors::standard();
            &standard
        }
    };
    let (status, content_type) = shape.write(&failure, problem, &mut body);
    let content_type = HeaderValue::from_str(content_type).unwrap_or(JSON);
    let mut answer = Answer::new(status, content_type, body);
    if let GatewayError::MethodNotAllowed { allow, .. } = error
        && let Ok(allow) = HeaderValue::from_str(allow)
    {
        answer.headers.push((ALLOW, allow));
    }
    if let GatewayError::UnknownCoding = error {
        let known = HeaderValue::from_static("gzip, br, zstd");
        answer.headers.push((ACCEPT_ENCODING, known));
    }
    if let GatewayError::Refused(Refusal::WebSocketVersion) = error {
        let known = HeaderValue::from_static("13");
        answer.headers.push((SEC_WEBSOCKET_VERSION, known));
    }
    if matches!(status, 429 | 503) && !backend_told(row, error) {
        answer
            .headers
            .push((RETRY_AFTER, HeaderValue::from(error.retry_after())));
    }
    answer
}

/// Whether the backend itself said when to come again, and the client gets to hear it.
fn backend_told(row: Option<&Row>, error: &GatewayError) -> bool {
    let returns = |row: &Row| {
        let transcoded = row.transcoded();
        transcoded.is_some_and(|it| it.returning == ResponseMetadata::Headers)
    };
    let says = |reply: &Reply| {
        [&reply.headers, &reply.trailers]
            .iter()
            .any(|fields| fields.contains_key(RETRY_AFTER))
    };
    matches!(error, GatewayError::Backend(reply) if says(reply)) && row.is_some_and(returns)
}

/// Whether the client takes `application/problem+json` and no other JSON.
fn problem_only(accept: &[u8]) -> bool {
    let types = || {
        accept
            .split(|b| *b == b',')
            .map(|kind| kind.split(|b| *b == b';').next().unwrap_or_default())
    };
    let takes = |names: &[&[u8]]| {
        types().any(|kind| {
            names
                .iter()
                .any(|name| kind.trim_ascii().eq_ignore_ascii_case(name))
        })
    };
    takes(&[b"application/problem+json"])
        && !takes(&[b"application/json", b"application/*", b"*/*"])
}

/// The caller's id if it is one line of visible text, or a new one.
pub(crate) fn request_id(sent: Option<&[u8]>) -> Cow<'_, str> {
    let usable =
        |id: &&[u8]| !id.is_empty() && id.len() <= 128 && id.iter().all(u8::is_ascii_graphic);
    match sent
        .filter(usable)
        .and_then(|id| std::str::from_utf8(id).ok())
    {
        Some(id) => Cow::Borrowed(id),
        None => Cow::Owned(fresh_id()),
    }
}

fn fresh_id() -> String {
    thread_local! {
        static RANDOM: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::new());
    }
    RANDOM.with_borrow_mut(|random| format!("{:032x}", random.u128(..)))
}

fn log(row: Option<&Row>, asked: Asked<'_>, id: &str, status: u16, error: &GatewayError) {
    let route = row.map_or("", |row| &*row.route);
    let (Asked { method, path, .. }, reason) = (asked, error.reason());
    match error.blame() {
        Blame::Caller | Blame::Load => {
            tracing::debug!(%method, path, route, status, reason, id, %error, "refused")
        }
        Blame::Upstream if error.is_callers_own() => {
            tracing::debug!(%method, path, route, status, reason, id, %error, "failed by the caller's input");
        }
        Blame::Upstream | Blame::Gateway => {
            tracing::warn!(%method, path, route, status, reason, id, %error, "failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_json_is_for_those_who_take_nothing_else() {
        assert!(problem_only(b"application/problem+json"));
        assert!(problem_only(b"text/html, Application/Problem+JSON;q=0.9"));
        assert!(!problem_only(b"application/problem+json, application/json"));
        assert!(
            !problem_only(b"*/*")
                && !problem_only(b"")
                && !problem_only(b"application/problem+json,*/*;q=0.1")
        );
    }

    #[test]
    fn a_callers_id_is_kept_if_it_is_fit_to_be_logged() {
        assert_eq!(request_id(Some(b"abc-1")), "abc-1");
        let long = [b'a'; 129];
        for unfit in [
            None,
            Some(&b""[..]),
            Some(b"a b"),
            Some(b"a\nb"),
            Some(&long),
        ] {
            assert_eq!(request_id(unfit).len(), 32);
        }
        assert_ne!(request_id(None), request_id(None));
    }
}
