//! Where a request that is passed through has been tried, and whether it may be tried again. The rules are those of
//! every lane (see `upstream`'s history), told in steps because pingora runs the loop:
//!
//! - What never reached a backend goes to another endpoint at once, free of every bound, while there is one.
//! - Anything else is tried again if the route's policy names the failure, the request is safe to repeat, tries and
//!   time are left, and budget and limit allow it: after a backoff, or when the backend asks for it.
//! - No endpoint is asked again while another usable one has not been; then again any.

use std::net::SocketAddr;
use std::sync::Arc;

use resilience::retry::{Next, Pushback, Series};
use tokio::time::Instant;

use crate::error::GatewayError;
use crate::upstream::{
    Aim, Attempt, CallError, Cluster, Endpoint, NoRetry, RetryPermit, RetryReason, RetryTerms,
    Tried,
};

/// How often a kept connection that turns out to be closed is replaced without further ado.
const REPLACED: u32 = 3;
/// How often endpoints that closed a connection in good order are asked again, when there is no other one.
const SECOND_CHANCES: u32 = 2;

/// The tries of one request.
#[derive(Debug, Default)]
pub(super) struct Tries {
    tried: Tried,
    /// Those of `tried` that there is no connection to, nor room for one.
    crowded: Tried,
    /// Those of `tried` that may be asked again soon: they closed a connection.
    closed: Tried,
    /// It waits for room, or has waited.
    has_waited: bool,
    replaced: u32,
    second_chances: u32,
    series: Option<Series>,
    /// For the try beyond the first that is next, or under way.
    permit: Option<RetryPermit>,
    /// The next try may go where others have been, if it has to.
    anywhere: bool,
    /// Why there is a next try.
    reason: Option<RetryReason>,
    not_before: Option<Instant>,
    begun: bool,
    last: Option<GatewayError>,
    /// There would have been another try.
    denied: Option<NoRetry>,
}

/// What a request may do to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub cluster: &'a Arc<Cluster>,
    /// When it is tried again.
    pub retry: Option<&'a RetryTerms>,
    /// Whether it may be sent again even if it may have been executed.
    pub repeatable: bool,
    pub deadline: Instant,
}

// === impl Tries ===

impl Tries {
    /// Starts a try: at an endpoint that has not been asked, or at any, once all have been and the policy wants
    /// another. Endpoints whose names have no address yet are passed over.
    pub(super) fn start(
        &mut self,
        cluster: &Arc<Cluster>,
        worker: usize,
        aim: Aim<'_>,
    ) -> Result<(Attempt, SocketAddr), CallError> {
        loop {
            let mut picked = cluster.pick(worker, &self.tried, aim);
            if picked.is_err() && self.anywhere && !self.tried.is_empty() {
                self.tried.clear();
                self.crowded.clear();
                self.closed.clear();
                picked = cluster.pick(worker, &self.tried, aim);
            }
            self.anywhere = false;
            let attempt = picked?;
            let Some(address) = attempt.endpoint().socket_addr() else {
                self.asked(attempt.endpoint());
                attempt.connect_failed("its host name has no address");
                continue;
            };
            match self.reason.take() {
                Some(reason) => cluster.retried(reason),
                None if !self.begun => cluster.first_try(Instant::now()),
                None => {}
            }
            self.begun = true;
            return Ok((attempt, address));
        }
    }

    /// When the next try may be made, if it has to wait.
    pub(super) fn not_before(&mut self) -> Option<Instant> {
        self.not_before.take()
    }

    /// Whether nobody has been asked.
    pub(super) fn is_fresh(&self) -> bool {
        !self.begun && self.last.is_none()
    }

    /// Whether endpoints that were passed over may have room soon.
    pub(super) fn is_crowded(&self) -> bool {
        !self.crowded.is_empty()
    }

    /// Whether endpoints that were passed over may take another connection.
    pub(super) fn is_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Endpoints that were passed over are asked again.
    pub(super) fn ask_again(&mut self) {
        let crowded = std::mem::take(&mut self.crowded);
        let closed = std::mem::take(&mut self.closed);
        let is_one = |tried: &Arc<Endpoint>| {
            let mut again = crowded.iter().chain(&closed);
            again.any(|other| Arc::ptr_eq(other, tried))
        };
        self.tried.retain(|tried| !is_one(tried));
    }

    /// It waits for room from now on.
    pub(super) fn waits(&mut self) {
        self.has_waited = true;
    }

    /// Whether it has the right to wait for room.
    pub(super) fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// The endpoint is not to be asked again while there are others.
    pub(super) fn asked(&mut self, endpoint: &Arc<Endpoint>) {
        if !self.tried.iter().any(|known| Arc::ptr_eq(known, endpoint)) {
            self.tried.push(Arc::clone(endpoint));
        }
    }

    /// The endpoint has no connection free just now.
    pub(super) fn crowded(&mut self, endpoint: &Arc<Endpoint>) {
        self.asked(endpoint);
        self.crowded.push(Arc::clone(endpoint));
        self.keep(CallError::Overloaded.into());
    }

    /// The endpoint did not take the request: another one may.
    pub(super) fn elsewhere(&mut self, endpoint: &Arc<Endpoint>, error: CallError) {
        self.asked(endpoint);
        self.reason = Some(never_reached(&error));
        self.keep(error.into());
    }

    /// The endpoint closed the connection before it looked at the request.
    pub(super) fn gone_away(&mut self, endpoint: &Arc<Endpoint>) {
        let error = CallError::Refused {
            endpoint: Arc::clone(endpoint.name()),
        };
        self.elsewhere(endpoint, error);
        if self.second_chances < SECOND_CHANCES {
            self.second_chances += 1;
            self.closed.push(Arc::clone(endpoint));
        }
    }

    /// Whether a kept connection that turned out to be closed may be replaced by another one.
    pub(super) fn may_replace(&mut self) -> bool {
        self.replaced += 1;
        self.replaced <= REPLACED
    }

    /// What follows when there is no endpoint left that a request which was never executed could go to. `elsewhere`:
    /// another cluster takes it.
    pub(super) fn nowhere(&mut self, error: &CallError, elsewhere: bool, terms: Terms<'_>) -> bool {
        let reason = match &self.last {
            _ if elsewhere => return false,
            None => return self.nobody(error, terms),
            Some(GatewayError::Call(error)) if error.never_executed() => never_reached(error),
            Some(_) => return false,
        };
        self.again(reason, None, terms)
    }

    /// What follows when nobody could be asked so far: a route that tries again where no connection comes about
    /// waits for somebody who can be reached. The budget has no say in it: it adds no load.
    fn nobody(&mut self, error: &CallError, terms: Terms<'_>) -> bool {
        let unreachable =
            matches!(error, CallError::NoHealthyUpstream(_)) && terms.cluster.is_out_of_reach();
        let retry = terms
            .retry
            .filter(|retry| unreachable && retry.wants(RetryReason::Connect));
        let Some(retry) = retry else {
            return false;
        };
        let now = Instant::now();
        let series = self.series.get_or_insert_with(|| retry.series());
        let Next::Again(wait) = series.after(now, terms.deadline, None) else {
            return false;
        };
        self.not_before = (!wait.is_zero()).then(|| now + wait);
        true
    }

    /// Whether there is another try as the policy has it.
    pub(super) fn again(
        &mut self,
        reason: RetryReason,
        pushback: Option<Pushback>,
        terms: Terms<'_>,
    ) -> bool {
        let Some(retry) = terms.retry.filter(|retry| retry.wants(reason)) else {
            return false;
        };
        let executed = !matches!(reason, RetryReason::Connect | RetryReason::RefusedStream);
        if executed && !terms.repeatable {
            return false;
        }
        let now = Instant::now();
        let series = self.series.get_or_insert_with(|| retry.series());
        let Next::Again(wait) = series.after(now, terms.deadline, pushback) else {
            return false;
        };
        // The one before is over: its place is free.
        self.permit = None;
        // What could not be connected to had no load of it.
        if reason != RetryReason::Connect {
            match terms.cluster.may_retry(now) {
                Ok(permit) => self.permit = Some(permit),
                Err(denied) => {
                    self.denied = Some(denied);
                    return false;
                }
            }
        }
        self.not_before = (!wait.is_zero()).then(|| now + wait);
        (self.anywhere, self.reason) = (true, Some(reason));
        true
    }

    /// What the request ends with if nothing better comes. What may have been executed is not forgotten for what
    /// cannot have been.
    pub(super) fn keep(&mut self, error: GatewayError) {
        let never = |error: &GatewayError| match error {
            GatewayError::Call(error) => error.never_executed(),
            _ => false,
        };
        match &self.last {
            Some(last) if !never(last) && never(&error) => {}
            _ => self.last = Some(error),
        }
    }

    /// What the request ends with.
    pub(super) fn last(&mut self) -> Option<GatewayError> {
        let last = self.last.take()?;
        let Some(why) = self.denied.take() else {
            return Some(last);
        };
        Some(match last {
            GatewayError::Call(error) => GatewayError::Call(CallError::NotTriedAgain {
                error: Box::new(error),
                why,
            }),
            GatewayError::Broken(what) => {
                GatewayError::Broken(format!("{what}; not tried again: {why}"))
            }
            other => other,
        })
    }
}

/// What a try that never reached a backend failed for.
fn never_reached(error: &CallError) -> RetryReason {
    match error {
        CallError::Refused { .. } => RetryReason::RefusedStream,
        _ => RetryReason::Connect,
    }
}
