//! Until when a request that is passed through may wait for its answer to begin.
//!
//! The route's time runs from the request's arrival, in the queue and over all tries, but stands still while the
//! client is sending its body: how long that takes is the client's affair, and bounded by the listener. The
//! client's own limit is a moment, whatever happens. From the answer's head on only silence is bounded.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::metadata::{self, GRPC_TIMEOUT, REQUEST_TIMEOUT};

/// The time of one request.
#[derive(Debug)]
pub(super) struct Clock {
    /// When the request came.
    pub began: Instant,
    /// When the route's time is up, as things stand.
    route: Instant,
    /// When the client's is.
    client: Option<Instant>,
    /// Until when the body's arrival has been taken into account; none before the first try.
    seen: Option<Instant>,
    uploaded: usize,
}

// === impl Clock ===

impl Clock {
    pub(super) fn start(now: Instant) -> Self {
        Self {
            began: now,
            route: now,
            client: None,
            seen: None,
            uploaded: 0,
        }
    }

    /// Gives the request the route's time, or less if its client asks for less.
    pub(super) fn wind(&mut self, timeout: Duration, headers: &HeaderMap) {
        self.route = self.began + timeout;
        let asked = [REQUEST_TIMEOUT, GRPC_TIMEOUT]
            .into_iter()
            .filter_map(|name| {
                let value = headers.get(&name)?;
                metadata::caller_timeout(name.as_str().as_bytes(), value.as_bytes())
            });
        self.client = asked.min().and_then(|asked| self.began.checked_add(asked));
    }

    /// When the answer has to have begun.
    pub(super) fn deadline(&self) -> Instant {
        self.client
            .map_or(self.route, |client| client.min(self.route))
    }

    /// A try begins: from now on the body is read as it comes.
    pub(super) fn try_begins(&mut self, now: Instant, uploaded: usize) {
        if self.seen.is_none() {
            self.seen = Some(now);
            self.uploaded = uploaded;
        }
    }

    /// So many bytes of the body have come. Says whether the deadline has moved.
    pub(super) fn uploading(&mut self, now: Instant, uploaded: usize) -> bool {
        let Some(seen) = self.seen.filter(|_| uploaded > self.uploaded) else {
            return false;
        };
        self.route += now.saturating_duration_since(seen);
        self.seen = Some(now);
        self.uploaded = uploaded;
        true
    }

    /// Whether the client waits less long than the route lets it.
    pub(super) fn is_impatient(&self) -> bool {
        self.client.is_some_and(|client| client < self.route)
    }

    /// Whether the client set a limit of its own.
    pub(super) fn is_limited_by_client(&self) -> bool {
        self.client.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn wound(headers: &[(&'static str, &'static str)]) -> Clock {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let mut clock = Clock::start(Instant::now());
        clock.wind(1000 * MS, &map);
        clock
    }

    #[test]
    fn the_clients_limit_only_shortens() {
        let left = |headers| {
            let clock = wound(headers);
            clock.deadline() - clock.began
        };
        assert_eq!(left(&[]), 1000 * MS);
        assert_eq!(left(&[("x-request-timeout", "250ms")]), 250 * MS);
        assert_eq!(left(&[("x-request-timeout", "9s")]), 1000 * MS);
        assert_eq!(
            left(&[("x-request-timeout", "1s"), ("grpc-timeout", "20m")]),
            20 * MS
        );
        assert_eq!(left(&[("x-request-timeout", "soon")]), 1000 * MS);
    }

    #[test]
    fn the_routes_time_stands_still_during_the_upload_only() {
        let mut clock = wound(&[]);
        let began = clock.began;
        assert!(!clock.uploading(began + 10 * MS, 5), "no try has begun");
        clock.try_begins(began + 100 * MS, 5);
        assert!(
            !clock.uploading(began + 300 * MS, 5),
            "nothing new has come"
        );
        assert!(clock.uploading(began + 400 * MS, 6));
        assert_eq!(clock.deadline(), began + 1300 * MS);
        clock.try_begins(began + 900 * MS, 6);
        assert_eq!(clock.deadline(), began + 1300 * MS);
    }

    #[test]
    fn the_clients_limit_does_not_wait_for_its_upload() {
        let mut clock = wound(&[("x-request-timeout", "200ms")]);
        clock.try_begins(clock.began, 0);
        clock.uploading(clock.began + 150 * MS, 6);
        assert_eq!(clock.deadline(), clock.began + 200 * MS);
    }
}
