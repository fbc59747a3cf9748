//! One try over one stream, and what its failure says: whether the backend may have seen the request decides
//! about repeating it.

use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;

use super::error::CallError;
use super::http2::{Failure, RequestHead};
use super::lane::Slot;
use super::reply::Reply;

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

/// Calls over the stream of `slot`. `message` has its prefix; a response message may have `limit` bytes.
pub(crate) async fn call(
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
