//! A budget for tries beyond the first, so that they cannot become the load that keeps a backend down.
//!
//! Of the tries beyond the first, as many as `ratio` of the first tries in the last 10 s go on that account; what
//! does not fit there may still go on the floor: at most `min_per_second` in any one second, so that a quiet
//! cluster can try again too. Neither can be saved up. Both hold at every instant and for any number of
//! threads: a try is counted first and taken back if it was one too many, so at worst it is refused for another's
//! sake that is refused as well. The idea is Finagle's, <https://finagle.github.io/blog/2016/02/08/retry-budgets/>.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::share::Share;
use crate::window::Window;

/// How long a first try counts.
pub const WINDOW: Duration = Duration::from_secs(10);

const PARTS: usize = 50;
const FLOOR_PARTS: usize = 10;

/// How much a budget allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Tries beyond the first, per first try in the last 10 s; kept in parts per million.
    pub ratio: f64,
    /// As many more in any one second, whatever the traffic.
    pub min_per_second: u32,
}

/// Counts tries and says whether one more may be made. One for each cluster.
#[derive(Debug)]
pub struct RetryBudget {
    clock: Clock,
    parts_per_million: AtomicU64,
    min_per_second: AtomicU32,
    /// Counted too low rather than too high…
    first_tries: Window<PARTS>,
    /// …and these too high rather than too low.
    on_share: Window<{ PARTS + 1 }>,
    on_floor: Window<{ FLOOR_PARTS + 1 }>,
}

// === impl RetryBudget ===

impl RetryBudget {
    /// A budget that has seen nothing yet: it allows the floor.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        let budget = Self {
            clock: Clock::start(),
            parts_per_million: AtomicU64::new(0),
            min_per_second: AtomicU32::new(0),
            first_tries: Window::new(WINDOW, PARTS as u64),
            on_share: Window::new(WINDOW, PARTS as u64),
            on_floor: Window::new(Duration::from_secs(1), FLOOR_PARTS as u64),
        };
        budget.set(terms);
        budget
    }

    /// Other terms from now on; what was counted stays.
    pub fn set(&self, terms: Terms) {
        let share = Share::of_ratio(terms.ratio);
        self.parts_per_million
            .store(share.parts_per_million(), Relaxed);
        self.min_per_second.store(terms.min_per_second, Relaxed);
    }

    /// A request makes its first try.
    pub fn first_try(&self, now: Instant) {
        self.first_tries.add(self.clock.nanos(now));
    }

    /// A request asks for a try beyond its first. `true` is the right to make it, and counts it.
    #[must_use]
    pub fn try_spend(&self, now: Instant) -> bool {
        let at = self.clock.nanos(now);
        reserve(&self.on_share, at, self.share(at))
            || reserve(&self.on_floor, at, self.min_per_second.load(Relaxed).into())
    }

    /// Tries beyond the first that would be allowed at `now`.
    #[must_use]
    pub fn left(&self, now: Instant) -> u32 {
        let at = self.clock.nanos(now);
        let floor = u64::from(self.min_per_second.load(Relaxed));
        let left = self.share(at).saturating_sub(self.on_share.sum(at))
            + floor.saturating_sub(self.on_floor.sum(at));
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// The share of the first tries in the window, rounded down.
    fn share(&self, at: u64) -> u64 {
        let share = Share::from_parts_per_million(self.parts_per_million.load(Relaxed));
        share.of(self.first_tries.sum(at))
    }
}

/// Counts one more if that makes no more than `most`.
fn reserve<const SLICES: usize>(window: &Window<SLICES>, at: u64, most: u64) -> bool {
    if most == 0 {
        return false;
    }
    let counted = window.add(at);
    let fits = window.sum(at) <= most;
    if !fits {
        window.take_back(counted);
    }
    fits
}

#[cfg(test)]
mod tests;
