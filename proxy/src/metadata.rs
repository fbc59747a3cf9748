//! Which request headers become gRPC metadata, and how long the caller is willing to wait.
//!
//! What crosses: the tracing and identity headers below, and anything under `Grpc-Metadata-`, without the
//! prefix. What never does: hop-by-hop headers, names that gRPC reserves (`grpc-…`, `content-type`, `te`,
//! `user-agent`), what only the gateway may say, and values that HTTP/2 cannot carry. Everything else stays at
//! the door. On the way back one entry becomes a header: that an answer is that of an earlier call.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Metadata of one call; most requests carry a few entries at most.
pub(crate) type Metadata = SmallVec<[(HeaderName, HeaderValue); 4]>;

/// The caller's own time limit, as HTTP clients say it; passed on to HTTP backends in whole milliseconds.
pub(crate) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// The same as gRPC says it, which clients of HTTP may send too.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const PREFIX: &[u8] = b"grpc-metadata-";
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
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

/// The metadata entry that a header becomes which the route names. `name` is in lower case.
pub(crate) fn named(
    name: &[u8],
    value: &[u8],
    wanted: Option<&HeaderName>,
) -> Option<(HeaderName, HeaderValue)> {
    let wanted = wanted.filter(|wanted| wanted.as_str().as_bytes() == name)?;
    Some((wanted.clone(), HeaderValue::from_bytes(value).ok()?))
}

/// The response header that metadata of a reply becomes. A client that sent no key of its own has not repeated
/// anything, whatever the gateway had to do.
pub(crate) fn returning(
    sent: &[(HeaderName, HeaderValue)],
    replied: &HeaderMap,
) -> Option<(HeaderName, HeaderValue)> {
    let value = replied.get(REPLAYED)?;
    let own_key = sent.iter().any(|(name, _)| *name == KEY_ORIGIN);
    (!own_key).then(|| (REPLAYED, value.clone()))
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

/// The caller's own time limit from `grpc-timeout` (gRPC's form) or `x-request-timeout` (`250ms`, `5s`, or
/// seconds). What cannot be read is no limit: the route's own holds anyway.
pub(crate) fn caller_timeout(name: &[u8], value: &[u8]) -> Option<Duration> {
    let read: fn(&str) -> Option<Duration> = match name {
        b"grpc-timeout" => grpc_timeout,
        b"x-request-timeout" => request_timeout,
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
        assert!(crossing(b"authorization", b"a\nb").is_none());
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
