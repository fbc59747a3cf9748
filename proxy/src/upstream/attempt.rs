//! One try at one endpoint, from the pick to its outcome. It counts as in flight while it lives and is
//! recorded when it ends, however it ends: a future that is dropped records itself as given up.

use std::sync::Arc;

use tokio::time::Instant;

use super::counters::Outcome;
use super::endpoint::Endpoint;

/// A try that is under way.
#[derive(Debug)]
pub struct Attempt {
    endpoint: Arc<Endpoint>,
    worker: usize,
    started: Instant,
    deadline: Option<Instant>,
    /// When its answer began, if that is known apart from its end.
    answered: Option<Instant>,
    ended: bool,
}

// === impl Attempt ===

impl Attempt {
    pub(crate) fn start(
        endpoint: Arc<Endpoint>,
        worker: usize,
        started: Instant,
        deadline: Option<Instant>,
    ) -> Self {
        endpoint.load.start();
        Self {
            endpoint,
            worker,
            started,
            deadline,
            answered: None,
            ended: false,
        }
    }

    /// The endpoint that was picked.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The endpoint, and when its answer began to be waited for.
    pub(crate) fn endpoint_and_start(&mut self) -> (&Arc<Endpoint>, &mut Instant) {
        (&self.endpoint, &mut self.started)
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

    /// It has not even begun: nothing is recorded.
    pub fn withdraw(mut self) {
        self.ended = true;
    }

    /// No connection could be made to the endpoint: it is unusable until a probe succeeds.
    pub fn connect_failed(mut self, why: &str) {
        self.record(Outcome::Connect);
        self.endpoint.unreachable(Some(self.worker), why);
    }

    fn record(&mut self, outcome: Outcome) {
        self.ended = true;
        let now = Instant::now();
        let end = self.answered.unwrap_or(now);
        let latency = end.saturating_duration_since(self.started);
        let load = &self.endpoint.load;
        match outcome {
            Outcome::Ok | Outcome::CallerError => load.answered(now, latency),
            Outcome::BackendError
            | Outcome::Reset
            | Outcome::Malformed
            | Outcome::RefusedStream => load.failed(now, latency),
            Outcome::Timeout | Outcome::Cancelled => load.at_least(now, latency),
            Outcome::Connect => {}
        }
        self.endpoint.counters.count(self.worker, outcome);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            let late = self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline);
            self.record(if self.answered.is_some() {
                Outcome::Ok
            } else if late {
                Outcome::Timeout
            } else {
                Outcome::Cancelled
            });
        }
        self.endpoint.load.end();
    }
}
