//! Which headers of a call of gRPC reach the backend: all, but for what belongs to the client's connection, what the
//! gateway says itself, and what only it may say.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::dialect::Spoken;
use crate::edge::{Head, Headers};
use crate::metadata::{self, Metadata};
use crate::route_table::Row;
use crate::upstream::CallPolicy;

/// Headers that end here: of the connection, of the framing, and those that the upstream side writes itself.
const OURS: [&str; 16] = [
    "connection",
    "connect-timeout-ms",
    "content-length",
    "content-type",
    "expect",
    "grpc-timeout",
    "host",
    "http2-settings",
    "idempotency-key-origin",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-timeout",
];

/// The metadata of a call, its content type first.
pub(super) fn metadata(
    row: &Row,
    policy: &CallPolicy,
    head: &Head,
    spoken: Spoken<'_>,
) -> Metadata {
    let mut metadata = Metadata::new();
    let kind = HeaderValue::try_from(format!("application/grpc{}", spoken.encoding));
    let grpc = HeaderValue::from_static("application/grpc");
    metadata.push((CONTENT_TYPE, kind.unwrap_or(grpc)));
    metadata.extend(head.end_to_end().filter_map(|(name, value)| {
        let name = HeaderName::from_lowercase(name).ok()?;
        let value = HeaderValue::from_bytes(value).ok()?;
        (!OURS.contains(&name.as_str())).then_some((name, value))
    }));
    row.policies.shaping.metadata(&mut metadata);
    if let Some(key) = policy.own_key(&metadata) {
        key.into_iter().for_each(|entry| metadata.push(entry));
    }
    metadata
}

/// The metadata of a call of Connect, without what is Connect's and the client's own of HTTP.
pub(super) fn of_connect(
    row: &Row,
    policy: &CallPolicy,
    head: &Head,
    spoken: Spoken<'_>,
) -> Metadata {
    const HTTPS: [HeaderName; 5] = [
        CONTENT_TYPE,
        http::header::USER_AGENT,
        http::header::ACCEPT,
        http::header::ACCEPT_ENCODING,
        http::header::CONTENT_ENCODING,
    ];
    let mut metadata = metadata(row, policy, head, spoken);
    let connects = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("connect-") || name.starts_with("grpc-")
    };
    metadata.retain(|(name, _)| !HTTPS.contains(name) && !connects(name));
    metadata
}

/// The metadata that precedes the messages of an answer, as its headers.
pub(super) fn headers(spoken_type: HeaderValue, metadata: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    headers.push((CONTENT_TYPE, spoken_type));
    headers.extend(
        metadata
            .iter()
            .filter(|(name, _)| !metadata::is_connections(name))
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    headers
}
