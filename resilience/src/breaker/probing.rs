//! The probes of a breaker: as many calls as were asked for, each one a place that is filled by a result or given
//! back.

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use tokio::time::Instant;

use super::{Admission, Breaker, Change, Control, FULL, PROBES, Pass, Phase, Settings, Trip};
use crate::Verdict;
use crate::share::Share;

/// The right to make one call that decides. Dropped unrecorded, another call may have its place.
#[derive(Debug)]
pub struct Probe {
    breaker: Arc<Breaker>,
    period: u64,
    first: bool,
    recorded: bool,
}

/// Where the probes are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Probing {
    out: u32,
    answered: u32,
    slow: u32,
}

// === impl Probe ===

impl Probe {
    /// Whether this is the first call since the hold was over: the change from `Reject` to `Probe`, for the log.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.first
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.recorded {
            let mut control = self.breaker.control.lock();
            if let Some(probing) = control.probing(self.period) {
                probing.out -= 1;
                self.breaker.gate.store(PROBES, Release);
            }
        }
    }
}

// === impl Control ===

impl Control {
    /// The probes, if they are still those of `period`.
    fn probing(&mut self, period: u64) -> Option<&mut Probing> {
        match &mut self.phase {
            Phase::Probe(probing) if self.period == period => Some(probing),
            _ => None,
        }
    }
}

// === impl Breaker ===

impl Breaker {
    /// A place among the probes, if one is free once the hold is over.
    pub(super) fn probe(self: &Arc<Self>, now: Instant) -> Admission {
        let mut control = self.control.lock();
        let first = match control.phase {
            Phase::Admit => return Admission::Admit(Pass(control.period)),
            Phase::Reject { until } if self.clock.nanos(now) < until => return Admission::Reject,
            Phase::Reject { .. } => {
                control.phase = Phase::Probe(Probing::default());
                control.period += 1;
                true
            }
            Phase::Probe(_) => false,
        };
        let period = control.period;
        let probes = self.measuring.load().settings.probes.get();
        let Some(probing) = control.probing(period).filter(|all| all.taken() < probes) else {
            return Admission::Reject;
        };
        probing.out += 1;
        let gate = if probing.taken() < probes {
            PROBES
        } else {
            FULL
        };
        self.gate.store(gate, Release);
        Admission::Probe(Probe {
            breaker: Arc::clone(self),
            period,
            first,
            recorded: false,
        })
    }

    pub(super) fn record_probe(
        &self,
        mut probe: Probe,
        verdict: Verdict,
        latency: Duration,
        now: Instant,
    ) -> Option<Change> {
        let settings = self.measuring.load().settings;
        let slow = latency >= settings.slow_call;
        if verdict == Verdict::Neutral && !slow {
            // Says nothing: dropping it gives the place back.
            return None;
        }
        probe.recorded = true;
        let mut control = self.control.lock();
        let probing = control.probing(probe.period)?;
        probing.out -= 1;
        probing.answered += 1;
        probing.slow += u32::from(slow);
        if verdict == Verdict::Failure {
            return Some(self.start_rejecting(&mut control, Trip::ProbeFailed, now));
        }
        if probing.answered < settings.probes.get() {
            return None;
        }
        if probing.too_slow(&settings) {
            return Some(self.start_rejecting(&mut control, Trip::ProbesSlow, now));
        }
        Some(self.start_admitting(&mut control))
    }
}

// === impl Probing ===

impl Probing {
    /// Places that are not free: a call is out on them, or has come back.
    const fn taken(&self) -> u32 {
        self.out + self.answered
    }

    fn too_slow(&self, settings: &Settings) -> bool {
        let slow = Share::of_ratio(settings.slow_ratio);
        self.slow > 0 && slow.is_reached_by(self.slow.into(), self.answered.into())
    }
}
