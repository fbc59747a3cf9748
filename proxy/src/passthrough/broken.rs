//! What becomes of a request whose try has failed, or whose answer asks for another one.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::RETRY_AFTER;
use pingora_core::{Error, ErrorType};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use resilience::retry::Pushback;
use tokio::time::Instant;

use super::Pass;
use super::failure::{self, Failure};
use super::tries::{Terms, Tries};
use crate::edge::Alarm;
use crate::error::GatewayError;
use crate::upstream::{Attempt, CLOCK_SLACK, CallError, Endpoint, Outcome, RetryReason, connect};

/// What pingora is told when an answer is not taken.
const DECLINED: ErrorType = ErrorType::new("the answer asks for another try");

impl Pass {
    /// Whether the request can be sent again although it may have been executed.
    pub(super) fn is_repeatable(&self, session: &Session) -> bool {
        let method = &session.req_header().method;
        let (policy, method) = (self.policy(), method.as_str());
        let within = self
            .within
            .as_ref()
            .is_some_and(|within| within.options.retry().is_some());
        let may = policy.may_repeat(method) || within && policy.may_repeat_without_key(method);
        may && is_replayable(session)
    }

    /// Whether there is another try for `reason`.
    fn again(&mut self, session: &Session, reason: RetryReason, after: Option<Pushback>) -> bool {
        self.may(session, |tries, terms| tries.again(reason, after, terms))
    }

    /// Asks the tries for another one.
    pub(super) fn may(
        &mut self,
        session: &Session,
        ask: impl FnOnce(&mut Tries, Terms<'_>) -> bool,
    ) -> bool {
        let repeatable = self.is_repeatable(session);
        let deadline = self.clock.deadline();
        let decision = self.decision.clone();
        let row = decision.as_deref().and_then(|decision| decision.row());
        let (Some(cluster), Some(row)) = (self.cluster().cloned(), row) else {
            return false;
        };
        let within = self.within.clone();
        let within = within.as_ref().and_then(|within| within.options.retry());
        let terms = Terms {
            cluster: &cluster,
            retry: within.or(row.policies.forwarded.retry.as_ref()),
            repeatable,
            deadline,
        };
        ask(&mut self.tries, terms)
    }

    /// A connection could not be made: another endpoint is tried, if there is one.
    pub(crate) fn not_connected(&mut self, mut error: Box<Error>) -> Box<Error> {
        // Without another endpoint the next `peer` says so.
        error.set_retry(true);
        let Some(attempt) = self.attempt.take() else {
            return error;
        };
        let endpoint = attempt.endpoint().clone();
        if Instant::now() >= self.clock.deadline() {
            attempt.finish(Outcome::Timeout);
            self.tries.keep(CallError::DeadlineExceeded.into());
            error.set_retry(false);
        } else if connect::is_full(&error) {
            attempt.withdraw();
            self.tries.crowded(&endpoint);
        } else if connect::is_unreachable(&error) {
            let why = connect::why(&error);
            self.tries
                .elsewhere(&endpoint, unconnected(&endpoint, &why));
            match self.was_hurried(&endpoint, &error) {
                true => attempt.finish(Outcome::Connect),
                false => attempt.connect_failed(&why),
            }
        } else {
            // A connection that is kept has gone: a new one may do.
            attempt.finish(Outcome::GoneAway);
            self.tries.gone_away(&endpoint);
        }
        error
    }

    /// Whether the time for a connection was shorter than the endpoint may take for one.
    fn was_hurried(&self, endpoint: &Arc<Endpoint>, error: &Error) -> bool {
        let patience = endpoint.cluster().map(|cluster| cluster.connect_timeout());
        *error.root_etype() == ErrorType::ConnectTimedout
            && self
                .try_limit()
                .zip(patience)
                .is_some_and(|(limit, patience)| limit < patience)
    }

    /// A head has come from the backend. An error if it is not taken, because there is another try.
    pub(crate) fn weigh(
        &mut self,
        session: &Session,
        response: &ResponseHeader,
    ) -> pingora_core::Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        let status = response.status.as_u16();
        let wait = response.headers.get(RETRY_AFTER);
        let wait =
            wait.and_then(|wait| Pushback::of_retry_after(wait.as_bytes(), SystemTime::now()));
        if !self.again(session, RetryReason::Status(status), wait) {
            return Ok(());
        }
        if let Some(mut attempt) = self.attempt.take() {
            self.tries.asked(attempt.endpoint());
            attempt.answering();
            attempt.finish(Outcome::of_http(status));
        }
        self.tries.keep(GatewayError::Status(status));
        self.declined = true;
        Err(Error::new(DECLINED))
    }

    /// A try broke. What comes next stands in the error.
    pub(crate) fn broken(
        &mut self,
        session: &Session,
        mut error: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        let late = self.alarm().is_some_and(Alarm::has_struck);
        // Between two tries nothing is late but the request, and whoever waits there sees to that.
        self.disarm();
        let again = match self.attempt.take() {
            _ if std::mem::take(&mut self.declined) => true,
            None => false,
            Some(attempt) if self.answered.is_some() => {
                self.broken_midway(attempt, &error);
                false
            }
            Some(attempt) if late => self.late(session, attempt),
            Some(attempt) => self.judge(session, attempt, &error, reused),
        };
        error.set_retry(again);
        error
    }

    /// The answer had begun: nothing can be done but to count it.
    fn broken_midway(&mut self, mut attempt: Attempt, error: &Error) {
        match Failure::of(error) {
            Failure::Left | Failure::Internal | Failure::Invalid(_) => {}
            Failure::Silent => attempt.settle(Outcome::Timeout),
            _ => attempt.settle(Outcome::Reset),
        }
    }

    /// The time of the request is up, or that of the try.
    fn late(&mut self, session: &Session, attempt: Attempt) -> bool {
        let endpoint = attempt.endpoint().clone();
        attempt.finish(Outcome::Timeout);
        self.tries.asked(&endpoint);
        match self.try_limit() {
            Some(limit) if Instant::now() + CLOCK_SLACK < self.clock.deadline() => {
                let endpoint = endpoint.name().clone();
                let late = CallError::TryTimedOut { endpoint, limit };
                self.tries.keep(late.into());
                self.again(session, RetryReason::Timeout, None)
            }
            _ => {
                self.tries.keep(CallError::DeadlineExceeded.into());
                false
            }
        }
    }

    fn judge(&mut self, session: &Session, attempt: Attempt, error: &Error, reused: bool) -> bool {
        let failure = Failure::of(error);
        let endpoint = attempt.endpoint().clone();
        let told = || format!("{}: {}", endpoint.name(), failure::words(error));
        let (outcome, last, reason) = match failure {
            // The attempt says by itself that it was given up.
            Failure::Left => {
                self.left = true;
                return false;
            }
            Failure::RefusedStream | Failure::GoneAway => {
                return self.turned_away(session, attempt, failure);
            }
            Failure::Reset if reused && self.may_replace(session) => {
                attempt.finish(Outcome::GoneAway);
                return true;
            }
            Failure::Invalid(refusal) => {
                attempt.withdraw();
                self.tries.keep(GatewayError::Refused(refusal));
                return false;
            }
            Failure::Internal => {
                attempt.withdraw();
                self.tries.keep(GatewayError::Broken(told()));
                return false;
            }
            Failure::Reset => {
                let broken = GatewayError::Broken(told());
                (Outcome::Reset, broken, Some(RetryReason::Reset))
            }
            Failure::Garbled => {
                let garbled = GatewayError::Garbled(told());
                (Outcome::Malformed, garbled, Some(RetryReason::Status(502)))
            }
            Failure::Silent => (Outcome::Timeout, CallError::DeadlineExceeded.into(), None),
        };
        attempt.finish(outcome);
        self.tries.asked(&endpoint);
        self.tries.keep(last);
        reason.is_some_and(|reason| self.again(session, reason, None))
    }

    /// The backend has not looked at the request: another one may.
    fn turned_away(&mut self, session: &Session, attempt: Attempt, failure: Failure) -> bool {
        let endpoint = attempt.endpoint().clone();
        if failure == Failure::GoneAway {
            attempt.finish(Outcome::GoneAway);
            self.tries.gone_away(&endpoint);
        } else {
            attempt.finish(Outcome::RefusedStream);
            let name = endpoint.name().clone();
            let refused = CallError::Refused { endpoint: name };
            self.tries.elsewhere(&endpoint, refused);
        }
        is_replayable(session)
    }

    /// A kept connection may have been closed while the request was on its way to it (RFC 9112 section 9.3.1):
    /// another one is used, if it does no harm should the backend have seen the request after all.
    fn may_replace(&mut self, session: &Session) -> bool {
        failure::is_idempotent(&session.req_header().method)
            && is_replayable(session)
            && self.tries.may_replace()
    }
}

/// Whether what has been read of the body is still there.
pub(super) fn is_replayable(session: &Session) -> bool {
    session.response_written().is_none() && !session.as_ref().retry_buffer_truncated()
}

fn unconnected(endpoint: &Endpoint, why: &str) -> CallError {
    CallError::Connect {
        endpoint: endpoint.name().clone(),
        why: why.into(),
    }
}
