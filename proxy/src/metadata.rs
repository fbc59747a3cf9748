//! Which request headers become gRPC metadata, and how long the caller is willing to wait.
//!
//! What crosses: the tracing and identity headers below, and anything under `Grpc-Metadata-`, without the
//! prefix. What never does: hop-by-hop headers, names that gRPC reserves (`grpc-…`, `content-type`, `te`,
//! `user-agent`), what only the gateway may say, and values that metadata cannot have. A route may let more cross
//! (`request_metadata`); everything else stays at the door. On the way back metadata and trailers become headers as
//! the route says (`response_metadata`), but for what belongs to a connection, to gRPC, or to the answer's own form.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_config::model::ResponseMetadata;
use smallvec::SmallVec;

/// Metadata of one call; most requests carry a few entries at most.
pub(crate) type Metadata = SmallVec<[(HeaderName, HeaderValue); 4]>;

/// The caller's own time limit, as HTTP clients say it; passed on to HTTP backends in whole milliseconds.
pub(crate) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// The same as gRPC says it, which clients of HTTP may send too.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const PREFIX: &[u8] = b"grpc-metadata-";
/// Before the names of metadata and trailers where they have a prefix as headers.
const METADATA: &str = "grpc-metadata-";
const TRAILER: &str = "grpc-trailer-";
/// Said by a service that knows a repeated call by its key and gives the first answer again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Stands beside a key that the gateway made for its own tries: the service need not keep it for longer.
pub(crate) const KEY_ORIGIN: HeaderName = HeaderName::from_static("idempotency-key-origin");

/// The metadata entry that a header becomes, if it crosses. `name` is in lower case.
pub(crate) fn crossing(name: &[u8], value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name = match name {
        b"authorization" => http::header::AUTHORIZATION,
        b"traceparent" => HeaderName::from_static("traceparent"),
        b"tracestate" => HeaderName::from_static("tracestate"),
        b"baggage" => HeaderName::from_static("baggage"),
        b"x-request-id" => HeaderName::from_static("x-request-id"),
        b"idempotency-key" => HeaderName::from_static("idempotency-key"),
        other => custom(other)?,
    };
    let value = sayable(&name, value)?;
    Some((name, value))
}

/// The value, if metadata of that name may have it: visible ASCII and spaces, or base64 (PROTOCOL-HTTP2, "Custom-Metadata").
/// Backends tend to break a call off, or answer `INTERNAL`, for any other.
fn sayable(name: &HeaderName, value: &[u8]) -> Option<HeaderValue> {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=,".contains(byte);
    let visible = |byte: &u8| matches!(byte, b' '..=b'~');
    let fits = match name.as_str().ends_with("-bin") {
        true => value.iter().all(base64),
        false => value.iter().all(visible),
    };
    fits.then(|| HeaderValue::from_bytes(value).ok())?
}

/// The metadata entry that a header becomes which the route names. `name` is in lower case.
pub(crate) fn named(
    name: &[u8],
    value: &[u8],
    wanted: Option<&HeaderName>,
) -> Option<(HeaderName, HeaderValue)> {
    let wanted = wanted.filter(|wanted| wanted.as_str().as_bytes() == name)?;
    Some((wanted.clone(), sayable(wanted, value)?))
}

/// Adds the headers that a reply's metadata and trailers become. A client that sent no key of its own has not
/// repeated anything, whatever the gateway had to do.
pub(crate) fn returning(
    rule: ResponseMetadata,
    sent: &[(HeaderName, HeaderValue)],
    (metadata, trailers): (&HeaderMap, &HeaderMap),
    headers: &mut impl Extend<(HeaderName, HeaderValue)>,
) {
    if metadata.is_empty() && trailers.is_empty() {
        return;
    }
    let own_key = || sent.iter().any(|(name, _)| *name == KEY_ORIGIN);
    if let Some(value) = metadata.get(REPLAYED).filter(|_| !own_key()) {
        headers.extend([(REPLAYED, value.clone())]);
    }
    for (fields, prefix) in [(metadata, METADATA), (trailers, TRAILER)] {
        headers.extend(fields.iter().filter_map(|(name, value)| {
            let name = match rule {
                _ if !returns(name) => return None,
                ResponseMetadata::Headers => name.clone(),
                ResponseMetadata::Prefixed => {
                    HeaderName::try_from(format!("{prefix}{name}")).ok()?
                }
                ResponseMetadata::None => return None,
            };
            Some((name, value.clone()))
        }));
    }
}

/// Those of a reply's trailers that may stand behind a body of HTTP.
pub(crate) fn trailing(rule: ResponseMetadata, trailers: &HeaderMap) -> HeaderMap {
    let fields = trailers.iter().filter(|(name, _)| returns(name));
    match rule {
        ResponseMetadata::None => HeaderMap::new(),
        _ => fields
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    }
}

fn returns(name: &HeaderName) -> bool {
    const OF_THE_ANSWER: [&str; 3] = ["content-type", "content-encoding", "idempotency-replayed"];
    let text = name.as_str();
    !text.starts_with("grpc-") && !OF_THE_ANSWER.contains(&text) && !is_connections(name)
}

fn custom(name: &[u8]) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.strip_prefix(PREFIX)?).ok()?;
    is_allowed(&name).then_some(name)
}

/// Whether metadata may have this name: it is neither gRPC's own nor a connection's.
pub(crate) fn is_allowed(name: &HeaderName) -> bool {
    const RESERVED: [&str; 8] = [
        "content-type",
        "te",
        "user-agent",
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        // Whose key it is decides how long it is remembered.
        "idempotency-key-origin",
    ];
    let name = name.as_str();
    !name.starts_with("grpc-") && !RESERVED.contains(&name)
}

/// Whether a header belongs to one connection, or to the framing of one message (RFC 9110 section 7.6.1).
pub(crate) fn is_connections(name: &HeaderName) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// The caller's own time limit from `grpc-timeout` (gRPC's form) or `x-request-timeout` (`250ms`, `5s`, or
/// seconds). What cannot be read is no limit: the route's own holds anyway.
pub(crate) fn caller_timeout(name: &[u8], value: &[u8]) -> Option<Duration> {
    let read: fn(&str) -> Option<Duration> = match name {
        b"grpc-timeout" => grpc_timeout,
        b"x-request-timeout" => request_timeout,
        b"connect-timeout-ms" => |text| Some(Duration::from_millis(text.parse().ok()?)),
        _ => return None,
    };
    read(std::str::from_utf8(value).ok()?)
}

/// `TimeoutValue TimeoutUnit` of the gRPC over HTTP/2 specification: at most 8 digits, then H M S m u n.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

fn request_timeout(text: &str) -> Option<Duration> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let value: f64 = text[..end].parse().ok()?;
    let seconds = match &text[end..] {
        "" | "s" => value,
        "ms" => value / 1e3,
        "us" => value / 1e6,
        "m" => value * 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_rule_names_crosses() {
        let name =
            |header: &str| crossing(header.as_bytes(), b"v").map(|(name, _)| name.to_string());
        assert_eq!(name("authorization").as_deref(), Some("authorization"));
        assert_eq!(name("grpc-metadata-tenant").as_deref(), Some("tenant"));
        assert_eq!(name("grpc-metadata-grpc-timeout"), None);
        assert_eq!(name("grpc-metadata-content-type"), None);
        assert_eq!(name("grpc-metadata-"), None);
        assert_eq!(name("grpc-metadata-idempotency-key-origin"), None);
        assert_eq!(name("idempotency-key").as_deref(), Some("idempotency-key"));
        assert_eq!(name("cookie"), None);
        assert_eq!(name("connection"), None);
        for garbled in [&b"a\nb"[..], b"a\tb", b"\xff", "é".as_bytes()] {
            assert!(crossing(b"authorization", garbled).is_none(), "{garbled:?}");
        }
        assert!(crossing(b"grpc-metadata-x-bin", b"***").is_none());
        for base64 in [&b""[..], b"AAE", b"AAE=", b"AAE,-_8"] {
            assert!(crossing(b"grpc-metadata-x-bin", base64).is_some());
        }
    }

    #[test]
    fn caller_timeouts_are_read_in_both_forms() {
        let timeout = |name: &str, value: &str| caller_timeout(name.as_bytes(), value.as_bytes());
        assert_eq!(
            timeout("grpc-timeout", "250m"),
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            timeout("grpc-timeout", "2H"),
            Some(Duration::from_secs(7200))
        );
        assert_eq!(
            timeout("grpc-timeout", "99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "S", "5", "123456789S", "-5S", "5é", "5 S"] {
            assert_eq!(timeout("grpc-timeout", bad), None, "{bad:?}");
        }
        assert_eq!(
            timeout("x-request-timeout", "1.5s"),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            timeout("x-request-timeout", "2"),
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            timeout("x-request-timeout", "20ms"),
            Some(Duration::from_millis(20))
        );
        for bad in ["", "s", "1e400", "nan", "-1", "1.2.3"] {
            assert_eq!(timeout("x-request-timeout", bad), None, "{bad:?}");
        }
        assert_eq!(timeout("host", "5S"), None);
    }
}
