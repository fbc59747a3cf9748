//! The life of one call in a cluster: pick, call, judge, stop or go again.
//!
//! A call that no backend can have executed goes to another endpoint at once, as often as there is one and
//! time is left. Anything else is told to the caller as it is. Refused: the same endpoint while another one is
//! usable, and any second try of a call that may have been executed.

use std::sync::Arc;

use resilience::limiter::Limiter;
use tokio::time::{Instant, timeout_at};

use super::attempt::Attempt;
use super::call::TryError;
use super::cluster::Cluster;
use super::counters::Outcome;
use super::endpoint::Endpoint;
use super::error::CallError;
use super::exchange::Exchange;
use super::selection::{NoPick, Tried};

/// How often endpoints whose connections closed under the call are asked again, when there is no other one.
const SECOND_CHANCES: u32 = 2;

/// Where the call has been.
#[derive(Default)]
struct History {
    tried: Tried,
    /// Those of `tried` that only closed a connection.
    may_be_asked_again: Tried,
    second_chances: u32,
    last: Option<CallError>,
}

/// Runs the call within its deadline.
pub(crate) async fn run<E: Exchange>(
    cluster: &Cluster,
    worker: usize,
    what: &E,
) -> Result<E::Reply, CallError> {
    timeout_at(what.deadline(), admitted(cluster, worker, what))
        .await
        .unwrap_or(Err(CallError::DeadlineExceeded))
}

async fn admitted<E: Exchange>(
    cluster: &Cluster,
    worker: usize,
    what: &E,
) -> Result<E::Reply, CallError> {
    let _permit = Limiter::acquire(&*cluster.limiter, what.deadline()).await?;
    let mut history = History::default();
    loop {
        let mut attempt = history.next(cluster, worker, what.deadline())?;
        let result = what.once(&mut attempt, worker).await;
        let failure = match result {
            Ok(reply) => {
                attempt.finish(E::outcome(&reply));
                return Ok(reply);
            }
            Err(failure) => failure,
        };
        let endpoint = Arc::clone(attempt.endpoint());
        attempt.finish(Outcome::of_error(failure.error()));
        match failure {
            TryError::Failed(error) => return Err(error),
            TryError::TurnedAway(error) => history.turned_away(endpoint, error),
            TryError::NotSent(error) => history.not_sent(endpoint, error),
        }
    }
}

// === impl History ===

impl History {
    fn next(
        &mut self,
        cluster: &Cluster,
        worker: usize,
        deadline: Instant,
    ) -> Result<Attempt, CallError> {
        let now = Instant::now();
        if deadline <= now {
            return Err(CallError::DeadlineExceeded);
        }
        loop {
            let error = match cluster.start(worker, &self.tried, now, Some(deadline)) {
                Ok(attempt) => {
                    if let Some(last) = &self.last {
                        cluster.retried(last);
                    }
                    return Ok(attempt);
                }
                Err(NoPick::AllFull) => CallError::Overloaded,
                Err(NoPick::NoneUsable) => CallError::NoHealthyUpstream(cluster.why_none_usable()),
            };
            if self.may_be_asked_again.is_empty() || self.second_chances == SECOND_CHANCES {
                return Err(self.last.take().unwrap_or(error));
            }
            self.second_chances += 1;
            let again = std::mem::take(&mut self.may_be_asked_again);
            self.tried
                .retain(|tried| !again.iter().any(|other| Arc::ptr_eq(other, tried)));
        }
    }

    fn turned_away(&mut self, endpoint: Arc<Endpoint>, error: CallError) {
        self.tried.push(endpoint);
        self.last = Some(error);
    }

    fn not_sent(&mut self, endpoint: Arc<Endpoint>, error: CallError) {
        self.may_be_asked_again.push(Arc::clone(&endpoint));
        self.turned_away(endpoint, error);
    }
}
