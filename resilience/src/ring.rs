//! A sliding window as a ring of slices: the oldest is emptied when its place is needed again.
//!
//! Shared by what counts over the last seconds. Atomics only: who finds a slice of an earlier turn claims it
//! and empties it; what others add in those nanoseconds may be lost, which a statistic can afford.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, nanos};

/// What a slice holds.
pub(crate) trait Empty: Default {
    /// Back to nothing.
    fn empty(&self);
}

/// The last `window`, of which the last slice is still being filled: it covers between `1 - 1/slices` of the
/// window and the whole of it.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    clock: Clock,
    /// Nanoseconds.
    width: u64,
    slices: Box<[Slice<T>]>,
}

#[derive(Debug, Default)]
struct Slice<T> {
    /// Which stretch of time it holds, counted from 1; 0: none yet.
    turn: AtomicU64,
    value: T,
}

impl<T: Empty> Ring<T> {
    /// A ring over `window`, cut into `slices`.
    pub(crate) fn new(window: Duration, slices: usize) -> Self {
        let slices = slices.max(1);
        Self {
            clock: Clock::start(),
            width: (nanos(window) / slices as u64).max(1),
            slices: (0..slices).map(|_| Slice::default()).collect(),
        }
    }

    /// The slice that `now` falls into; nothing if that one is gone, because `now` is a whole window behind.
    pub(crate) fn at(&self, now: Instant) -> Option<&T> {
        let turn = self.turn(now);
        let slice = &self.slices[(turn % self.slices.len() as u64) as usize];
        let seen = slice.turn.load(Relaxed);
        if seen > turn {
            return None;
        }
        let claims = || slice.turn.compare_exchange(seen, turn, AcqRel, Acquire);
        if seen < turn && claims().is_ok() {
            slice.value.empty();
        }
        Some(&slice.value)
    }

    /// The slices that are within the window now.
    pub(crate) fn live(&self, now: Instant) -> impl Iterator<Item = &T> {
        let turn = self.turn(now);
        let oldest = (turn + 1).saturating_sub(self.slices.len() as u64).max(1);
        self.slices
            .iter()
            .filter(move |slice| (oldest..=turn).contains(&slice.turn.load(Relaxed)))
            .map(|slice| &slice.value)
    }

    /// `now` in nanoseconds of the ring's clock.
    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        self.clock.nanos(now)
    }

    fn turn(&self, now: Instant) -> u64 {
        self.nanos(now) / self.width + 1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    impl Empty for AtomicU64 {
        fn empty(&self) {
            self.store(0, Relaxed);
        }
    }

    fn sum(ring: &Ring<AtomicU64>, now: Instant) -> u64 {
        ring.live(now).map(|cell| cell.load(Relaxed)).sum()
    }

    proptest! {
        /// Against a list of every event: nothing younger than the window less a slice is missing, nothing
        /// older than the window is counted.
        #[test]
        fn it_counts_the_window_give_or_take_a_slice(steps in prop::collection::vec(0u64..400, 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _inside = runtime.enter();
            let window = Duration::from_secs(1);
            let ring: Ring<AtomicU64> = Ring::new(window, 5);
            let mut now = Instant::now();
            let mut events = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                ring.at(now).unwrap().fetch_add(1, Relaxed);
                events.push(now);
                let younger = |age| events.iter().filter(|at| now - **at < age).count() as u64;
                let counted = sum(&ring, now);
                prop_assert!(counted >= younger(window - window / 5), "{counted} at {now:?}");
                prop_assert!(counted <= younger(window), "{counted} at {now:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_observation_of_a_slice_that_is_gone_is_dropped() {
        let ring: Ring<AtomicU64> = Ring::new(Duration::from_secs(1), 5);
        let early = Instant::now();
        let late = early + Duration::from_secs(1);
        ring.at(late).unwrap().fetch_add(1, Relaxed);
        assert!(ring.at(early).is_none());
        assert_eq!(sum(&ring, late), 1);
        assert_eq!(sum(&ring, late + Duration::from_secs(2)), 0);
    }
}
