//! A limit of requests in flight that follows the latency, so that a backend works at its best and queues stand
//! here, where they can be refused, instead of there.
//!
//! Ten times a second the median latency of the last window is held against the latency of the idle backend. As
//! long as it is not much longer, the limit grows; beyond that it shrinks in proportion (the gradient of
//! <https://netflixtechblog.medium.com/performance-under-load-3e6fa9a60581>). The idle latency is learnt
//! whenever little is in flight; under load that never ends, the limit is halved for a moment every half a minute, so
//! that no queue stands, to learn it again. Refused: growth while the limit is not used, because that proves nothing.
//!
//! ```text
//! Steady --(busy for RELEARN)--> Draining --(queues are empty)--> Learning --(a window)--> Steady
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::{Clock, nanos};
use crate::histogram::{Histogram, Totals};
use crate::ring::Empty as _;

/// How often the limit is set.
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer answers than this are waited for beyond a window's end.
const FEWEST: u64 = 20;
/// How long the idle latency is believed while it cannot be seen.
const RELEARN: Duration = Duration::from_secs(30);
/// Learning takes no longer than this; then the old value stands.
const LEARNING: Duration = Duration::from_secs(2);
/// How much longer than idle the median may be: room for the queue that keeps a backend busy.
const TOLERANCE: f64 = 1.5;
/// Bounds of one step.
const STEEPEST: (f64, f64) = (0.5, 1.25);
/// One in so many answers saying that the backend is overloaded is a window in which it is.
const OVERLOADED: u64 = 10;
/// What is left of the limit after such a window.
const BACK_OFF: f64 = 0.9;
/// How fast a slower idle latency is believed.
const SMOOTHING: f64 = 0.2;

/// A limit, and what it is worked out from.
#[derive(Debug)]
pub struct Gradient {
    clock: Clock,
    min: AtomicUsize,
    max: AtomicUsize,
    limit: AtomicUsize,
    window: Histogram,
    busiest: AtomicUsize,
    overloads: AtomicU32,
    /// When the window may be closed, in nanoseconds.
    ends: AtomicU64,
    /// Nanoseconds of the last window's median; 0: unknown.
    typical: AtomicU64,
    /// Taken ten times a second, by who closes the window.
    learnt: Mutex<Learnt>,
}

#[derive(Debug)]
struct Learnt {
    idle: Option<Duration>,
    learnt_at: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Steady,
    /// The limit is down; what was queued at the backend is let out.
    Draining {
        until: Instant,
        limits: Halved,
    },
    Learning {
        until: Instant,
        limits: Halved,
    },
}

/// The limit before, and what it is for the moment.
#[derive(Debug, Clone, Copy)]
struct Halved {
    before: usize,
    now: usize,
}

/// A closed window.
#[derive(Debug, Clone, Copy)]
struct Seen {
    median: Duration,
    busiest: usize,
    overloaded: bool,
}

// === impl Gradient ===

impl Gradient {
    /// A limit that starts at `min` and never passes `max`.
    #[must_use]
    pub fn new(min: usize, max: usize) -> Self {
        let clock = Clock::start();
        let now = Instant::now();
        let min = min.max(1);
        Self {
            clock,
            min: AtomicUsize::new(min),
            max: AtomicUsize::new(max.max(min)),
            limit: AtomicUsize::new(min),
            window: Histogram::default(),
            busiest: AtomicUsize::new(0),
            overloads: AtomicU32::new(0),
            ends: AtomicU64::new(clock.nanos(now + WINDOW)),
            typical: AtomicU64::new(0),
            learnt: Mutex::new(Learnt {
                idle: None,
                learnt_at: now,
                phase: Phase::Steady,
            }),
        }
    }

    /// How much may be in flight.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// The median latency of late; nothing before the first window.
    #[must_use]
    pub fn typical(&self) -> Option<Duration> {
        match self.typical.load(Relaxed) {
            0 => None,
            known => Some(Duration::from_nanos(known)),
        }
    }

    /// The latency of the backend when it has little to do, as far as it is known.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        self.learnt.lock().idle
    }

    /// A backend has answered after `latency`, with `in_flight` under way, this one among them. Gives the limit
    /// if it has changed.
    pub fn sample(&self, latency: Duration, in_flight: usize, now: Instant) -> Option<usize> {
        self.window.record(latency);
        if in_flight > self.busiest.load(Relaxed) {
            self.busiest.fetch_max(in_flight, Relaxed);
        }
        self.close(now)
    }

    /// A backend has said that it has too much to do, or did not answer in time. Gives the limit if it has
    /// changed.
    pub fn overloaded(&self, now: Instant) -> Option<usize> {
        self.overloads.fetch_add(1, Relaxed);
        self.close(now)
    }

    /// Other bounds; gives the limit if it has changed.
    pub fn set(&self, min: usize, max: usize) -> Option<usize> {
        let _one_at_a_time = self.learnt.lock();
        let (min, max) = (min.max(1), max.max(min).max(1));
        self.min.store(min, Relaxed);
        self.max.store(max, Relaxed);
        self.change(self.limit().clamp(min, max))
    }

    /// Ends the window if its time is over, and works out the limit.
    fn close(&self, now: Instant) -> Option<usize> {
        let at = self.clock.nanos(now);
        let ends = self.ends.load(Relaxed);
        let next = at + nanos(WINDOW);
        let mine = at >= ends
            && self
                .ends
                .compare_exchange(ends, next, AcqRel, Relaxed)
                .is_ok();
        if !mine {
            return None;
        }
        let seen = self.seen()?;
        self.typical.store(nanos(seen.median), Relaxed);
        let mut learnt = self.learnt.lock();
        let wanted = learnt.next(seen, self.limit(), self.min.load(Relaxed), now);
        let (min, max) = (self.min.load(Relaxed), self.max.load(Relaxed));
        self.change(wanted.clamp(min, max))
    }

    /// What the window has shown; it goes on if that is too little.
    fn seen(&self) -> Option<Seen> {
        let totals = Totals::of([&self.window].into_iter());
        let overloads = self.overloads.load(Relaxed);
        let overloads = u64::from(overloads);
        if totals.samples() + overloads < FEWEST {
            return None;
        }
        let median = totals.quantile(0.5).or(self.typical())?;
        self.window.empty();
        self.overloads.store(0, Relaxed);
        Some(Seen {
            median: median.max(Duration::from_nanos(1)),
            busiest: self.busiest.swap(0, Relaxed),
            overloaded: overloads * OVERLOADED >= totals.samples() + overloads,
        })
    }

    fn change(&self, limit: usize) -> Option<usize> {
        (self.limit.swap(limit, Relaxed) != limit).then_some(limit)
    }
}

// === impl Learnt ===

impl Learnt {
    /// The limit after a window.
    fn next(&mut self, seen: Seen, limit: usize, min: usize, now: Instant) -> usize {
        match self.phase {
            Phase::Steady => self.steady(seen, limit, min, now),
            Phase::Draining { until, limits } => {
                if now >= until {
                    let until = now + LEARNING;
                    self.phase = Phase::Learning { until, limits };
                }
                limits.now
            }
            Phase::Learning { until, limits } => {
                let quiet = seen.busiest <= limits.now;
                if !quiet && now < until {
                    return limits.now;
                }
                if quiet {
                    self.idle = Some(seen.median);
                }
                self.learnt_at = now;
                self.phase = Phase::Steady;
                limits.before
            }
        }
    }

    fn steady(&mut self, seen: Seen, limit: usize, min: usize, now: Instant) -> usize {
        let idle = self.learn(seen, min, now);
        if now - self.learnt_at >= RELEARN {
            // What is in flight has to come back first.
            let until = now + WINDOW.max(seen.median * 2);
            let limits = Halved {
                before: limit,
                now: (limit / 2).max(min),
            };
            self.phase = Phase::Draining { until, limits };
            return limits.now;
        }
        let gradient = idle.as_secs_f64() * TOLERANCE / seen.median.as_secs_f64();
        let gradient = gradient.clamp(STEEPEST.0, STEEPEST.1);
        let before = limit as f64;
        let mut wanted = before * gradient + before.sqrt();
        if seen.overloaded {
            wanted = wanted.min(before) * BACK_OFF;
        }
        if seen.busiest * 2 < limit {
            wanted = wanted.min(before);
        }
        wanted as usize
    }

    /// The idle latency, after what a window tells of it.
    fn learn(&mut self, seen: Seen, min: usize, now: Instant) -> Duration {
        let quiet = seen.busiest <= min;
        if quiet {
            self.learnt_at = now;
        }
        let idle = match self.idle {
            Some(idle) if seen.median >= idle && !quiet => idle,
            Some(idle) if seen.median >= idle => {
                idle.mul_f64(1.0 - SMOOTHING) + seen.median.mul_f64(SMOOTHING)
            }
            _ => seen.median,
        };
        self.idle = Some(idle);
        idle
    }
}

#[cfg(test)]
mod tests;
