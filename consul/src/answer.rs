//! An answer: its body, and what Consul's own headers say about it. Headers that are missing or make no sense are absent.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

/// A complete answer, 2xx, or 404 where that is one.
#[derive(Debug)]
pub struct Answer {
    pub(crate) meta: Meta,
    /// False: 404.
    pub(crate) found: bool,
    pub(crate) body: Bytes,
}

/// What the headers of an answer say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// `X-Consul-Index`.
    pub index: Option<u64>,
    /// `X-Consul-KnownLeader`.
    pub known_leader: Option<bool>,
    /// `X-Consul-LastContact`: how long ago the server that answered heard of the leader.
    pub last_contact: Option<Duration>,
    /// `X-Consul-Results-Filtered-By-ACLs`: there is more than the token may see.
    pub filtered: bool,
}

impl Meta {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::trim)
        };
        let number = |name| text(name).and_then(|text| text.parse::<u64>().ok());
        Self {
            index: number("x-consul-index"),
            known_leader: text("x-consul-knownleader").and_then(|text| text.parse().ok()),
            last_contact: number("x-consul-lastcontact").map(Duration::from_millis),
            filtered: text("x-consul-results-filtered-by-acls") == Some("true"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_makes_no_sense_is_absent() {
        let mut headers = HeaderMap::new();
        assert_eq!(Meta::of(&headers), Meta::default());
        headers.insert("x-consul-index", HeaderValue::from_static("42"));
        headers.insert("x-consul-lastcontact", HeaderValue::from_static("7"));
        headers.insert("x-consul-knownleader", HeaderValue::from_static("false"));
        let meta = Meta::of(&headers);
        assert_eq!((meta.index, meta.known_leader), (Some(42), Some(false)));
        assert_eq!(meta.last_contact, Some(Duration::from_millis(7)));
        for wrong in ["", "-1", "1e9", "18446744073709551616", "0x10", "zwölf"] {
            headers.insert(
                "x-consul-index",
                HeaderValue::from_bytes(wrong.as_bytes()).unwrap(),
            );
            assert_eq!(Meta::of(&headers).index, None, "{wrong}");
        }
    }
}
