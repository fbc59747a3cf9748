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
        let enough = u64::from(self.settings.min_requests.get());
        let too_many = |part, whole, ratio| {
            part > 0 && whole >= enough && Share::of_ratio(ratio).is_reached_by(part, whole)
        };
        let (judged, failed) = (self.judged.sum(at), self.failed.sum(at));
        if too_many(failed, judged, self.settings.failure_ratio) {
            return Some(Trip::Failures { failed, of: judged });
        }
        let slow = self.slow.sum(at);
        if slow == 0 {
            return None;
        }
        let timed = judged + self.only_slow.sum(at);
        too_many(slow, timed, self.settings.slow_ratio).then_some(Trip::Slow { slow, of: timed })
    }
}
