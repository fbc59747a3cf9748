//! The life of one call in a cluster: pick, call, judge, stop or go again.
//!
//! A call that no backend can have executed goes to another endpoint at once, as often as there is one and
//! time is left. Anything else is tried again only as the route's policy says: see [`History`] for the rules.
//! A try that takes long may get company: see [`race`].

use std::sync::Arc;

use tokio::time::{sleep, timeout_at};

use super::attempt::{Attempt, Ended};
use super::call::TryError;
use super::cluster::Cluster;
use super::counters::Outcome;
use super::error::CallError;
use super::exchange::Exchange;
use super::hedge::race;
use super::history::{History, Step};

/// A try that is over, and recorded.
pub(crate) struct Tried<R> {
    pub(crate) attempt: Attempt,
    pub(crate) result: Result<R, TryError>,
    /// Whether that settles the call: a reply that neither is the backend's failure nor is to be tried again.
    pub(crate) settles: bool,
    pub(crate) ended: Ended,
}

/// Runs the call within its deadline.
pub(crate) async fn run<E: Exchange>(
    cluster: &Arc<Cluster>,
    worker: usize,
    what: &E,
) -> Result<E::Reply, CallError> {
    timeout_at(what.terms().deadline, admitted(cluster, worker, what))
        .await
        .unwrap_or(Err(CallError::DeadlineExceeded))
}

async fn admitted<E: Exchange>(
    cluster: &Arc<Cluster>,
    worker: usize,
    what: &E,
) -> Result<E::Reply, CallError> {
    let _permit = cluster.concurrency().slot(what.terms().deadline).await?;
    let mut history = History::<E>::new(cluster, worker, what.terms());
    loop {
        let step = match history.pick()? {
            Ok(attempt) => match race(&mut history, attempt, what).await {
                Tried {
                    result: Ok(reply),
                    settles: true,
                    ..
                } => return Ok(reply),
                tried => history.judge(tried),
            },
            Err(none) => history.nowhere(none),
        };
        match step {
            Step::AtOnce => {}
            Step::After(wait) => sleep(wait).await,
            Step::Stop => return history.end(),
        }
    }
}

/// Makes one try, and records it.
pub(crate) async fn tried<E: Exchange>(
    mut attempt: Attempt,
    worker: usize,
    what: &E,
) -> Tried<E::Reply> {
    let terms = what.terms();
    attempt.set_deadline(terms.deadline, terms.impatient);
    let own_limit = terms.policy.retry.as_ref().and_then(|retry| {
        let until = attempt.started().checked_add(retry.per_try_timeout)?;
        (until < terms.deadline).then_some((until, retry.per_try_timeout))
    });
    let result = match own_limit {
        None => what
            .once(&mut attempt, worker, terms.deadline)
            .await
            .map_err(|error| error.at_deadline()),
        Some((until, limit)) => {
            let in_time = timeout_at(until, what.once(&mut attempt, worker, until)).await;
            in_time
                .unwrap_or(Err(TryError::TimedOut(CallError::DeadlineExceeded)))
                .map_err(|error| error.at_limit(&attempt, limit))
        }
    };
    let outcome = match &result {
        Ok(reply) => E::outcome(reply),
        Err(error) => error.outcome(),
    };
    let wanted_again = |reply| {
        let retry = terms.policy.retry.as_ref();
        retry.is_some_and(|retry| retry.wants(E::reason(reply)))
    };
    let answered = matches!(outcome, Outcome::Ok | Outcome::CallerError);
    Tried {
        settles: answered && !result.as_ref().is_ok_and(wanted_again),
        ended: attempt.record(outcome),
        attempt,
        result,
    }
}

#[cfg(test)]
pub(crate) mod tests;
