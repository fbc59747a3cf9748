//! One try at one endpoint, from the pick to its outcome. It counts as in flight while it lives and is
//! recorded when it ends, however it ends: a future that is dropped records itself as given up. What is recorded
//! feeds the load, the breaker and the outlier detection of the endpoint alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use resilience::Verdict;
use resilience::breaker::{Admission, Breaker};
use tokio::time::Instant;

use super::counters::Outcome;
use super::endpoint::Endpoint;
use super::selection::Picked;

/// How far two clocks, started by the same request, may be apart at its deadline.
pub(crate) const CLOCK_SLACK: Duration = Duration::from_millis(10);

/// A try that is under way.
#[derive(Debug)]
pub struct Attempt {
    endpoint: Arc<Endpoint>,
    guard: Option<Guard>,
    /// Where it counts as in flight beside the endpoint.
    total: Option<Arc<AtomicUsize>>,
    worker: usize,
    departure: Departure,
    deadline: Option<Instant>,
    /// When its answer began, if that is known apart from its end.
    answered: Option<Instant>,
    impatient: bool,
    /// Nobody waits for it, and the endpoint is not judged by it.
    copy: bool,
    ended: bool,
    /// It took no room that another one could have.
    withdrawn: bool,
}

/// How a try sets out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure {
    /// When its answer began to be waited for.
    pub(crate) at: Instant,
    /// Whether the endpoint may have seen it.
    pub(crate) sent: bool,
}

/// The breaker that let a try pass, and waits for what comes of it.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) admission: Admission,
}

/// When a try ended, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) now: Instant,
    pub(crate) latency: Duration,
}

// === impl Attempt ===

impl Attempt {
    pub(crate) fn start(picked: Picked, worker: usize, started: Instant) -> Self {
        let Picked {
            endpoint,
            guard,
            total,
            near: _,
        } = picked;
        endpoint.load.start();
        if let Some(total) = &total {
            total.fetch_add(1, Relaxed);
        }
        Self {
            endpoint,
            guard,
            total,
            worker,
            departure: Departure {
                at: started,
                sent: false,
            },
            deadline: None,
            impatient: false,
            copy: false,
            answered: None,
            ended: false,
            withdrawn: false,
        }
    }

    /// Until when the caller waits. `impatient`: that is less time than the route has, so that the endpoint is
    /// not to blame for being late.
    pub fn set_deadline(&mut self, deadline: Instant, impatient: bool) {
        self.deadline = Some(deadline);
        self.impatient = impatient;
    }

    /// Whether it is a copy of another call, by which the endpoint is not judged.
    pub(crate) fn set_copy(&mut self, copy: bool) {
        self.copy = copy;
    }

    /// The endpoint that was picked.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Whether the endpoint may have seen it.
    pub(crate) fn was_sent(&self) -> bool {
        self.departure.sent
    }

    /// When its answer began to be waited for.
    pub(crate) fn started(&self) -> Instant {
        self.departure.at
    }

    /// The endpoint, and what is to be known of the way there.
    pub(crate) fn set_out(&mut self) -> (&Arc<Endpoint>, &mut Departure) {
        (&self.endpoint, &mut self.departure)
    }

    /// It leaves for the endpoint: how long connections take says nothing about how long answers do.
    pub fn sent(&mut self, now: Instant) {
        self.departure = Departure {
            at: now,
            sent: true,
        };
    }

    /// Its answer has begun: how long the rest takes says nothing about the endpoint.
    pub fn answering(&mut self) {
        self.answered = Some(Instant::now());
    }

    /// Records what came of it, while it stays in flight. Once is enough.
    pub fn settle(&mut self, outcome: Outcome) {
        if !self.ended {
            self.record(outcome);
        }
    }

    /// Records what came of it.
    pub fn finish(mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    /// It has not even begun: nothing is recorded, and a probe's place is given back.
    pub fn withdraw(mut self) {
        self.withdrawn();
    }

    /// The same, and says when that was.
    pub(crate) fn withdrawn(&mut self) -> Ended {
        (self.ended, self.withdrawn) = (true, true);
        let (now, latency) = (Instant::now(), Duration::ZERO);
        let ended = Ended { now, latency };
        if let Some(guard) = self.guard.take() {
            self.endpoint.judged(guard, Verdict::Neutral, ended);
        }
        ended
    }

    /// No connection could be made to the endpoint: it is unusable until a probe succeeds.
    pub fn connect_failed(mut self, why: &str) {
        self.record(Outcome::Connect);
        self.endpoint.unreachable(Some(self.worker), why);
    }

    /// Records what came of it, and says when that was.
    pub(crate) fn record(&mut self, outcome: Outcome) -> Ended {
        self.ended = true;
        let now = Instant::now();
        let end = self.answered.unwrap_or(now);
        let latency = end.saturating_duration_since(self.departure.at);
        let load = &self.endpoint.load;
        match outcome {
            Outcome::Ok | Outcome::CallerError => load.answered(now, latency),
            Outcome::BackendError
            | Outcome::Reset
            | Outcome::Malformed
            | Outcome::RefusedStream
            | Outcome::GoneAway => load.failed(now, latency),
            Outcome::Timeout | Outcome::Cancelled => load.at_least(now, latency),
            Outcome::Connect => {}
        }
        self.endpoint.counters.count(self.worker, outcome);
        let ended = Ended { now, latency };
        let verdict = self.verdict(outcome, now);
        if let Some(guard) = self.guard.take() {
            self.endpoint.judged(guard, verdict, ended);
        }
        self.endpoint.observed(verdict, ended);
        self.endpoint.concurrency.observed(outcome, verdict, ended);
        ended
    }

    /// What it comes to if nobody waits for it any longer.
    pub(crate) fn outcome_so_far(&self, now: Instant) -> Outcome {
        if self.answered.is_some() {
            Outcome::Ok
        } else if self.deadline.is_some_and(|deadline| now >= deadline) {
            Outcome::Timeout
        } else {
            Outcome::Cancelled
        }
    }

    /// What it says about the endpoint. A connection that cannot be made, or that the endpoint closes in good
    /// order, has states of its own.
    fn verdict(&self, outcome: Outcome, now: Instant) -> Verdict {
        match outcome {
            _ if self.copy => Verdict::Neutral,
            Outcome::Ok | Outcome::CallerError => Verdict::Success,
            Outcome::Timeout if self.impatient && self.is_late(now) => Verdict::Neutral,
            Outcome::BackendError
            | Outcome::Reset
            | Outcome::Malformed
            | Outcome::RefusedStream
            | Outcome::Timeout => Verdict::Failure,
            Outcome::Connect | Outcome::GoneAway | Outcome::Cancelled => Verdict::Neutral,
        }
    }

    /// Whether the caller's own time is up, and not only that of a try.
    fn is_late(&self, now: Instant) -> bool {
        self.deadline
            .is_some_and(|deadline| now + CLOCK_SLACK >= deadline)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.record(self.outcome_so_far(Instant::now()));
        }
        self.endpoint.load.end();
        if !self.withdrawn {
            self.endpoint.concurrency.freed();
        }
        if let Some(total) = &self.total {
            total.fetch_sub(1, Relaxed);
        }
    }
}
