//! Tries beyond a call's first in one cluster: how many there may be, and how many there were and why.
//!
//! Two bounds hold together: the budget, a share of the live traffic and a floor, and `limits.retries`, how many
//! may be under way at once. What never reached a backend is outside of both: it adds no load.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::time::Duration;

use mesh_config::model::{self as config, RetryOn};
use parking_lot::Mutex;
use resilience::budget::{RetryBudget, Terms};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::error::NoRetry;

/// Codes of gRPC.
const CODES: usize = RetryOn::GRPC_CODES.len();
/// The HTTP statuses that ask for another try.
const STATUSES: std::ops::Range<u16> = 400..600;
/// The log hears of an exhausted budget once in this time.
const QUIET: Duration = Duration::from_secs(10);

/// Why there was another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No connection.
    Connect,
    /// Turned away unprocessed.
    RefusedStream,
    /// The connection or stream broke before response headers.
    Reset,
    /// The try took longer than a try may.
    Timeout,
    /// The backend answered this gRPC code.
    Code(u32),
    /// The backend answered this HTTP status.
    Status(u16),
    /// The first one took long.
    Hedge,
}

/// The state for one cluster.
#[derive(Debug)]
pub(crate) struct Retries {
    budget: RetryBudget,
    in_flight: AtomicUsize,
    most: AtomicUsize,
    by_reason: [AtomicU64; 5],
    by_code: [AtomicU64; CODES],
    by_status: Box<[AtomicU64]>,
    /// Tries that the budget did not allow.
    exhausted: AtomicU64,
    /// Tries that the limit did not allow.
    limited: AtomicU64,
    told: Mutex<Option<Instant>>,
}

/// The right to one try beyond the first, given back on drop.
#[derive(Debug)]
pub struct RetryPermit {
    cluster: Arc<Cluster>,
}

// === impl Retries ===

impl Retries {
    pub(crate) fn new(config: &config::Cluster) -> Self {
        let zeros = || AtomicU64::new(0);
        Self {
            budget: RetryBudget::new(terms(config)),
            in_flight: AtomicUsize::new(0),
            most: AtomicUsize::new(config.limits.retries),
            by_reason: Default::default(),
            by_code: [const { AtomicU64::new(0) }; CODES],
            by_status: STATUSES.map(|_| zeros()).collect(),
            exhausted: zeros(),
            limited: zeros(),
            told: Mutex::default(),
        }
    }

    pub(crate) fn set(&self, config: &config::Cluster) {
        self.budget.set(terms(config));
        self.most.store(config.limits.retries, Relaxed);
    }

    fn count(&self, reason: Reason) {
        let cell = match reason {
            Reason::Connect => &self.by_reason[0],
            Reason::RefusedStream => &self.by_reason[1],
            Reason::Reset => &self.by_reason[2],
            Reason::Timeout => &self.by_reason[3],
            Reason::Hedge => &self.by_reason[4],
            Reason::Code(code) => &self.by_code[(code as usize).min(CODES - 1)],
            Reason::Status(status) => {
                let last = STATUSES.end - 1;
                &self.by_status[usize::from(status.clamp(STATUSES.start, last) - STATUSES.start)]
            }
        };
        cell.fetch_add(1, Relaxed);
    }

    /// Says once in a while that the budget is spent.
    fn tell(&self, cluster: &str, now: Instant) {
        let mut told = self.told.lock();
        if told.is_some_and(|before| now < before + QUIET) {
            return;
        }
        *told = Some(now);
        let refused = self.exhausted.load(Relaxed);
        tracing::warn!(
            cluster,
            refused,
            "the retry budget is exhausted: failures are answered as they are"
        );
    }
}

fn terms(config: &config::Cluster) -> Terms {
    Terms {
        ratio: config.retry_budget.ratio.ratio(),
        min_per_second: config.retry_budget.min_per_second,
    }
}

impl Cluster {
    /// A request makes its first try: what the budget is a share of.
    pub fn first_try(&self, now: Instant) {
        self.retries.budget.first_try(now);
    }

    /// The right to one more try at an endpoint that may have executed the one before, if the budget and the
    /// limit allow it. It counts as under way until the permit is dropped.
    ///
    /// # Errors
    /// With the one that does not.
    pub fn may_retry(self: &Arc<Self>, now: Instant) -> Result<RetryPermit, NoRetry> {
        let retries = &self.retries;
        let most = retries.most.load(Relaxed);
        let one_more = |flying| (flying < most).then_some(flying + 1);
        if retries
            .in_flight
            .fetch_update(AcqRel, Acquire, one_more)
            .is_err()
        {
            retries.limited.fetch_add(1, Relaxed);
            return Err(NoRetry::Limit(Arc::clone(self.name())));
        }
        let permit = RetryPermit {
            cluster: Arc::clone(self),
        };
        if retries.budget.try_spend(now) {
            return Ok(permit);
        }
        retries.exhausted.fetch_add(1, Relaxed);
        retries.tell(self.name(), now);
        Err(NoRetry::Budget(Arc::clone(self.name())))
    }

    /// A try beyond the first starts.
    pub fn retried(&self, reason: Reason) {
        self.retries.count(reason);
    }

    /// Tries beyond a call's first, by why there was another one: the fixed words, and what was answered.
    #[must_use]
    pub fn retries(&self) -> Vec<(String, u64)> {
        const WORDS: [&str; 5] = ["connect", "refused_stream", "reset", "timeout", "hedge"];
        let retries = &self.retries;
        let count = |cell: &AtomicU64| cell.load(Relaxed);
        let words = WORDS.iter().map(|word| (*word).to_owned());
        let fixed = words.zip(retries.by_reason.iter().map(count));
        let codes = RetryOn::GRPC_CODES.iter().map(|word| (*word).to_owned());
        let codes = codes.zip(retries.by_code.iter().map(count));
        let statuses = STATUSES.map(|status| status.to_string());
        let statuses = statuses.zip(retries.by_status.iter().map(count));
        let answered = codes.chain(statuses).filter(|(_, count)| *count > 0);
        fixed.chain(answered).collect()
    }

    /// Tries that were not made because the budget was spent, and because too many were under way.
    #[must_use]
    pub fn retries_refused(&self) -> (u64, u64) {
        let retries = &self.retries;
        (
            retries.exhausted.load(Relaxed),
            retries.limited.load(Relaxed),
        )
    }

    /// Tries beyond the first that the budget would allow now.
    #[must_use]
    pub fn retry_budget_left(&self, now: Instant) -> u32 {
        self.retries.budget.left(now)
    }
}

// === impl RetryPermit ===

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.cluster.retries.in_flight.fetch_sub(1, AcqRel);
    }
}
