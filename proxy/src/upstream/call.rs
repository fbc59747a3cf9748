//! A gRPC call, and one try of it over one stream. What a failure says of whether the backend may have seen the
//! request decides about repeating it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::cluster::Call;
use super::counters::Outcome;
use super::error::CallError;
use super::exchange::Exchange;
use super::http2::{Failure, RequestHead};
use super::lane::{Slot, checkout};
use super::reply::Reply;
use super::timeout;

/// How far two clocks, started by the same request, may be apart at its deadline.
const CLOCK_SLACK: Duration = Duration::from_millis(10);

/// Why a try has no reply.
#[derive(Debug)]
pub(crate) enum TryError {
    /// It never left, or was turned away by a connection that closes: another connection may take it, even to
    /// the same endpoint.
    NotSent(CallError),
    /// The endpoint did not take it.
    TurnedAway(CallError),
    /// It may have been executed.
    Failed(CallError),
}

// === impl TryError ===

impl TryError {
    pub(crate) fn error(&self) -> &CallError {
        match self {
            Self::NotSent(error) | Self::TurnedAway(error) | Self::Failed(error) => error,
        }
    }
}

// === impl Call ===

impl Exchange for Call<'_> {
    type Reply = Reply;

    fn deadline(&self) -> Instant {
        self.deadline
    }

    async fn once(&self, attempt: &mut Attempt, worker: usize) -> Result<Reply, TryError> {
        let (endpoint, start) = attempt.endpoint_and_start();
        let name = endpoint.name();
        let slot = checkout(endpoint, worker).await.map_err(|why| {
            TryError::TurnedAway(CallError::Connect {
                endpoint: Arc::clone(name),
                why,
            })
        })?;
        if slot.waited() {
            // How long connections take says nothing about how long answers do.
            *start = Instant::now();
        }
        let left = timeout::text(self.deadline.saturating_duration_since(*start));
        let head = RequestHead {
            path: self.method.path(),
            authority: name,
            timeout: left.as_bytes(),
            metadata: self.metadata,
        };
        call(&slot, name, &head, self.message.clone(), self.max_response)
            .await
            .map_err(|failure| cut_short(failure, self.deadline))
    }

    fn outcome(reply: &Reply) -> Outcome {
        Outcome::of_reply(reply)
    }
}

/// A backend that keeps the deadline too may reset the stream a moment before our own clock strikes.
fn cut_short(failure: TryError, deadline: Instant) -> TryError {
    match failure {
        TryError::Failed(CallError::Reset(Reason::CANCEL))
            if Instant::now() + CLOCK_SLACK >= deadline =>
        {
            TryError::Failed(CallError::DeadlineExceeded)
        }
        other => other,
    }
}

/// Calls over the stream of `slot`. `message` has its prefix; a response message may have `limit` bytes.
async fn call(
    slot: &Slot<'_>,
    endpoint: &Arc<str>,
    head: &RequestHead<'_>,
    message: Bytes,
    limit: usize,
) -> Result<Reply, TryError> {
    slot.connection()
        .call(head, message, limit)
        .await
        .map_err(|failure| {
            let endpoint = Arc::clone(endpoint);
            match failure {
                Failure::NotSent(why) => TryError::NotSent(CallError::Connect { endpoint, why }),
                Failure::NotCovered => TryError::NotSent(CallError::Refused { endpoint }),
                Failure::Reset(Reason::REFUSED_STREAM) => {
                    TryError::TurnedAway(CallError::Refused { endpoint })
                }
                Failure::Reset(reason) => TryError::Failed(CallError::Reset(reason)),
                Failure::Lost(why) => TryError::Failed(CallError::ConnectionLost(why)),
                Failure::Answer(error) => TryError::Failed(error),
            }
        })
}
