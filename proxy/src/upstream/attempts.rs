//! The life of one call in a cluster: pick, call, judge, stop or go again.
//!
//! A call that no backend can have executed goes to another endpoint at once, as often as there is one and
//! time is left. Anything else is tried again only as the route's policy says: see [`History`] for the rules.
//! A try that takes long may get company: see [`race`].
//!
//! Nothing outlasts the deadline: a try ends at it, the wait for a slot and the wait for the next try end before it.
//! Timers cost more than the policies that set them, so each try has one, for all that may end or interrupt it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Poll, ready};
use std::time::Duration;

use resilience::limiter::{Limiter, Permit};
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::{Attempt, Ended};
use super::call::TryError;
use super::cluster::Cluster;
use super::counters::Outcome;
use super::error::CallError;
use super::exchange::Exchange;
use super::hedge::race;
use super::history::{History, Step};
use super::policy::Terms;

/// A call's place in the limits of its cluster.
pub(crate) type Place = Permit<Arc<Limiter>>;

/// A try that is over, and recorded.
pub(crate) struct Tried<R> {
    pub(crate) attempt: Attempt,
    pub(crate) result: Result<R, TryError>,
    /// Whether that settles the call: a reply that neither is the backend's failure nor is to be tried again.
    pub(crate) settles: bool,
    pub(crate) ended: Ended,
}

/// Tells when a try has taken so long that it may get company; the try goes on.
#[derive(Debug)]
pub(crate) struct Bell {
    at: Instant,
    rang: AtomicBool,
}

/// Until when a try may take.
#[derive(Debug, Clone, Copy)]
struct Limit {
    until: Instant,
    /// The route's `per_try_timeout`, where that ends before the deadline.
    own: Option<Duration>,
}

/// Runs the call within its deadline.
pub(crate) async fn run<E: Exchange>(
    cluster: &Arc<Cluster>,
    worker: usize,
    what: &E,
) -> Result<E::Reply, CallError> {
    let (terms, concurrency) = (what.terms(), cluster.concurrency());
    let _place = match terms.copy {
        true => concurrency.spare_slot().ok_or(CallError::Overloaded)?,
        false => concurrency.slot(terms.deadline).await?,
    };
    tries(cluster, worker, what).await
}

/// The same for a call that keeps its place in the cluster when its reply has begun.
pub(crate) async fn run_and_stay<E: Exchange>(
    cluster: &Arc<Cluster>,
    worker: usize,
    what: &E,
) -> Result<(E::Reply, Place), CallError> {
    let place = cluster
        .concurrency()
        .own_slot(what.terms().deadline)
        .await?;
    let reply = tries(cluster, worker, what).await?;
    Ok((reply, place))
}

async fn tries<E: Exchange>(
    cluster: &Arc<Cluster>,
    worker: usize,
    what: &E,
) -> Result<E::Reply, CallError> {
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
            Step::WhenFree => history.called().await,
            Step::Stop => return history.end(),
        }
    }
}

/// Makes one try, and records it. `bell` rings on the way.
pub(crate) async fn tried<E: Exchange>(
    mut attempt: Attempt,
    worker: usize,
    what: &E,
    bell: Option<&Bell>,
) -> Tried<E::Reply> {
    let terms = what.terms();
    attempt.set_deadline(terms.deadline, terms.impatient);
    attempt.set_copy(terms.copy);
    let limit = Limit::of(terms, attempt.started());
    let in_time = {
        // Pinned here: handed over by value, it would take its room twice.
        let once = pin!(what.once(&mut attempt, worker, limit.until));
        within(limit.until, bell, once).await
    };
    let late = || Err(TryError::TimedOut(CallError::DeadlineExceeded));
    let is_late = in_time.is_none();
    let result = in_time
        .unwrap_or_else(late)
        .map_err(|error| match limit.own {
            None => error.at_deadline(),
            Some(own) => error.at_limit(&attempt, own),
        });
    let outcome = match &result {
        // Nobody waits any more: what is known of the endpoint by now is all there is.
        Err(_) if is_late && limit.own.is_none() => attempt.outcome_so_far(terms.deadline),
        Ok(reply) => E::outcome(reply),
        Err(error) => error.outcome(),
    };
    let wanted_again = |reply| {
        let retry = terms.retry;
        retry.is_some_and(|retry| retry.wants(E::reason(reply)))
    };
    let answered = matches!(outcome, Outcome::Ok | Outcome::CallerError);
    Tried {
        settles: answered && result.as_ref().is_ok_and(|reply| !wanted_again(reply)),
        ended: match &result {
            Err(TryError::NoRoom) => attempt.withdrawn(),
            _ => attempt.record(outcome),
        },
        attempt,
        result,
    }
}

/// What `work` comes to until then. One timer serves the bell and the end.
async fn within<F: Future>(
    until: Instant,
    bell: Option<&Bell>,
    mut work: Pin<&mut F>,
) -> Option<F::Output> {
    let mut bell = bell.filter(|bell| bell.at < until);
    let mut timer = pin!(sleep_until(bell.map_or(until, |bell| bell.at)));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        ready!(timer.as_mut().poll(cx));
        if let Some(bell) = bell.take() {
            bell.rang.store(true, Relaxed);
            timer.as_mut().reset(until);
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(None)
    })
    .await
}

// === impl Bell ===

impl Bell {
    pub(crate) fn new(at: Instant) -> Self {
        Self {
            at,
            rang: AtomicBool::new(false),
        }
    }

    pub(crate) fn rang(&self) -> bool {
        self.rang.load(Relaxed)
    }
}

// === impl Limit ===

impl Limit {
    fn of(terms: &Terms<'_>, started: Instant) -> Self {
        let retry = terms.retry;
        let own = retry.and_then(|retry| {
            let until = started.checked_add(retry.per_try_timeout)?;
            (until < terms.deadline).then_some((until, retry.per_try_timeout))
        });
        Self {
            until: own.map_or(terms.deadline, |(until, _)| until),
            own: own.map(|(_, limit)| limit),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
