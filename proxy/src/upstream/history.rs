//! Where a call has been, and what follows from it.
//!
//! - What never reached a backend goes to another endpoint at once, free of every bound, while there is one.
//! - Anything else is tried again if the route's policy names the failure, the call is safe to repeat, tries and
//!   time are left, and budget and limit allow it: after a backoff, or when the backend asks for it.
//! - No endpoint is asked again while another usable one has not been; then again any.
//!
//! Refused: hiding that a try may have been executed behind a later one that cannot have been.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use resilience::limiter::{Limiter, Permit};
use resilience::retry::{Next, Pushback, Series};
use tokio::time::Instant;

use super::attempt::Attempt;
use super::attempts::Tried;
use super::call::TryError;
use super::cluster::Cluster;
use super::concurrency::Place;
use super::endpoint::Endpoint;
use super::error::{CallError, NoRetry};
use super::exchange::Exchange;
use super::policy::Terms;
use super::retries::{Reason, RetryPermit};
use super::selection::{self, NoPick};

/// How often endpoints whose connections closed under the call are asked again, when there is no other one.
const SECOND_CHANCES: u32 = 2;

/// The story of one call.
pub(crate) struct History<'a, E: Exchange> {
    pub(crate) cluster: &'a Arc<Cluster>,
    pub(crate) worker: usize,
    pub(crate) terms: &'a Terms<'a>,
    tried: selection::Tried,
    /// Those of `tried` that only closed a connection.
    may_be_asked_again: selection::Tried,
    /// Those of `tried` that there is no connection to, nor room for one.
    crowded: selection::Tried,
    second_chances: u32,
    series: Option<Series>,
    /// For the try beyond the first that is next, or under way.
    permit: Option<RetryPermit>,
    /// The next try may go where others have been, if it has to.
    anywhere: bool,
    /// Why there is a next try.
    reason: Option<Reason>,
    /// Tries made beside others.
    hedges: u32,
    /// While every endpoint has as much as it may.
    place: Option<Place>,
    /// It has had a place before.
    has_waited: bool,
    /// There was a first try.
    begun: bool,
    /// What it would end with.
    last: Option<Result<E::Reply, CallError>>,
    /// There would have been another try.
    denied: Option<NoRetry>,
}

/// The right to one try beside others of the same call: it is in flight like any other.
#[derive(Debug)]
pub(crate) struct Company<'a> {
    _slot: Permit<&'a Limiter>,
    _permit: RetryPermit,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    AtOnce,
    After(Duration),
    /// When an endpoint has one request fewer.
    WhenFree,
    Stop,
}

// === impl History ===

impl<'a, E: Exchange> History<'a, E> {
    pub(crate) fn new(cluster: &'a Arc<Cluster>, worker: usize, terms: &'a Terms<'a>) -> Self {
        Self {
            cluster,
            worker,
            terms,
            tried: selection::Tried::new(),
            may_be_asked_again: selection::Tried::new(),
            crowded: selection::Tried::new(),
            second_chances: 0,
            series: None,
            permit: None,
            anywhere: false,
            reason: None,
            hedges: 0,
            place: None,
            has_waited: false,
            begun: false,
            last: None,
            denied: None,
        }
    }

    /// A try at an endpoint that has not been asked, or at any, once all have been and the policy wants another.
    pub(crate) fn pick(&mut self) -> Result<Result<Attempt, NoPick>, CallError> {
        let now = Instant::now();
        if self.terms.deadline <= now {
            return Err(CallError::DeadlineExceeded);
        }
        let mut picked = self.cluster.select(&self.tried, self.terms.aim, now);
        if picked.is_err() && self.anywhere && !self.tried.is_empty() {
            self.tried.clear();
            picked = self.cluster.select(&self.tried, self.terms.aim, now);
        }
        self.anywhere = false;
        let picked = match picked {
            Ok(picked) => picked,
            Err(none) => return Ok(Err(none)),
        };
        self.place = None;
        match self.reason.take() {
            Some(reason) => self.cluster.retried(reason),
            None if !self.begun => self.cluster.first_try(now),
            None => {}
        }
        self.begun = true;
        Ok(Ok(Attempt::start(picked, self.worker, now)))
    }

    /// What follows from a try that does not settle the call.
    pub(crate) fn judge(&mut self, tried: Tried<E::Reply>) -> Step {
        let now = tried.ended.now;
        self.asked(tried.attempt.endpoint());
        match tried.result {
            Ok(reply) => {
                let (reason, pushback) = (E::reason(&reply), E::pushback(&reply));
                self.keep(Ok(reply));
                self.again(reason, pushback, now)
            }
            Err(TryError::NotSent(error)) => {
                self.may_be_asked_again
                    .push(Arc::clone(tried.attempt.endpoint()));
                self.elsewhere(error)
            }
            Err(TryError::TurnedAway(error)) => self.elsewhere(error),
            Err(TryError::NoRoom) => {
                self.crowded.push(Arc::clone(tried.attempt.endpoint()));
                Step::AtOnce
            }
            Err(TryError::BrokeOff(error)) => {
                self.keep(Err(error));
                self.again(Reason::Reset, None, now)
            }
            Err(TryError::TimedOut(error)) => {
                self.keep(Err(error));
                self.again(Reason::Timeout, None, now)
            }
            Err(TryError::Failed(error)) => {
                let answered = answered(&error);
                self.keep(Err(error));
                answered.map_or(Step::Stop, |(reason, pushback)| {
                    self.again(reason, pushback, now)
                })
            }
        }
    }

    /// A try failed while another one is under way, which decides. Whether another endpoint may take its place at once:
    /// this one did not take it.
    pub(crate) fn lost(&mut self, tried: Tried<E::Reply>) -> bool {
        self.asked(tried.attempt.endpoint());
        let result = tried.result.map_err(TryError::into_error);
        let untaken = result.as_ref().is_err_and(CallError::never_executed);
        if untaken {
            self.hedges = self.hedges.saturating_sub(1);
        }
        self.keep(result);
        untaken
    }

    /// What follows when there is no endpoint to go to.
    pub(crate) fn nowhere(&mut self, none: NoPick) -> Step {
        let now = Instant::now();
        if !self.crowded.is_empty() {
            return self.without_room();
        }
        let again = match &self.last {
            None | Some(Err(CallError::NoHealthyUpstream(_))) => return self.nobody(none, now),
            Some(Err(error)) if error.never_executed() && !self.terms.elsewhere => {
                never_reached(error)
            }
            Some(_) => return Step::Stop,
        };
        if !self.may_be_asked_again.is_empty() && self.second_chances < SECOND_CHANCES {
            self.second_chances += 1;
            let again = std::mem::take(&mut self.may_be_asked_again);
            self.not_asked(&again);
            return Step::AtOnce;
        }
        self.again(again, None, now)
    }

    /// What follows when nobody could be asked so far: a route that tries again where no connection comes about
    /// waits for somebody who can be reached. The budget has no say in it: it adds no load.
    fn nobody(&mut self, none: NoPick, now: Instant) -> Step {
        if none == NoPick::AllFull
            && let Some(step) = self.crowded()
        {
            return step;
        }
        let waits = none == NoPick::NoneUsable && !self.terms.elsewhere;
        self.last = Some(Err(self.cluster.no_pick(none, self.terms.aim, now)));
        let retry = self.terms.retry.filter(|retry| {
            waits && retry.wants(Reason::Connect) && self.cluster.is_out_of_reach()
        });
        let Some(retry) = retry else {
            return Step::Stop;
        };
        let series = self.series.get_or_insert_with(|| retry.series());
        match series.after(now, self.terms.deadline, None) {
            Next::Again(wait) => Step::After(wait),
            Next::Stop(_) => Step::Stop,
        }
    }

    /// Waits for an endpoint, as long as `pending` others do not; nothing if they do.
    fn crowded(&mut self) -> Option<Step> {
        if self.place.is_some() {
            return Some(Step::WhenFree);
        }
        let concurrency = self.cluster.concurrency();
        if self.has_waited {
            self.place = Some(concurrency.join_again());
            return Some(Step::WhenFree);
        }
        self.place = concurrency.join();
        self.has_waited = self.place.is_some();
        // One may have become free before it was known that somebody waits.
        self.has_waited.then_some(Step::AtOnce)
    }

    /// What follows when there is no connection to any endpoint that is left, nor room for one.
    fn without_room(&mut self) -> Step {
        self.cluster.make_room();
        let again = std::mem::take(&mut self.crowded);
        self.not_asked(&again);
        self.crowded().unwrap_or_else(|| {
            self.keep(Err(CallError::Overloaded));
            Step::Stop
        })
    }

    /// These may be asked as if they had not been.
    fn not_asked(&mut self, these: &selection::Tried) {
        self.tried
            .retain(|tried| !these.iter().any(|one| Arc::ptr_eq(one, tried)));
    }

    /// An endpoint may be free.
    pub(crate) async fn called(&self) {
        if let Some(place) = &self.place {
            place.called(self.terms.deadline).await;
        }
    }

    /// Another try beside those under way, at an endpoint of its own, if there may be one.
    pub(crate) fn hedge(&mut self, now: Instant) -> Option<(Attempt, Company<'a>)> {
        let most = self.terms.policy.hedge.as_ref()?.max;
        if self.hedges >= most {
            return None;
        }
        let slot = self.cluster.concurrency().free_slot()?;
        let picked = self.cluster.select(&self.tried, self.terms.aim, now).ok()?;
        let permit = self.cluster.may_retry(now).ok()?;
        self.hedges += 1;
        self.cluster.retried(Reason::Hedge);
        self.asked(&picked.endpoint);
        let company = Company {
            _slot: slot,
            _permit: permit,
        };
        Some((Attempt::start(picked, self.worker, now), company))
    }

    /// The endpoint is not to be asked again while there are others.
    pub(crate) fn asked(&mut self, endpoint: &Arc<Endpoint>) {
        if !self.tried.iter().any(|known| Arc::ptr_eq(known, endpoint)) {
            self.tried.push(Arc::clone(endpoint));
        }
    }

    /// What the call ends with if nothing better comes.
    pub(crate) fn end(self) -> Result<E::Reply, CallError> {
        let last = self.last.unwrap_or(Err(CallError::DeadlineExceeded));
        match (self.denied, last) {
            (None, last) => last,
            (Some(why), Ok(reply)) => Ok(E::not_tried_again(reply, &why)),
            (Some(why), Err(error)) => Err(CallError::NotTriedAgain {
                error: Box::new(error),
                why,
            }),
        }
    }

    fn elsewhere(&mut self, error: CallError) -> Step {
        self.reason = Some(never_reached(&error));
        self.keep(Err(error));
        Step::AtOnce
    }

    /// Another try as the policy has it, or none.
    fn again(&mut self, reason: Reason, pushback: Option<Pushback>, now: Instant) -> Step {
        let Some(retry) = self.terms.retry.filter(|retry| retry.wants(reason)) else {
            return Step::Stop;
        };
        let executed = !matches!(reason, Reason::Connect | Reason::RefusedStream);
        if executed && !self.terms.repeatable {
            return Step::Stop;
        }
        let series = self.series.get_or_insert_with(|| retry.series());
        let Next::Again(wait) = series.after(now, self.terms.deadline, pushback) else {
            return Step::Stop;
        };
        // The one before is over: its place is free.
        self.permit = None;
        // What could not be connected to had no load of it.
        if reason != Reason::Connect {
            match self.cluster.may_retry(now) {
                Ok(permit) => self.permit = Some(permit),
                Err(denied) => {
                    self.denied = Some(denied);
                    return Step::Stop;
                }
            }
        }
        (self.anywhere, self.reason) = (true, Some(reason));
        Step::After(wait)
    }

    /// What may have been executed is not forgotten for what cannot have been.
    fn keep(&mut self, result: Result<E::Reply, CallError>) {
        let never = |result: &Result<E::Reply, CallError>| match result {
            Ok(_) => false,
            Err(error) => error.never_executed(),
        };
        match &self.last {
            Some(last) if !never(last) && never(&result) => {}
            _ => self.last = Some(result),
        }
    }
}

/// What a try that never reached a backend failed for.
fn never_reached(error: &CallError) -> Reason {
    match error {
        CallError::Refused { .. } => Reason::RefusedStream,
        _ => Reason::Connect,
    }
}

/// The gRPC code of an answer that is none, and when another try is wanted. Another try would not make a message
/// smaller, and what broke off in the middle was an answer.
fn answered(error: &CallError) -> Option<(Reason, Option<Pushback>)> {
    let code = Reason::Code(error.grpc_code());
    match error {
        CallError::NotGrpc { retry_after, .. } => {
            let asked = retry_after
                .as_ref()
                .and_then(|value| Pushback::of_retry_after(value.as_bytes(), SystemTime::now()));
            Some((code, asked))
        }
        CallError::NoStatus | CallError::Malformed(_) => Some((code, None)),
        _ => None,
    }
}
