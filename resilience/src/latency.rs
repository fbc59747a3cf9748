//! How long answers took of late: quantiles over a sliding window, cheap enough to be fed by every request.
//!
//! Hedging asks for its p95, outlier detection and the judge of canaries for theirs. Refused: a quantile from
//! so few samples that none lies beyond it, because that is a guess.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::nanos;
use crate::histogram::{Histogram, Totals};
use crate::ring::Ring;

/// Into how many slices a window is cut.
const SLICES: usize = 5;
/// Fewer samples than this have no quantiles.
const FEWEST: u64 = 10;
/// How long a quantile is believed before it is worked out again.
const REFRESH: Duration = Duration::from_millis(100);
/// In the place of a quantile that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The latencies of the last `window`.
#[derive(Debug)]
pub struct Latencies {
    ring: Ring<Histogram>,
}

/// One quantile of the last `window`, kept at hand: asking costs two loads, and ten times a second somebody
/// works it out anew.
#[derive(Debug)]
pub struct LiveQuantile {
    latencies: Latencies,
    ratio: f64,
    /// Nanoseconds, or `UNKNOWN`.
    value: AtomicU64,
    /// Nanoseconds of the ring's clock.
    refresh_at: AtomicU64,
}

// === impl Latencies ===

impl Latencies {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self {
            ring: Ring::new(window, SLICES),
        }
    }

    /// An answer came at `now`, after `latency`.
    pub fn record(&self, latency: Duration, now: Instant) {
        if let Some(histogram) = self.ring.at(now) {
            histogram.record(latency);
        }
    }

    /// The latency that `ratio` (0 to 1) of the answers did not exceed, up to a sixteenth too long. Nothing
    /// below the samples that put one beyond it: 20 for a p95, 100 for a p99, never fewer than 10.
    #[must_use]
    pub fn quantile(&self, ratio: f64, now: Instant) -> Option<Duration> {
        let totals = Totals::of(self.ring.live(now));
        if totals.samples() < fewest(ratio) {
            return None;
        }
        totals.quantile(ratio)
    }

    /// Answers within the window.
    #[must_use]
    pub fn samples(&self, now: Instant) -> u64 {
        Totals::of(self.ring.live(now)).samples()
    }
}

fn fewest(ratio: f64) -> u64 {
    let beyond = (1.0 - ratio).max(1e-6);
    // Rounded before the ceiling: 1 / (1 - 0.95) is a hair above 20.
    let wanted = (1.0 / beyond - 1e-6).ceil();
    (wanted as u64).max(FEWEST)
}

// === impl LiveQuantile ===

impl LiveQuantile {
    /// The latency that `ratio` of the answers do not exceed.
    #[must_use]
    pub fn new(window: Duration, ratio: f64) -> Self {
        Self {
            latencies: Latencies::new(window),
            ratio,
            value: AtomicU64::new(UNKNOWN),
            refresh_at: AtomicU64::new(0),
        }
    }

    /// An answer came at `now`, after `latency`.
    pub fn record(&self, latency: Duration, now: Instant) {
        self.latencies.record(latency, now);
    }

    /// The quantile as it was at most a tenth of a second ago; nothing from too few samples.
    #[must_use]
    pub fn get(&self, now: Instant) -> Option<Duration> {
        let at = self.latencies.ring.nanos(now);
        let due = self.refresh_at.load(Relaxed);
        if at >= due && self.claims(due, at) {
            let fresh = self
                .latencies
                .quantile(self.ratio, now)
                .map_or(UNKNOWN, nanos);
            self.value.store(fresh, Relaxed);
        }
        match self.value.load(Relaxed) {
            UNKNOWN => None,
            known => Some(Duration::from_nanos(known)),
        }
    }

    /// Whether this caller works it out, and nobody else meanwhile.
    fn claims(&self, due: u64, at: u64) -> bool {
        let next = at + nanos(REFRESH);
        self.refresh_at
            .compare_exchange(due, next, AcqRel, Relaxed)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const WINDOW: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_quantile_needs_a_sample_beyond_it() {
        let latencies = Latencies::new(WINDOW);
        let now = Instant::now();
        (0..19).for_each(|_| latencies.record(MS, now));
        assert_eq!(latencies.quantile(0.95, now), None);
        latencies.record(MS, now);
        assert!(latencies.quantile(0.95, now).is_some());
        assert_eq!(latencies.quantile(0.99, now), None, "20 are too few");
        (0..80).for_each(|_| latencies.record(MS, now));
        assert!(latencies.quantile(0.99, now).is_some());
        assert_eq!(latencies.samples(now), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_window_is_forgotten() {
        let latencies = Latencies::new(WINDOW);
        let early = Instant::now();
        (0..100).for_each(|_| latencies.record(1000 * MS, early));
        let later = early + WINDOW / 2;
        (0..100).for_each(|_| latencies.record(10 * MS, later));
        assert!(latencies.quantile(0.95, later).unwrap() >= 1000 * MS);
        let last = early + WINDOW;
        assert!(latencies.quantile(0.95, last).unwrap() < 11 * MS);
        assert_eq!(latencies.quantile(0.95, last + WINDOW), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_live_quantile_follows_within_a_tenth_of_a_second() {
        let live = LiveQuantile::new(WINDOW, 0.95);
        let mut now = Instant::now();
        assert_eq!(live.get(now), None);
        (0..50).for_each(|_| live.record(10 * MS, now));
        now += REFRESH;
        let before = live.get(now).unwrap();
        assert!((10 * MS..11 * MS).contains(&before), "{before:?}");
        (0..50).for_each(|_| live.record(100 * MS, now));
        assert_eq!(live.get(now + REFRESH / 2), Some(before), "kept at hand");
        let after = live.get(now + REFRESH).unwrap();
        assert!((100 * MS..107 * MS).contains(&after), "{after:?}");
    }
}
