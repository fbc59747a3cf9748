//! Where requests go that a route's own destination cannot take: its fallback clusters, in order, as long as no
//! backend may have executed the request.
//!
//! Requests of the same moment may end either way, so the log tells of the state, not of them: that requests fall
//! back, and that for a while none had to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::upstream::CallError;

/// It is over when no request had to fall back for so long.
const QUIET: Duration = Duration::from_secs(5);

/// Why a cluster cannot take a request that nobody has executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It has no endpoint that may be used.
    NoHealthyUpstream,
    /// The breakers of all that may be used reject.
    CircuitOpen,
    /// No connection could be made.
    Connect,
    /// The stream was turned away unprocessed.
    RefusedStream,
}

/// How often requests fell back to one cluster, by reason.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; Unusable::ALL.len()]);

/// What is known of the fallbacks of one route; it outlives reloads.
#[derive(Debug)]
pub(crate) struct Fallbacks {
    counts: Mutex<BTreeMap<Arc<str>, Arc<Counts>>>,
    falling: AtomicBool,
    epoch: Instant,
    /// When the last request fell back, in milliseconds since `epoch`.
    last: AtomicU64,
    /// How many did since it began.
    since: AtomicU64,
}

impl Unusable {
    pub(crate) const ALL: [Self; 4] = [
        Self::NoHealthyUpstream,
        Self::CircuitOpen,
        Self::Connect,
        Self::RefusedStream,
    ];

    /// Why a request that failed so may go elsewhere; none if a backend may have executed it, or if its failure
    /// is no reason.
    pub(crate) fn of(error: &CallError) -> Option<Self> {
        match error {
            CallError::NoHealthyUpstream(_) => Some(Self::NoHealthyUpstream),
            CallError::CircuitOpen { .. } => Some(Self::CircuitOpen),
            CallError::Connect { .. } => Some(Self::Connect),
            CallError::Refused { .. } => Some(Self::RefusedStream),
            CallError::NotTriedAgain { error, .. } => Self::of(error),
            _ => None,
        }
    }

    /// The label's value.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "no_healthy_upstream",
            Self::CircuitOpen => "circuit_open",
            Self::Connect => "connect",
            Self::RefusedStream => "refused_stream",
        }
    }
}

impl Default for Fallbacks {
    fn default() -> Self {
        Self {
            counts: Mutex::default(),
            falling: AtomicBool::new(false),
            epoch: Instant::now(),
            last: AtomicU64::new(0),
            since: AtomicU64::new(0),
        }
    }
}

impl Fallbacks {
    /// The counts of one cluster: those that stand already, or new ones.
    pub(super) fn counts_of(&self, cluster: &Arc<str>) -> Arc<Counts> {
        Arc::clone(self.counts.lock().entry(Arc::clone(cluster)).or_default())
    }

    /// Every count: cluster, reason, requests.
    pub(crate) fn each(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        let of = |(cluster, counts): (&Arc<str>, &Arc<Counts>)| {
            let of = |why: &Unusable| {
                let count = counts.0[*why as usize].load(Relaxed);
                (Arc::clone(cluster), why.label(), count)
            };
            Unusable::ALL.iter().map(of).collect::<Vec<_>>()
        };
        self.counts.lock().iter().flat_map(of).collect()
    }

    /// Whether requests have to fall back just now.
    pub(crate) fn is_falling(&self) -> bool {
        self.falling.load(Relaxed)
    }

    /// A request falls back to a cluster.
    pub(super) fn fell(&self, route: &str, to: (&str, &Counts), why: (Unusable, &CallError)) {
        let ((cluster, counts), (reason, error)) = (to, why);
        counts.0[reason as usize].fetch_add(1, Relaxed);
        self.last.store(self.elapsed(), Relaxed);
        self.since.fetch_add(1, Relaxed);
        if !self.falling.swap(true, Relaxed) {
            let reason = reason.label();
            tracing::warn!(route, cluster, reason, %error, "requests fall back to another cluster");
        }
    }

    /// A request did not have to.
    pub(super) fn not_needed(&self, route: &str) {
        if !self.is_falling() {
            return;
        }
        let quiet = self.elapsed().saturating_sub(self.last.load(Relaxed));
        if u128::from(quiet) >= QUIET.as_millis() && self.falling.swap(false, Relaxed) {
            let requests = self.since.swap(0, Relaxed);
            tracing::info!(route, requests, "requests need not fall back any more");
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_none_had_to_fall_back_for_a_while() {
        let fallbacks = Fallbacks::default();
        let name: Arc<str> = "monolith".into();
        let fall = || {
            let counts = fallbacks.counts_of(&name);
            let error = CallError::NoHealthyUpstream("none".into());
            let why = Unusable::of(&error).unwrap();
            fallbacks.fell("r", (&name, &counts), (why, &error));
        };
        fallbacks.not_needed("r");
        assert!(!fallbacks.is_falling());
        fall();
        for _ in 0..3 {
            tokio::time::advance(QUIET - Duration::from_millis(1)).await;
            fallbacks.not_needed("r");
            assert!(fallbacks.is_falling());
            fall();
        }
        tokio::time::advance(QUIET).await;
        assert!(fallbacks.is_falling(), "somebody has to find out");
        fallbacks.not_needed("r");
        assert!(!fallbacks.is_falling());
        let counted: u64 = fallbacks.each().iter().map(|(.., count)| count).sum();
        assert_eq!(counted, 4);
    }

    #[test]
    fn what_may_have_been_executed_is_no_reason() {
        let none = [
            CallError::Overloaded,
            CallError::DeadlineExceeded,
            CallError::Reset(h2::Reason::CANCEL),
            CallError::ConnectionLost("eof".into()),
            CallError::NoStatus,
        ];
        assert!(none.iter().all(|error| Unusable::of(error).is_none()));
        for error in [
            CallError::NoHealthyUpstream("".into()),
            CallError::CircuitOpen {
                why: "".into(),
                opens_in: Duration::ZERO,
            },
            CallError::Refused {
                endpoint: "".into(),
            },
        ] {
            assert!(Unusable::of(&error).is_some() && error.never_executed());
        }
    }
}
