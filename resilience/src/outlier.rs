//! Outlier detection for the endpoints of one cluster: who fails several times in a row, succeeds less often than
//! its peers, or is slower than they are, gets no traffic for a while.
//!
//! Each ejection lasts `base_ejection` longer than the one before, up to `max_ejection`; every interval that an
//! endpoint spends in service takes one step back. Never more than `max_ejected` of the endpoints are out, rounded
//! down, but one of two or more may always be: all ejections pass one lock, so that two cannot share the last
//! place. The statistics are Envoy's (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier>),
//! with a margin: among peers that are all alike the smallest difference is many standard deviations.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Verdict;
use crate::share::Share;

mod reason;
mod record;
mod statistics;

pub use reason::{Ejection, Reason};
pub use record::Record;
use record::Sample;
use statistics::{by_latency, by_success};

/// What makes an endpoint an outlier, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// As many failures in a row are too many.
    pub consecutive_failures: NonZeroU32,
    /// Whether to compare how often endpoints succeed.
    pub success_rate: bool,
    /// Whether to compare how fast they are.
    pub latency: bool,
    /// How often the owner calls [`Detector::sweep`]: what is compared is what happened since the last time.
    pub interval: Duration,
    /// How long the first ejection lasts, and how much longer each further one.
    pub base_ejection: Duration,
    /// No ejection lasts longer.
    pub max_ejection: Duration,
    /// The share of endpoints that may be out.
    pub max_ejected: f64,
}

/// Watches the endpoints of one cluster; what it knows of each is in that one's [`Record`].
#[derive(Debug)]
pub struct Detector {
    /// A copy of `Settings::consecutive_failures`, for every call to read.
    consecutive_failures: AtomicU32,
    /// Held while ejecting: the share that is out is counted and used up in one step.
    settings: Mutex<Settings>,
}

/// What a sweep has changed, about the endpoint at this index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It gets no traffic from now on.
    Ejected(usize, Ejection),
    /// It gets traffic again, since some moment after the last sweep.
    Returned(usize),
}

// === impl Detector ===

impl Detector {
    /// A detector by these rules.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            consecutive_failures: AtomicU32::new(settings.consecutive_failures.get()),
            settings: Mutex::new(settings),
        }
    }

    /// Other rules from now on; ejections under way last as long as was said.
    pub fn set(&self, settings: Settings) {
        let mut current = self.settings.lock();
        self.consecutive_failures
            .store(settings.consecutive_failures.get(), Relaxed);
        *current = settings;
    }

    /// How often to sweep.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.settings.lock().interval
    }

    /// Counts the result of a call. Too many failures in a row are a reason to [`Self::eject`], at each further one
    /// too. What comes while the endpoint is out counts for nothing.
    #[must_use]
    pub fn record(
        &self,
        endpoint: &Record,
        verdict: Verdict,
        latency: Duration,
        now: Instant,
    ) -> Option<Reason> {
        let failures = endpoint.count(verdict, latency, now)?;
        let too_many = failures >= self.consecutive_failures.load(Relaxed);
        too_many.then_some(Reason::ConsecutiveFailures(failures))
    }

    /// Ejects an endpoint, unless it is out already or too many of its `peers` are (it is one of these itself).
    pub fn eject(
        &self,
        endpoint: &Record,
        reason: Reason,
        peers: &[&Record],
        now: Instant,
    ) -> Option<Ejection> {
        let settings = self.settings.lock();
        settings.eject(endpoint, reason, peers, now)
    }

    /// Compares the endpoints by what they did since the last sweep, and ejects the worst as far as the share goes.
    pub fn sweep(&self, endpoints: &[&Record], now: Instant) -> Vec<Change> {
        let settings = self.settings.lock();
        let back = |(index, record): (usize, &&Record)| {
            record.has_returned(now).then_some(Change::Returned(index))
        };
        let mut changes: Vec<_> = endpoints.iter().enumerate().filter_map(back).collect();
        let samples: Vec<Option<Sample>> = endpoints.iter().map(|one| one.take(now)).collect();
        let mut outliers = Vec::new();
        if settings.success_rate {
            outliers.extend(by_success(&samples));
        }
        if settings.latency {
            outliers.extend(by_latency(&samples));
        }
        for (index, reason) in outliers {
            let ejection = settings.eject(endpoints[index], reason, endpoints, now);
            changes.extend(ejection.map(|ejection| Change::Ejected(index, ejection)));
        }
        changes
    }
}

// === impl Settings ===

impl Settings {
    fn eject(
        &self,
        endpoint: &Record,
        reason: Reason,
        peers: &[&Record],
        now: Instant,
    ) -> Option<Ejection> {
        let out = peers.iter().filter(|peer| peer.is_ejected(now)).count();
        if endpoint.is_ejected(now) || out >= self.most_ejected(peers.len()) {
            return None;
        }
        Some(endpoint.eject(reason, self.base_ejection, self.max_ejection, now))
    }

    /// How many of so many endpoints may be out at once.
    fn most_ejected(&self, endpoints: usize) -> usize {
        let share = Share::of_ratio(self.max_ejected).of(endpoints as u64);
        let at_least = usize::from(endpoints > 1);
        usize::try_from(share).unwrap_or(endpoints).max(at_least)
    }
}

#[cfg(test)]
mod tests;
