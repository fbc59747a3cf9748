//! The window of one period of admitting: counts, and when they are too much.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Settings, Trip};
use crate::Verdict;
use crate::clock::nanos;
use crate::share::Share;
use crate::window::Window;

const PARTS: usize = 20;

/// The calls of one period. A new period has a new one: nobody can count in the wrong one.
#[derive(Debug)]
pub(super) struct Measuring {
    pub(super) settings: Settings,
    pub(super) period: u64,
    failure_share: Share,
    slow_share: Share,
    /// Calls that succeeded or failed…
    judged: Window<PARTS>,
    /// …those of them that failed…
    failed: Window<PARTS>,
    /// …and those that are neither, but were slow.
    only_slow: Window<PARTS>,
    /// Calls that were slow, judged or not.
    slow: Window<PARTS>,
    /// Until then something that is not well may be in the window; later there is nothing to sum up.
    in_doubt_until: AtomicU64,
}

// === impl Measuring ===

impl Measuring {
    pub(super) fn new(settings: Settings, period: u64) -> Self {
        let window = || Window::new(settings.window, PARTS as u64);
        Self {
            settings,
            period,
            failure_share: Share::of_ratio(settings.failure_ratio),
            slow_share: Share::of_ratio(settings.slow_ratio),
            judged: window(),
            failed: window(),
            only_slow: window(),
            slow: window(),
            in_doubt_until: AtomicU64::new(0),
        }
    }

    /// Counts one call; says if that makes too many.
    pub(super) fn record(&self, verdict: Verdict, latency: Duration, at: u64) -> Option<Trip> {
        let slow = latency >= self.settings.slow_call;
        match verdict {
            Verdict::Success | Verdict::Failure => self.judged.add(at),
            Verdict::Neutral if slow => self.only_slow.add(at),
            Verdict::Neutral => return None,
        };
        if verdict == Verdict::Failure {
            self.failed.add(at);
        }
        if slow {
            self.slow.add(at);
        }
        if slow || verdict == Verdict::Failure {
            let until = at.saturating_add(nanos(self.settings.window));
            self.in_doubt_until.fetch_max(until, Relaxed);
        } else if at >= self.in_doubt_until.load(Relaxed) {
            return None;
        }
        self.judge(at)
    }

    fn judge(&self, at: u64) -> Option<Trip> {
        let judged = || self.judged.sum(at);
        let failed = self.failed.sum(at);
        if let Some(of) = self.too_many(failed, self.failure_share, judged) {
            return Some(Trip::Failures { failed, of });
        }
        let slow = self.slow.sum(at);
        let timed = || judged() + self.only_slow.sum(at);
        let of = self.too_many(slow, self.slow_share, timed)?;
        Some(Trip::Slow { slow, of })
    }

    /// Of how many, if `part` is too much of them. They are summed up only if it were too much of the fewest that
    /// are judged at all: now and then a failure is no reason to do so for every call.
    fn too_many(&self, part: u64, share: Share, whole: impl Fn() -> u64) -> Option<u64> {
        let enough = u64::from(self.settings.min_requests.get());
        if part == 0 || !share.is_reached_by(part, enough) {
            return None;
        }
        let whole = whole();
        (whole >= enough && share.is_reached_by(part, whole)).then_some(whole)
    }
}
