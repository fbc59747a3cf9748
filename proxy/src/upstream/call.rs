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

use super::attempt::{Attempt, CLOCK_SLACK, Departure};
use super::counters::Outcome;
use super::endpoint::Endpoint;
use super::error::{CallError, NoRetry, code};
use super::exchange::Exchange;
use super::http2::{Failure, RequestHead};
use super::lane::{NoStream, Slot, checkout};
use super::method::Method;
use super::policy::Terms;
use super::reply::Reply;
use super::retries::Reason;
use super::{message, timeout};
use crate::compression::Coding;

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
    /// There is no connection to the endpoint, and the limits on them allow none now.
    NoRoom,
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
    /// The value of `grpc-encoding`, which the cluster sets if it gets messages encoded.
    pub coding: Option<&'static str>,
    /// How large the response message may be.
    pub max_response: usize,
    /// How long there is time, and when it may be repeated.
    pub terms: Terms<'a>,
}

// === impl Call ===

impl Call<'_> {
    /// Encodes the message, if that makes it smaller.
    pub(super) fn compress(&mut self, coding: Coding) {
        self.coding = Some(coding.as_str());
        self.message = message::compressed(&self.message, coding);
    }
}

// === impl TryError ===

impl TryError {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(CallError::Refused { .. }) => Outcome::GoneAway,
            Self::NoRoom => Outcome::of_error(&CallError::Overloaded),
            Self::NotSent(error)
            | Self::TurnedAway(error)
            | Self::BrokeOff(error)
            | Self::Failed(error)
            | Self::TimedOut(error) => Outcome::of_error(error),
        }
    }

    /// What a failure on the wire says of a try.
    pub(crate) fn of(failure: Failure, endpoint: &Arc<str>) -> Self {
        let endpoint = Arc::clone(endpoint);
        match failure {
            Failure::NotSent(why) => Self::NotSent(CallError::Connect { endpoint, why }),
            Failure::NotCovered => Self::NotSent(CallError::Refused { endpoint }),
            Failure::Reset(Reset::REFUSED_STREAM) => {
                Self::TurnedAway(CallError::Refused { endpoint })
            }
            Failure::Reset(reason) => Self::BrokeOff(CallError::Reset(reason)),
            Failure::Lost(why) => Self::BrokeOff(CallError::ConnectionLost(why)),
            Failure::ResetMidway(reason) => Self::Failed(CallError::Reset(reason)),
            Failure::LostMidway(why) => Self::Failed(CallError::ConnectionLost(why)),
            Failure::Answer(error) => Self::Failed(error),
        }
    }

    pub(crate) fn into_error(self) -> CallError {
        match self {
            Self::NotSent(error)
            | Self::TurnedAway(error)
            | Self::BrokeOff(error)
            | Self::Failed(error)
            | Self::TimedOut(error) => error,
            Self::NoRoom => CallError::Overloaded,
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
        let slot = leave(endpoint, departure, worker).await?;
        let left = timeout::text(until.saturating_duration_since(departure.at));
        let head = RequestHead {
            path: self.method.path(),
            authority: name,
            timeout: left.as_bytes(),
            metadata: self.metadata,
            coding: self.coding,
            passed: false,
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
        pushback(reply)
    }

    fn not_tried_again(mut reply: Reply, why: &NoRetry) -> Reply {
        reply.message = match reply.message.as_str() {
            "" => format!("not tried again: {why}"),
            said => format!("{said}; not tried again: {why}"),
        };
        reply
    }
}

/// When a backend wants to be called again.
pub(super) fn pushback(reply: &Reply) -> Option<Pushback> {
    let of = |name: &str| reply.trailers.get(name).or(reply.headers.get(name));
    match (of(PUSHBACK), of(RETRY_AFTER.as_str())) {
        (Some(value), _) => Some(Pushback::of_grpc(value.as_bytes())),
        (None, Some(value)) => Pushback::of_retry_after(value.as_bytes(), SystemTime::now()),
        (None, None) => None,
    }
}

/// Gets a stream to an endpoint, and with it a try under way.
pub(super) async fn leave<'e>(
    endpoint: &'e Arc<Endpoint>,
    departure: &mut Departure,
    worker: usize,
) -> Result<Slot<'e>, TryError> {
    let slot = checkout(endpoint, worker)
        .await
        .map_err(|none| match none {
            NoStream::NoRoom => TryError::NoRoom,
            NoStream::Failed(why) => TryError::TurnedAway(CallError::Connect {
                endpoint: Arc::clone(endpoint.name()),
                why,
            }),
        })?;
    if slot.waited() {
        // How long connections take says nothing about how long answers do.
        departure.at = Instant::now();
    }
    departure.sent = true;
    Ok(slot)
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
        answered.map_err(|failure| TryError::of(failure, endpoint))
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
