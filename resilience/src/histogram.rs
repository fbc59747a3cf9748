//! A log-linear histogram of latencies in atomics: 16 steps to each doubling, from a microsecond to minutes.
//!
//! A quantile is the upper edge of its bucket, at most a sixteenth above the true value and never below it
//! (HdrHistogram's scheme at one significant figure, <https://hdrhistogram.github.io/HdrHistogram/>). One add
//! to record, 1.6 KB to hold. Longer than four minutes counts as four minutes.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::ring::Empty;

/// Steps to a doubling.
const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Doublings beyond the first `STEPS` microseconds.
const DOUBLINGS: usize = 24;
const BUCKETS: usize = STEPS * (DOUBLINGS + 1);
/// The longest that is told apart, in microseconds.
const LONGEST: u64 = (1 << (DOUBLINGS as u32 + STEP_BITS)) - 1;

/// How often each latency was seen.
#[derive(Debug)]
pub(crate) struct Histogram([AtomicU32; BUCKETS]);

/// The sum of several histograms, at rest.
#[derive(Debug)]
pub(crate) struct Totals {
    counts: [u64; BUCKETS],
    samples: u64,
}

// === impl Histogram ===

impl Histogram {
    pub(crate) fn record(&self, latency: Duration) {
        self.0[bucket(latency)].fetch_add(1, Relaxed);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; BUCKETS])
    }
}

impl Empty for Histogram {
    fn empty(&self) {
        self.0.iter().for_each(|count| count.store(0, Relaxed));
    }
}

// === impl Totals ===

impl Totals {
    pub(crate) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut counts = [0; BUCKETS];
        for histogram in histograms {
            for (total, count) in counts.iter_mut().zip(&histogram.0) {
                *total += u64::from(count.load(Relaxed));
            }
        }
        let samples = counts.iter().sum();
        Self { counts, samples }
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// The latency that `ratio` of the samples do not exceed; nothing without samples.
    pub(crate) fn quantile(&self, ratio: f64) -> Option<Duration> {
        let rank = ((ratio * self.samples as f64).ceil() as u64).clamp(1, self.samples.max(1));
        let mut below = 0;
        let found = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        found.map(upper_edge)
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).map_or(LONGEST, |micros| micros.min(LONGEST));
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2() - STEP_BITS;
    let step = (micros >> doubling) as usize; // from STEPS to twice that
    doubling as usize * STEPS + step
}

/// The longest latency of a bucket.
fn upper_edge(bucket: usize) -> Duration {
    if bucket < STEPS {
        return Duration::from_micros(bucket as u64);
    }
    let doubling = bucket / STEPS - 1;
    let step = (bucket % STEPS + STEPS) as u64;
    Duration::from_micros(((step + 1) << doubling) - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quantile_is_at_most_a_sixteenth_above_the_true_one(
            mut micros in prop::collection::vec(prop_oneof![0..100u64, 0..100_000u64, 0..LONGEST], 1..400),
            ratio in 0.0f64..=1.0,
        ) {
            let histogram = Histogram::default();
            micros.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
            micros.sort_unstable();
            let rank = ((ratio * micros.len() as f64).ceil() as usize).max(1);
            let truth = Duration::from_micros(micros[rank - 1]);
            let found = Totals::of([&histogram].into_iter()).quantile(ratio).unwrap();
            prop_assert!(found >= truth, "{found:?} below {truth:?}");
            prop_assert!(found <= truth + truth / 16, "{found:?} too far above {truth:?}");
        }
    }

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS - 1 {
            let edge = upper_edge(index);
            assert_eq!(bucket(edge), index);
            assert_eq!(bucket(edge + Duration::from_micros(1)), index + 1);
        }
        assert_eq!(bucket(Duration::from_secs(100_000)), BUCKETS - 1);
    }
}
