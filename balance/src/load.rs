//! How busy an endpoint is: requests in flight and the peak EWMA of its latency.
//!
//! Peak EWMA believes bad news at once and forgets it slowly: a latency above the average replaces it, one
//! below pulls it down as time passes. Plain relaxed atomics: when two threads write at once, one of two true
//! observations is lost, which is cheaper than a lock and changes nothing. Padded, so that neighbours in
//! memory do not share a cache line.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// The time in which an observation loses all but a third of its weight.
const MEMORY: Duration = Duration::from_secs(3);
/// What a failure counts as at least, so that failing fast does not look like being fast.
const FAILURE: Duration = Duration::from_millis(10);
/// What failures in a row add up to at most.
const FAILURES: Duration = Duration::from_secs(1);
/// How much worse each of them makes it.
const WORSE: f64 = 4.0;
/// What a request to an endpoint that has not answered yet costs: it gets one, then waits for its verdict.
const UNPROVEN: f64 = 1e12;

/// The load of one endpoint.
#[derive(Debug)]
#[repr(align(128))]
pub struct Load {
    epoch: Instant,
    in_flight: AtomicUsize,
    /// Bits of the average in nanoseconds, as of `observed`; 0: never observed.
    average: AtomicU64,
    /// Nanoseconds since the epoch.
    observed: AtomicU64,
}

// === impl Load ===

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

impl Load {
    /// Of an endpoint that has not been asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            epoch: Instant::now(),
            in_flight: AtomicUsize::new(0),
            average: AtomicU64::new(0),
            observed: AtomicU64::new(0),
        }
    }

    /// A request has set out.
    pub fn start(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// A request is over.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Requests that are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// An answer came after `latency`.
    pub fn answered(&self, now: Instant, latency: Duration) {
        let (average, keep) = self.average_and_weight(now);
        let latency = nanos(latency);
        let next = if latency >= average {
            latency
        } else {
            average * keep + latency * (1.0 - keep)
        };
        self.store(now, next);
    }

    /// A call failed after `latency`. One failure keeps most requests away for seconds, many for longer.
    pub fn failed(&self, now: Instant, latency: Duration) {
        let (average, keep) = self.average_and_weight(now);
        let worse = (average * keep * WORSE).clamp(nanos(FAILURE), nanos(FAILURES));
        self.store(now, worse.max(nanos(latency)));
    }

    /// A call was given up after `latency`: the answer would have taken longer still.
    pub fn at_least(&self, now: Instant, latency: Duration) {
        let (average, keep) = self.average_and_weight(now);
        if nanos(latency) > average * keep {
            self.store(now, nanos(latency));
        }
    }

    /// What was known is about a process that is gone.
    pub fn forget(&self) {
        self.average.store(0, Relaxed);
    }

    /// The average latency, faded by the time since it was observed.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Duration {
        let (average, keep) = self.average_and_weight(now);
        Duration::from_nanos((average * keep) as u64)
    }

    /// What one more request may be expected to wait for, as a number to compare. Idle endpoints of any weight
    /// compare by latency alone; weights say how much load counts.
    #[must_use]
    pub fn cost(&self, now: Instant, weight: f64) -> f64 {
        let in_flight = self.in_flight() as f64;
        let (average, keep) = self.average_and_weight(now);
        if average == 0.0 {
            return UNPROVEN * in_flight;
        }
        average * keep * (1.0 + in_flight / weight)
    }

    fn average_and_weight(&self, now: Instant) -> (f64, f64) {
        let average = f64::from_bits(self.average.load(Relaxed));
        let age = self
            .since_epoch(now)
            .saturating_sub(self.observed.load(Relaxed));
        (average, fade(age as f64 / MEMORY.as_nanos() as f64))
    }

    fn store(&self, now: Instant, average: f64) {
        self.average.store(average.max(1.0).to_bits(), Relaxed);
        self.observed.store(self.since_epoch(now), Relaxed);
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// `e^-x`. Between two answers of a busy endpoint `x` is tiny and the line is exact enough.
fn fade(x: f64) -> f64 {
    if x < 1e-3 { 1.0 - x } else { (-x).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    async fn pass(time: Duration) -> Instant {
        tokio::time::advance(time).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn bad_news_counts_at_once_and_fades() {
        let load = Load::new();
        load.answered(Instant::now(), MS);
        load.answered(pass(MS).await, 100 * MS);
        assert_eq!(load.latency(Instant::now()), 100 * MS);
        let later = pass(MEMORY).await;
        let faded = load.latency(later);
        assert!((36 * MS..37 * MS).contains(&faded), "{faded:?}");
        load.answered(later, MS);
        let mixed = load.latency(later);
        assert!((37 * MS..38 * MS).contains(&mixed), "{mixed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn failing_fast_is_not_being_fast() {
        let load = Load::new();
        let mut latencies = Vec::new();
        for _ in 0..6 {
            load.failed(Instant::now(), MS);
            latencies.push(load.latency(Instant::now()).as_millis());
        }
        assert_eq!(latencies, [10, 40, 160, 640, 1000, 1000]);
        load.failed(Instant::now(), 3000 * MS);
        assert_eq!(load.latency(Instant::now()), 3000 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_early_is_no_good_news() {
        let load = Load::new();
        load.answered(Instant::now(), 50 * MS);
        load.at_least(Instant::now(), MS);
        assert_eq!(load.latency(Instant::now()), 50 * MS);
        load.at_least(Instant::now(), 80 * MS);
        assert_eq!(load.latency(Instant::now()), 80 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unproven_endpoint_gets_one_request_at_a_time() {
        let (fresh, known) = (Load::new(), Load::new());
        known.answered(Instant::now(), 10 * MS);
        let now = Instant::now();
        assert!(fresh.cost(now, 1.0) < known.cost(now, 1.0));
        fresh.start();
        assert!(fresh.cost(now, 1.0) > known.cost(now, 1.0));
    }
}
