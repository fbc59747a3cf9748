//! A gRPC call, and one try of it over one stream. What a failure says of whether the backend may have seen the
//! request decides about repeating it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::Reason as Reset;
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use resilience::retry::Pushback;
use tokio::time::Instant;

use super::attempt::{Attempt, CLOCK_SLACK};
use super::counters::Outcome;
use super::error::{CallError, code};
use super::exchange::Exchange;
use super::http2::{Failure, RequestHead};
use super::lane::{Slot, checkout};
use super::method::Method;
use super::policy::Terms;
use super::reply::Reply;
use super::retries::Reason;
use super::timeout;

/// gRPC's way to say when to come again.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Why a try has no answer.
#[derive(Debug)]
pub(crate) enum TryError {
    /// It never left, or was turned away by a connection that closes: another connection may take it, even to
    /// the same endpoint.
    NotSent(CallError),
    /// The endpoint did not take it.
    TurnedAway(CallError),
    /// The connection or the stream broke before there was anything of an answer. It may have been executed.
    BrokeOff(CallError),
    /// The answer is none. It may have been executed.
    Failed(CallError),
    /// The time for it is up. It may have been executed.
    TimedOut(CallError),
}

/// One unary call.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// What is called.
    pub method: &'a Method,
    /// Headers beside those of the method: ASCII metadata, and binary metadata already in base64.
    pub metadata: &'a [(HeaderName, HeaderValue)],
    /// The request message with its five-byte prefix.
    pub message: Bytes,
    /// How large the response message may be.
    pub max_response: usize,
    /// How long there is time, and when it may be repeated.
    pub terms: Terms<'a>,
}

// === impl TryError ===

impl TryError {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(CallError::Refused { .. }) => Outcome::GoneAway,
            Self::NotSent(error)
            | Self::TurnedAway(error)
            | Self::BrokeOff(error)
            | Self::Failed(error)
            | Self::TimedOut(error) => Outcome::of_error(error),
        }
    }

    pub(crate) fn into_error(self) -> CallError {
        match self {
            Self::NotSent(error)
            | Self::TurnedAway(error)
            | Self::BrokeOff(error)
            | Self::Failed(error)
            | Self::TimedOut(error) => error,
        }
    }

    /// What being late means when the try had all the time of the call: there is none for another.
    pub(crate) fn at_deadline(self) -> Self {
        match self {
            Self::TimedOut(error) => Self::Failed(error),
            other => other,
        }
    }

    /// What it means when a try may take `limit`: of one that never got a connection, that it was not made.
    pub(crate) fn at_limit(self, attempt: &Attempt, limit: Duration) -> Self {
        let endpoint = || Arc::clone(attempt.endpoint().name());
        match self {
            Self::TimedOut(_) if attempt.was_sent() => Self::TimedOut(CallError::TryTimedOut {
                endpoint: endpoint(),
                limit,
            }),
            Self::TimedOut(_) => Self::TurnedAway(CallError::Connect {
                endpoint: endpoint(),
                why: format!("no connection within {limit:?}").into(),
            }),
            other => other,
        }
    }
}

// === impl Call ===

impl Exchange for Call<'_> {
    type Reply = Reply;

    fn terms(&self) -> &Terms<'_> {
        &self.terms
    }

    async fn once(
        &self,
        attempt: &mut Attempt,
        worker: usize,
        until: Instant,
    ) -> Result<Reply, TryError> {
        let (endpoint, departure) = attempt.set_out();
        let name = endpoint.name();
        let slot = checkout(endpoint, worker).await.map_err(|why| {
            TryError::TurnedAway(CallError::Connect {
                endpoint: Arc::clone(name),
                why,
            })
        })?;
        if slot.waited() {
            // How long connections take says nothing about how long answers do.
            departure.at = Instant::now();
        }
        departure.sent = true;
        let left = timeout::text(until.saturating_duration_since(departure.at));
        let head = RequestHead {
            path: self.method.path(),
            authority: name,
            timeout: left.as_bytes(),
            metadata: self.metadata,
        };
        let sent = self.send(&slot, name, &head).await;
        on_time(sent, until)
    }

    fn outcome(reply: &Reply) -> Outcome {
        Outcome::of_reply(reply)
    }

    fn reason(reply: &Reply) -> Reason {
        Reason::Code(reply.code)
    }

    fn pushback(reply: &Reply) -> Option<Pushback> {
        let of = |name: &str| reply.trailers.get(name).or(reply.headers.get(name));
        match (of(PUSHBACK), of(RETRY_AFTER.as_str())) {
            (Some(value), _) => Some(Pushback::of_grpc(value.as_bytes())),
            (None, Some(value)) => Pushback::of_retry_after(value.as_bytes(), SystemTime::now()),
            (None, None) => None,
        }
    }
}

impl Call<'_> {
    async fn send(
        &self,
        slot: &Slot<'_>,
        endpoint: &Arc<str>,
        head: &RequestHead<'_>,
    ) -> Result<Reply, TryError> {
        let answered = slot
            .connection()
            .call(head, self.message.clone(), self.max_response)
            .await;
        answered.map_err(|failure| {
            let endpoint = Arc::clone(endpoint);
            match failure {
                Failure::NotSent(why) => TryError::NotSent(CallError::Connect { endpoint, why }),
                Failure::NotCovered => TryError::NotSent(CallError::Refused { endpoint }),
                Failure::Reset(Reset::REFUSED_STREAM) => {
                    TryError::TurnedAway(CallError::Refused { endpoint })
                }
                Failure::Reset(reason) => TryError::BrokeOff(CallError::Reset(reason)),
                Failure::Lost(why) => TryError::BrokeOff(CallError::ConnectionLost(why)),
                Failure::ResetMidway(reason) => TryError::Failed(CallError::Reset(reason)),
                Failure::LostMidway(why) => TryError::Failed(CallError::ConnectionLost(why)),
                Failure::Answer(error) => TryError::Failed(error),
            }
        })
    }
}

/// A backend that keeps the deadline too may give up a moment before our own clock strikes.
fn on_time(result: Result<Reply, TryError>, until: Instant) -> Result<Reply, TryError> {
    let gave_up = match &result {
        Ok(reply) => reply.code == code::DEADLINE_EXCEEDED,
        Err(TryError::BrokeOff(error) | TryError::Failed(error)) => {
            matches!(error, CallError::Reset(Reset::CANCEL))
        }
        Err(_) => false,
    };
    if gave_up && Instant::now() + CLOCK_SLACK >= until {
        return Err(TryError::TimedOut(CallError::DeadlineExceeded));
    }
    result
}
