//! A count of what happened lately: a ring of slices of time, each one atomic word.
//!
//! A word holds the number of its slice beside the count, so the first who comes in a new slice empties the old
//! one in the same step that counts: there is no rotation that another thread could see half done. What comes late,
//! with an older `now`, counts in the newer slice that has taken its place.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::clock::nanos;

const COUNT_BITS: u32 = 32;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// Counts per slice; `SLICES` is how many are remembered, the running one among them.
#[derive(Debug)]
pub(crate) struct Window<const SLICES: usize> {
    slots: [AtomicU64; SLICES],
    slice: u64,
}

/// The number of a slice of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slice(u64);

// === impl Window ===

impl<const SLICES: usize> Window<SLICES> {
    /// A window that divides `length` in `parts`: it remembers `SLICES` of these.
    ///
    /// With as many slices as parts it never counts what is older than `length`, and may miss up to one part of it;
    /// with one slice more it counts all of `length`, and up to one part beyond.
    pub(crate) fn new(length: Duration, parts: u64) -> Self {
        Self {
            slots: [const { AtomicU64::new(0) }; SLICES],
            slice: (nanos(length) / parts).max(1),
        }
    }

    /// The slice that `at` (of a [`Clock`](crate::clock::Clock)) lies in.
    fn slice_at(&self, at: u64) -> u64 {
        (at / self.slice).min(COUNT)
    }

    fn slot(&self, slice: u64) -> &AtomicU64 {
        // The remainder is below SLICES, which is a usize.
        &self.slots[(slice % SLICES as u64) as usize]
    }

    /// One more; says where it was counted, for [`Self::take_back`].
    pub(crate) fn add(&self, at: u64) -> Slice {
        let slice = self.slice_at(at);
        let slot = self.slot(slice);
        let mut seen = slot.load(SeqCst);
        loop {
            let counted = seen >> COUNT_BITS;
            let next = if counted < slice {
                (slice << COUNT_BITS) | 1
            } else if seen & COUNT == COUNT {
                seen
            } else {
                seen + 1
            };
            match slot.compare_exchange_weak(seen, next, SeqCst, SeqCst) {
                Ok(_) => return Slice(next >> COUNT_BITS),
                Err(now) => seen = now,
            }
        }
    }

    /// Undoes an [`Self::add`], unless it is forgotten already.
    pub(crate) fn take_back(&self, slice: Slice) {
        let fewer = |seen: u64| {
            let there = seen >> COUNT_BITS == slice.0 && seen & COUNT > 0;
            there.then(|| seen - 1)
        };
        let _forgotten = self.slot(slice.0).fetch_update(SeqCst, SeqCst, fewer);
    }

    /// All that is remembered at `at`.
    pub(crate) fn sum(&self, at: u64) -> u64 {
        let oldest = (self.slice_at(at) + 1).saturating_sub(SLICES as u64);
        self.slots
            .iter()
            .map(|slot| slot.load(SeqCst))
            .filter(|seen| seen >> COUNT_BITS >= oldest)
            .map(|seen| seen & COUNT)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn window<const SLICES: usize>() -> Window<SLICES> {
        Window::new(Duration::from_secs(10), 10)
    }

    #[test]
    fn what_is_counted_is_forgotten_after_its_time() {
        let window = window::<10>();
        window.add(SECOND / 2);
        window.add(3 * SECOND);
        assert_eq!(window.sum(9 * SECOND), 2);
        assert_eq!(window.sum(10 * SECOND), 1);
        assert_eq!(window.sum(13 * SECOND), 0);
    }

    #[test]
    fn a_late_one_counts_where_its_place_was_taken() {
        let window = window::<10>();
        window.add(12 * SECOND);
        let counted = window.add(2 * SECOND);
        assert_eq!(counted, Slice(12));
        assert_eq!(window.sum(12 * SECOND), 2);
    }

    #[test]
    fn what_was_taken_back_or_forgotten_does_not_count_below_zero() {
        let window = window::<10>();
        let slice = window.add(SECOND);
        window.take_back(slice);
        window.take_back(slice);
        assert_eq!(window.sum(SECOND), 0);
        let old = window.add(SECOND);
        window.add(11 * SECOND);
        window.take_back(old);
        assert_eq!(window.sum(11 * SECOND), 1);
    }

    proptest! {
        /// Against a list of all instants: as many slices as parts miss at most a part, one more adds at most a part.
        #[test]
        fn counts_are_those_of_the_window_give_or_take_a_slice(
            mut events in proptest::collection::vec(0..60 * SECOND, 0..200),
        ) {
            events.sort_unstable();
            let (within, beyond) = (window::<10>(), window::<11>());
            for (index, now) in events.iter().copied().enumerate() {
                within.add(now);
                beyond.add(now);
                let since = |age: u64| events[..=index].iter().filter(|at| now - **at < age).count() as u64;
                let (least, exact, most) = (since(9 * SECOND), since(10 * SECOND), since(11 * SECOND));
                prop_assert!((least..=exact).contains(&within.sum(now)));
                prop_assert!((exact..=most).contains(&beyond.sum(now)));
            }
        }
    }
}
