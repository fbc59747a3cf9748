//! What outlier detection knows of one endpoint: its failures in a row, its calls since the last sweep, and how often
//! it was out.
//!
//! Calls count with a few atomic operations; the lock is for ejections and sweeps.

use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Ejection, Reason};
use crate::Verdict;
use crate::clock::{Clock, nanos};

/// What the calls to one endpoint came to.
#[derive(Debug)]
pub struct Record {
    clock: Clock,
    /// Until when it is out; past, if it is not.
    out_until: AtomicU64,
    failures_in_a_row: AtomicU32,
    successes: AtomicU64,
    failures: AtomicU64,
    /// Nanoseconds of all the successes.
    time: AtomicU64,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    reason: Option<Reason>,
    /// The length of the next ejection in steps of the base, less one.
    steps: u32,
    /// Out since before the last sweep, or returned without one having said so.
    away: bool,
    /// In service at the last sweep.
    served: bool,
}

/// The calls between two sweeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) time: Duration,
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Record ===

impl Record {
    /// Nothing known: in service.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: Clock::start(),
            out_until: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            time: AtomicU64::new(0),
            history: Mutex::new(History::default()),
        }
    }

    /// Whether it should get no traffic.
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        !self.out_for(now).is_zero()
    }

    /// Why it gets no traffic, and for how long still.
    #[must_use]
    pub fn ejection(&self, now: Instant) -> Option<Ejection> {
        let history = self.history.lock();
        let back_in = self.out_for(now);
        let reason = history.reason.filter(|_| !back_in.is_zero())?;
        Some(Ejection { reason, back_in })
    }

    /// In service, with nothing held against it: what was known is about something else.
    pub fn forget(&self) {
        let mut history = self.history.lock();
        *history = History::default();
        self.empty();
        self.out_until.store(0, Release);
    }

    fn out_for(&self, now: Instant) -> Duration {
        match self.out_until.load(Acquire) {
            0 => Duration::ZERO,
            until => Duration::from_nanos(until.saturating_sub(self.clock.nanos(now))),
        }
    }

    /// Counts a call; how many failures in a row that makes, if it is one.
    pub(super) fn count(&self, verdict: Verdict, latency: Duration, now: Instant) -> Option<u32> {
        if verdict == Verdict::Neutral || self.is_ejected(now) {
            return None;
        }
        if verdict == Verdict::Failure {
            self.failures.fetch_add(1, Relaxed);
            return Some(
                self.failures_in_a_row
                    .fetch_add(1, Relaxed)
                    .saturating_add(1),
            );
        }
        self.successes.fetch_add(1, Relaxed);
        self.time.fetch_add(nanos(latency), Relaxed);
        if self.failures_in_a_row.load(Relaxed) > 0 {
            self.failures_in_a_row.store(0, Relaxed);
        }
        None
    }

    fn empty(&self) -> Sample {
        self.failures_in_a_row.store(0, Relaxed);
        self.drain()
    }

    fn drain(&self) -> Sample {
        Sample {
            successes: self.successes.swap(0, Relaxed),
            failures: self.failures.swap(0, Relaxed),
            time: Duration::from_nanos(self.time.swap(0, Relaxed)),
        }
    }

    /// Takes it out of service for one `base` longer than the last time, if it has not served well in between.
    pub(super) fn eject(
        &self,
        reason: Reason,
        base: Duration,
        max: Duration,
        now: Instant,
    ) -> Ejection {
        let mut history = self.history.lock();
        let wanted = base.saturating_mul(history.steps.saturating_add(1));
        let back_in = wanted.min(max);
        if wanted < max {
            // At the cap it stops to grow, so that the way back down is no longer than the way up.
            history.steps += 1;
        }
        history.reason = Some(reason);
        history.away = true;
        history.served = false;
        self.empty();
        let until = self.clock.nanos(now).saturating_add(nanos(back_in));
        self.out_until.store(until, Release);
        Ejection { reason, back_in }
    }

    /// Whether it is in service again, and no sweep has said so yet.
    pub(super) fn has_returned(&self, now: Instant) -> bool {
        let mut history = self.history.lock();
        let returned = history.away && !self.is_ejected(now);
        history.away &= !returned;
        returned
    }

    /// The calls since the last time, if it is in service; a whole interval there is a step back.
    pub(super) fn take(&self, now: Instant) -> Option<Sample> {
        let mut history = self.history.lock();
        if self.is_ejected(now) {
            return None;
        }
        if std::mem::replace(&mut history.served, true) {
            history.steps = history.steps.saturating_sub(1);
        }
        Some(self.drain())
    }
}
