//! What a route says about repeating its calls, compiled once for each row: when, how often, how soon, and
//! whether a call may be repeated that may have been executed.
//!
//! A service that knows repeated calls by a key makes them safe: a call without one gets a key of the gateway's
//! own, the same at every try. Only a route that retries or hedges adds it, since without a policy no call
//! is sent again that may have been executed, and a service need not remember what cannot come twice.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use mesh_config::model::{self as config, HedgeAfter, RetryOn};
use resilience::backoff::Backoff;
use resilience::latency::LiveQuantile;
use resilience::retry::Series;
use tokio::time::Instant;
use transcode::Code;

use super::aim::Aim;
use super::cluster::Cluster;
use super::retries::Reason;
use crate::metadata::KEY_ORIGIN;

/// The value of [`KEY_ORIGIN`].
const GATEWAY: HeaderValue = HeaderValue::from_static("gateway");

/// How the calls of a row are repeated.
#[derive(Debug, Default)]
pub struct CallPolicy {
    pub(crate) retry: Option<RetryTerms>,
    pub(crate) hedge: Option<HedgeTerms>,
    /// The metadata by which the service knows a repeated call.
    dedupe: Option<HeaderName>,
    /// Twice is as once, whatever the HTTP method.
    idempotent: bool,
    /// The route wants it repeated even so.
    lifted: bool,
}

/// What a method says of being called twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Repeats<'a> {
    /// It changes nothing, or twice is as once.
    pub idempotent: bool,
    /// The metadata by which its service knows a repeated call.
    pub dedupe: Option<&'a str>,
}

/// One call's share of it, and its time.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// What the route says.
    pub policy: &'a CallPolicy,
    /// When it is tried again.
    pub(crate) retry: Option<&'a RetryTerms>,
    /// Whether this call may be sent again even if it may have been executed.
    pub repeatable: bool,
    /// When the caller has no use for an answer any more.
    pub deadline: Instant,
    /// Whether the caller asked for less time than the route has: what is late then is not the endpoint's fault.
    pub impatient: bool,
    /// Whether another cluster takes the call if nobody can be reached here: then nothing is waited for.
    pub elsewhere: bool,
    /// Whether nobody waits for the answer: it takes only what others leave, and says nothing of the endpoint.
    pub copy: bool,
    /// What it wants of the endpoints.
    pub aim: Aim<'a>,
}

/// When a call is tried again.
#[derive(Debug)]
pub(crate) struct RetryTerms {
    attempts: NonZeroU32,
    on: RetryOn,
    /// Bit `n`: gRPC code `n`, named itself or by the HTTP status that it maps to.
    codes: u32,
    pub(crate) per_try_timeout: Duration,
    backoff: Backoff,
}

/// When another endpoint is asked beside the first.
#[derive(Debug)]
pub(crate) struct HedgeTerms {
    after: After,
    pub(crate) max: u32,
}

#[derive(Debug)]
enum After {
    Fixed(Duration),
    /// What a share of the live answers takes, by cluster.
    Live(Box<[(Arc<str>, Arc<LiveQuantile>)]>),
}

// === impl CallPolicy ===

impl CallPolicy {
    /// Nothing is repeated that may have been executed.
    pub const NONE: &'static Self = &Self {
        retry: None,
        hedge: None,
        dedupe: None,
        idempotent: false,
        lifted: false,
    };

    /// What a route says of the calls of one of its rows to any of `clusters`. `row` names it among all rows.
    #[must_use]
    pub fn new<'c>(
        (retry, hedge): (Option<&config::Retry>, Option<config::Hedge>),
        method: Repeats<'_>,
        row: &str,
        clusters: impl Iterator<Item = &'c Arc<Cluster>>,
    ) -> Self {
        let named = retry.and_then(|retry| retry.dedupe.as_deref());
        let dedupe = named.or(method.dedupe);
        Self {
            retry: retry.and_then(RetryTerms::new),
            hedge: hedge.map(|hedge| HedgeTerms::new(hedge, row, clusters)),
            dedupe: dedupe.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()),
            idempotent: method.idempotent,
            lifted: retry.is_some_and(|retry| retry.unsafe_methods),
        }
    }

    /// Whether a call by this HTTP method may be sent again even if it may have been executed.
    #[must_use]
    pub fn may_repeat(&self, method: &str) -> bool {
        self.repeats()
            && (self.idempotent
                || self.lifted
                || self.dedupe.is_some()
                || matches!(method, "GET" | "HEAD" | "PUT" | "DELETE"))
    }

    /// Whether a call by this HTTP method may be sent again although the route itself sends none again: without a key, which only
    /// a route that does so adds.
    #[must_use]
    pub(crate) fn may_repeat_without_key(&self, method: &str) -> bool {
        self.idempotent || self.lifted || matches!(method, "GET" | "HEAD" | "PUT" | "DELETE")
    }

    /// The metadata by which the service knows a repeated call, if that matters to the route.
    #[must_use]
    pub fn dedupe(&self) -> Option<&HeaderName> {
        self.dedupe.as_ref().filter(|_| self.repeats())
    }

    /// The key, and the word that it is the gateway's, for a call that is only safe to repeat with one and has
    /// none of the client's.
    #[must_use]
    pub fn own_key(
        &self,
        sent: &[(HeaderName, HeaderValue)],
    ) -> Option<[(HeaderName, HeaderValue); 2]> {
        let name = self.dedupe().filter(|_| !self.idempotent)?;
        if sent.iter().any(|(known, _)| known == name) {
            return None;
        }
        let key = HeaderValue::from_bytes(&fresh_key()).ok()?;
        Some([(name.clone(), key), (KEY_ORIGIN, GATEWAY)])
    }

    /// Whether the route sends calls again, or to others beside the first, at all.
    #[must_use]
    pub(crate) fn repeats(&self) -> bool {
        self.retry.is_some() || self.hedge.is_some()
    }
}

/// A key that nobody else has: 126 random bits in six to a digit, behind a word that says whose it is.
fn fresh_key() -> [u8; 29] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut key = *b"gateway-000000000000000000000";
    let (mut first, mut second) = (fastrand::u64(..), fastrand::u64(..));
    // Ten digits of one word, eleven of the other, whose last one has four bits.
    for digit in &mut key[8..18] {
        *digit = DIGITS[(first % 64) as usize];
        first /= 64;
    }
    for digit in &mut key[18..] {
        *digit = DIGITS[(second % 64) as usize];
        second /= 64;
    }
    key
}

// === impl Terms ===

impl Terms<'_> {
    /// A call that is not repeated, with all the time to a deadline.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self {
            policy: CallPolicy::NONE,
            retry: None,
            repeatable: false,
            deadline,
            impatient: false,
            elsewhere: false,
            copy: false,
            aim: Aim::default(),
        }
    }
}

// === impl RetryTerms ===

impl RetryTerms {
    /// Nothing without a backoff, which the configuration has checked.
    pub(crate) fn new(retry: &config::Retry) -> Option<Self> {
        let backoff = Backoff::new(retry.backoff.base.get(), retry.backoff.max.get()).ok()?;
        let by_status =
            (1..=16).filter(|code| retry.on.http_status(Code::from_number(*code).http_status()));
        Some(Self {
            attempts: retry.attempts,
            codes: by_status.fold(retry.on.grpc, |codes, code| codes | 1 << code),
            on: retry.on.clone(),
            per_try_timeout: retry.per_try_timeout.get(),
            backoff,
        })
    }

    /// Whether another try is wanted after this.
    pub(crate) fn wants(&self, after: Reason) -> bool {
        match after {
            Reason::Connect => self.on.connect,
            Reason::RefusedStream => self.on.refused_stream,
            Reason::Reset => self.on.reset,
            Reason::Timeout => self.on.timeout,
            Reason::Code(code) => code < u32::BITS && self.codes & (1 << code) != 0,
            Reason::Status(status) => self.on.http_status(status),
            Reason::Hedge => false,
        }
    }

    pub(crate) fn series(&self) -> Series {
        Series::new(self.attempts, self.backoff, fastrand::Rng::new())
    }
}

// === impl HedgeTerms ===

impl HedgeTerms {
    fn new<'c>(
        hedge: config::Hedge,
        row: &str,
        clusters: impl Iterator<Item = &'c Arc<Cluster>>,
    ) -> Self {
        let after = match hedge.after {
            HedgeAfter::Fixed(time) => After::Fixed(time.get()),
            HedgeAfter::Quantile(share) => {
                let live = |cluster: &'c Arc<Cluster>| {
                    (
                        Arc::clone(cluster.name()),
                        cluster.latencies_of(row, share.ratio()),
                    )
                };
                After::Live(clusters.map(live).collect())
            }
        };
        Self {
            after,
            max: hedge.max.get(),
        }
    }

    /// How long an answer of the cluster is waited for; nothing while too few came to know.
    pub(crate) fn delay(&self, cluster: &str, now: Instant) -> Option<Duration> {
        match &self.after {
            After::Fixed(time) => Some(*time),
            After::Live(_) => self.live(cluster)?.get(now),
        }
    }

    /// An answer took so long, or longer.
    pub(crate) fn observe(&self, cluster: &str, latency: Duration, now: Instant) {
        if let Some(live) = self.live(cluster) {
            live.record(latency, now);
        }
    }

    fn live(&self, cluster: &str) -> Option<&LiveQuantile> {
        let After::Live(all) = &self.after else {
            return None;
        };
        let (_, live) = all.iter().find(|(name, _)| **name == *cluster)?;
        Some(live)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fresh_keys_are_visible_and_nobody_else_s() {
        let keys: HashSet<_> = (0..1000).map(|_| fresh_key()).collect();
        assert_eq!(keys.len(), 1000);
        for key in keys {
            assert!(key.starts_with(b"gateway-"));
            assert!(key.iter().all(u8::is_ascii_graphic));
        }
    }
}
