//! A breaker for one endpoint: it stops traffic to what fails or has become slow, and lets a few calls see whether
//! it is well again.
//!
//! ```text
//!            too many of the last calls                 `hold` is over
//!            failed or were slow                        and a call comes
//!   ┌────────┐ ─────────────────────▶ ┌────────┐ ─────────────────────▶ ┌────────┐
//!   │ Admit  │                        │ Reject │                        │ Probe  │
//!   └────────┘                        └────────┘ ◀───────────────────── └────────┘
//!        ▲                              one failed, or they were slow;       │
//!        │                              `hold` doubles, up to `max_hold`     │
//!        └───────────────────────────────────────────────────────────────────┘
//!              `probes` calls answered: the window and the hold start anew
//! ```
//!
//! Refused: more than `probes` calls at once while probing, and results of calls that were admitted in an earlier
//! state: they say nothing about this one. A probe that is dropped unrecorded gives its place back. While it admits, a
//! call costs a few atomic operations; locks are for changes of state and for probes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Verdict;
use crate::clock::{Clock, nanos};

mod change;
mod measuring;
mod probing;

pub use change::{Change, Trip};
use measuring::Measuring;
pub use probing::Probe;
use probing::Probing;

/// When a breaker rejects, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How far back calls count.
    pub window: Duration,
    /// With fewer calls in the window nothing is judged.
    pub min_requests: NonZeroU32,
    /// This share of failed calls, or more, is too much.
    pub failure_ratio: f64,
    /// A call that took this long, or longer, was slow.
    pub slow_call: Duration,
    /// This share of slow calls, or more, is too much.
    pub slow_ratio: f64,
    /// How long to reject before the first probe.
    pub hold: Duration,
    /// What doubling may make of `hold`.
    pub max_hold: Duration,
    /// Calls that are let through to see whether it is well again.
    pub probes: NonZeroU32,
}

/// What traffic feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything passes.
    Admit,
    /// A few calls pass, to see.
    Probe,
    /// Nothing passes.
    Reject,
}

/// The answer to one call, and what its result is recorded with.
#[derive(Debug)]
#[must_use]
pub enum Admission {
    /// Go ahead.
    Admit(Pass),
    /// Go ahead: the result decides.
    Probe(Probe),
    /// Do not call.
    Reject,
}

/// The period of admitting that a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass(u64);

/// Judges the calls to one endpoint.
#[derive(Debug)]
pub struct Breaker {
    clock: Clock,
    /// One of the words below, or until when it rejects: a copy of the phase that costs nothing to read.
    gate: AtomicU64,
    measuring: ArcSwap<Measuring>,
    control: Mutex<Control>,
}

const ADMITS: u64 = 0;
/// Probing, and all probes are out.
const FULL: u64 = u64::MAX;
/// Probing, and one may go.
const PROBES: u64 = u64::MAX - 1;
const LATEST: u64 = PROBES - 1;

#[derive(Debug)]
struct Control {
    phase: Phase,
    /// Counts the changes, to tell late results from those of now.
    period: u64,
    /// Rejections in a row.
    rejections: u32,
    last_trip: Option<Trip>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Admit,
    Reject { until: u64 },
    Probe(Probing),
}

// === impl Breaker ===

impl Breaker {
    /// A breaker that admits, with an empty window.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let control = Control {
            phase: Phase::Admit,
            period: 0,
            rejections: 0,
            last_trip: None,
        };
        Self {
            clock: Clock::start(),
            gate: AtomicU64::new(ADMITS),
            measuring: ArcSwap::from_pointee(Measuring::new(settings, control.period)),
            control: Mutex::new(control),
        }
    }

    /// Other settings from now on. If they differ, the window and the probes start anew; the state stays.
    pub fn set(&self, settings: Settings) {
        let mut control = self.control.lock();
        if self.measuring.load().settings == settings {
            return;
        }
        if let Phase::Probe(probing) = &mut control.phase {
            *probing = Probing::default();
            control.period += 1;
            self.gate.store(PROBES, Release);
        }
        let measuring = Measuring::new(settings, control.period);
        self.measuring.store(Arc::new(measuring));
    }

    /// Admits, with an empty window, as if new: what was known is about something else.
    pub fn forget(&self) {
        self.start_admitting(&mut self.control.lock());
    }

    /// Whether one call may go. What it answers with is to be handed to [`Self::record`].
    pub fn admit(self: &Arc<Self>, now: Instant) -> Admission {
        match self.gate.load(Acquire) {
            ADMITS => Admission::Admit(Pass(self.measuring.load().period)),
            FULL => Admission::Reject,
            PROBES => self.probe(now),
            until if self.clock.nanos(now) < until => Admission::Reject,
            _ => self.probe(now),
        }
    }

    /// Whether [`Self::admit`] would let a call go, without asking for it: for the choice among endpoints.
    #[must_use]
    pub fn would_admit(&self, now: Instant) -> bool {
        match self.gate.load(Acquire) {
            ADMITS | PROBES => true,
            until => self.clock.nanos(now) >= until,
        }
    }

    /// Counts the result of an admitted call. A change of state is for the log.
    pub fn record(
        &self,
        admission: Admission,
        verdict: Verdict,
        latency: Duration,
        now: Instant,
    ) -> Option<Change> {
        match admission {
            Admission::Admit(pass) => self.record_call(pass, verdict, latency, now),
            Admission::Probe(probe) => self.record_probe(probe, verdict, latency, now),
            Admission::Reject => None,
        }
    }

    /// What traffic feels at `now`. A hold that is over is a probe that waits for its call.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        match self.gate.load(Acquire) {
            ADMITS => State::Admit,
            FULL | PROBES => State::Probe,
            until if self.clock.nanos(now) < until => State::Reject,
            _ => State::Probe,
        }
    }

    /// How long it will still reject; nothing if it admits or probes.
    #[must_use]
    pub fn opens_in(&self, now: Instant) -> Duration {
        match self.gate.load(Acquire) {
            ADMITS | FULL | PROBES => Duration::ZERO,
            until => Duration::from_nanos(until.saturating_sub(self.clock.nanos(now))),
        }
    }

    /// What it rejected for, as long as it has not admitted since.
    #[must_use]
    pub fn last_trip(&self) -> Option<Trip> {
        self.control.lock().last_trip
    }

    fn record_call(
        &self,
        pass: Pass,
        verdict: Verdict,
        latency: Duration,
        now: Instant,
    ) -> Option<Change> {
        let measuring = self.measuring.load();
        if measuring.period != pass.0 {
            return None;
        }
        let trip = measuring.record(verdict, latency, self.clock.nanos(now))?;
        let mut control = self.control.lock();
        let still_admits = matches!(control.phase, Phase::Admit) && control.period == pass.0;
        still_admits.then(|| self.start_rejecting(&mut control, trip, now))
    }

    fn start_rejecting(&self, control: &mut Control, why: Trip, now: Instant) -> Change {
        let settings = self.measuring.load().settings;
        let factor = 1u32.checked_shl(control.rejections).unwrap_or(u32::MAX);
        let hold = settings.hold.saturating_mul(factor).min(settings.max_hold);
        let until = self.clock.nanos(now).saturating_add(nanos(hold));
        let until = until.clamp(ADMITS + 1, LATEST);
        control.phase = Phase::Reject { until };
        control.period += 1;
        control.rejections = control.rejections.saturating_add(1);
        control.last_trip = Some(why);
        self.gate.store(until, Release);
        Change::Rejects { why, hold }
    }

    fn start_admitting(&self, control: &mut Control) -> Change {
        control.phase = Phase::Admit;
        control.period += 1;
        control.rejections = 0;
        control.last_trip = None;
        let settings = self.measuring.load().settings;
        self.measuring
            .store(Arc::new(Measuring::new(settings, control.period)));
        self.gate.store(ADMITS, Release);
        Change::Admits
    }
}

#[cfg(test)]
mod tests;
