//! Judges a canary by its sibling: both are watched over the same stretch of time, and the canary is worse when
//! its error ratio or its p99 is beyond the sibling's by more than the stated margin.
//!
//! Rounds, not a window of time: a round lasts until both sides have had `min_requests`, however long a small
//! canary takes for that, so no verdict rests on fewer. Within a round the one before counts too. Refused: a
//! verdict on noise, so a p99 that is worse by less than [`NOISE`] is fine.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::histogram::{Histogram, Totals};
use crate::ring::Empty;

/// A difference between two p99 that scheduling alone makes.
pub const NOISE: Duration = Duration::from_millis(2);

/// What a canary may do worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// How far its error ratio may lie above its sibling's: 0.02 allows 3 % beside 1 %. Nothing: not judged.
    pub max_error_ratio_over: Option<f64>,
    /// How much longer its p99 may be: 0.5 allows half as long again. Nothing: not judged.
    pub max_p99_over: Option<f64>,
    /// The requests that each side needs for a verdict.
    pub min_requests: u32,
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that is judged.
    Canary,
    /// What it is compared with: all other destinations of the route.
    Sibling,
}

/// What the judge says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// One of them has had fewer than `min_requests`.
    TooFew {
        /// Requests that the canary has had.
        canary: u64,
        /// Requests that its siblings have had.
        sibling: u64,
    },
    /// Within the margins.
    Fine,
    /// Beyond one.
    Worse(Why),
}

/// What is worse; words for people by `Display`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// The error ratio.
    Errors {
        /// The canary's, 0 to 1.
        canary: f64,
        /// Its siblings'.
        sibling: f64,
        /// The margin.
        over: f64,
        /// The canary's requests that this rests on.
        requests: u64,
    },
    /// The p99.
    Latency {
        /// The canary's.
        canary: Duration,
        /// Its siblings'.
        sibling: Duration,
        /// The margin.
        over: f64,
        /// The canary's requests that this rests on.
        requests: u64,
    },
}

/// Watches both sides. Recording is two adds; only the one who asks for verdicts takes a lock.
#[derive(Debug)]
pub struct Judge {
    terms: Mutex<Terms>,
    rounds: [Round; 2],
    /// Which of them is being filled.
    current: AtomicUsize,
}

#[derive(Debug, Default)]
struct Round {
    canary: Watched,
    sibling: Watched,
}

#[derive(Debug, Default)]
struct Watched {
    latencies: Histogram,
    requests: AtomicU64,
    failures: AtomicU64,
}

/// One side, at rest.
struct Seen {
    requests: u64,
    failures: u64,
    p99: Option<Duration>,
}

// === impl Judge ===

impl Judge {
    /// A judge that has seen nothing.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms: Mutex::new(terms),
            rounds: Default::default(),
            current: AtomicUsize::new(0),
        }
    }

    /// A request has been answered; failures are the server's, never the caller's own.
    pub fn record(&self, side: Side, failed: bool, latency: Duration) {
        self.rounds[self.current.load(Relaxed) % 2]
            .of(side)
            .record(failed, latency);
    }

    /// What the last rounds show. Ends the round when it is full, so ask now and then, every second or so.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let terms = self.terms.lock();
        let current = self.current.load(Relaxed) % 2;
        let [this, before] = [&self.rounds[current], &self.rounds[1 - current]];
        let enough = u64::from(terms.min_requests.max(1));
        if this.fewest() >= enough {
            let verdict = terms.compare(&[this]);
            before.empty();
            self.current.store(1 - current, Relaxed);
            return verdict;
        }
        if this.fewest() + before.fewest() >= enough {
            return terms.compare(&[this, before]);
        }
        let requests = |side| this.of(side).requests() + before.of(side).requests();
        Verdict::TooFew {
            canary: requests(Side::Canary),
            sibling: requests(Side::Sibling),
        }
    }

    /// Other terms; what has been seen stays.
    pub fn set(&self, terms: Terms) {
        *self.terms.lock() = terms;
    }

    /// What was seen is about another version, or about one that has been given another chance.
    pub fn forget(&self) {
        let _one_at_a_time = self.terms.lock();
        self.rounds.iter().for_each(Empty::empty);
    }
}

// === impl Terms ===

impl Terms {
    fn compare(&self, rounds: &[&Round]) -> Verdict {
        let canary = Seen::of(rounds, Side::Canary);
        let sibling = Seen::of(rounds, Side::Sibling);
        self.errors(&canary, &sibling)
            .or_else(|| self.latency(&canary, &sibling))
            .map_or(Verdict::Fine, Verdict::Worse)
    }

    fn errors(&self, canary: &Seen, sibling: &Seen) -> Option<Why> {
        let over = self.max_error_ratio_over?;
        let why = Why::Errors {
            canary: canary.error_ratio(),
            sibling: sibling.error_ratio(),
            over,
            requests: canary.requests,
        };
        (canary.error_ratio() > sibling.error_ratio() + over).then_some(why)
    }

    fn latency(&self, canary: &Seen, sibling: &Seen) -> Option<Why> {
        let over = self.max_p99_over?;
        let (slow, usual) = (canary.p99?, sibling.p99?);
        let why = Why::Latency {
            canary: slow,
            sibling: usual,
            over,
            requests: canary.requests,
        };
        let beyond = slow > usual.mul_f64(1.0 + over) && slow > usual + NOISE;
        beyond.then_some(why)
    }
}

// === impl Round ===

impl Round {
    fn of(&self, side: Side) -> &Watched {
        match side {
            Side::Canary => &self.canary,
            Side::Sibling => &self.sibling,
        }
    }

    fn fewest(&self) -> u64 {
        self.canary.requests().min(self.sibling.requests())
    }
}

impl Empty for Round {
    fn empty(&self) {
        self.canary.empty();
        self.sibling.empty();
    }
}

// === impl Watched ===

impl Watched {
    fn record(&self, failed: bool, latency: Duration) {
        self.latencies.record(latency);
        self.requests.fetch_add(1, Relaxed);
        self.failures.fetch_add(u64::from(failed), Relaxed);
    }

    fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

impl Empty for Watched {
    fn empty(&self) {
        self.latencies.empty();
        self.requests.store(0, Relaxed);
        self.failures.store(0, Relaxed);
    }
}

// === impl Seen ===

impl Seen {
    fn of(rounds: &[&Round], side: Side) -> Self {
        let sides = || rounds.iter().map(|round| round.of(side));
        Self {
            requests: sides().map(Watched::requests).sum(),
            failures: sides().map(|watched| watched.failures.load(Relaxed)).sum(),
            p99: Totals::of(sides().map(|watched| &watched.latencies)).quantile(0.99),
        }
    }

    fn error_ratio(&self) -> f64 {
        self.failures as f64 / self.requests.max(1) as f64
    }
}

// === impl Why ===

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Errors {
                canary,
                sibling,
                over,
                requests,
            } => write!(
                f,
                "{:.1}% of {requests} requests failed, {:.1}% of its siblings' (margin {:.1}%)",
                canary * 100.0,
                sibling * 100.0,
                over * 100.0
            ),
            Self::Latency {
                canary,
                sibling,
                over,
                requests,
            } => write!(
                f,
                "p99 {canary:.1?} over {requests} requests, its siblings' {sibling:.1?} (margin {:.0}%)",
                over * 100.0
            ),
        }
    }
}

#[cfg(test)]
mod tests;
