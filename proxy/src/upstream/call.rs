//! One unary gRPC call over one stream: request out, headers, message and trailers in. Dropping the future
//! resets the stream. What went wrong is told with the one fact that decides about repeating it: whether the
//! backend may have seen the request.

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::Request;

use super::error::CallError;
use super::lane::Slot;
use super::message::Assembly;
use super::reply::{Reply, check_head};

/// Consumed bytes are given back to the window in portions of this size; smaller answers need no frame for it.
const WINDOW_PORTION: usize = 256 * 1024;

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

/// Calls over the stream of `slot`. `message` has its prefix; a response message may have `limit` bytes.
pub(crate) async fn call(
    slot: &Slot,
    endpoint: &str,
    request: Request<()>,
    message: Bytes,
    limit: usize,
) -> Result<Reply, TryError> {
    let connection = slot.connection();
    let written = connection.traffic().writes();
    let judge = |error: h2::Error| judge(slot, endpoint, written, &error);
    let (response, mut stream) =
        connection
            .sender()
            .send_request(request, false)
            .map_err(|error| {
                // The connection said no before anything was queued: out of stream ids, closing, or closed.
                slot.retire_connection();
                TryError::NotSent(CallError::Connect {
                    endpoint: endpoint.into(),
                    why: error.to_string().into(),
                })
            })?;
    stream.send_data(message, true).map_err(judge)?;
    receive(response, limit)
        .await
        .map_err(|failure| match failure {
            Failure::Transport(error) => judge(error),
            Failure::Answer(error) => TryError::Failed(error),
        })
}

enum Failure {
    Transport(h2::Error),
    Answer(CallError),
}

async fn receive(response: ResponseFuture, limit: usize) -> Result<Reply, Failure> {
    let (head, mut body) = response.await?.into_parts();
    check_head(head.status, &head.headers)?;
    if body.is_end_stream() {
        return Ok(without_message(Reply::new(
            http::HeaderMap::new(),
            head.headers,
        )?)?);
    }
    let message = read_message(&mut body, limit).await?;
    let trailers = body.trailers().await?.unwrap_or_default();
    let mut reply = Reply::new(head.headers, trailers)?;
    if reply.code != super::error::code::OK {
        return Ok(reply);
    }
    match message {
        Some(message) => reply.body = message,
        None => reply = without_message(reply)?,
    }
    Ok(reply)
}

/// OK promises exactly one message.
fn without_message(reply: Reply) -> Result<Reply, CallError> {
    if reply.code == super::error::code::OK {
        return Err(CallError::Malformed("status OK without a message"));
    }
    Ok(reply)
}

async fn read_message(body: &mut RecvStream, limit: usize) -> Result<Option<Bytes>, Failure> {
    let mut assembly = Assembly::new(limit);
    let mut consumed = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        consumed += chunk.len();
        assembly.push(chunk)?;
        if consumed >= WINDOW_PORTION {
            body.flow_control().release_capacity(consumed)?;
            consumed = 0;
        }
    }
    Ok(assembly.finish()?)
}

/// What a transport error says about the request.
fn judge(slot: &Slot, endpoint: &str, written: u64, error: &h2::Error) -> TryError {
    if error.is_go_away() && error.is_remote() {
        // Streams that a GOAWAY covers go on; only the others are told of it.
        slot.retire_connection();
        return TryError::NotSent(CallError::Refused {
            endpoint: endpoint.into(),
        });
    }
    let reset = error
        .reason()
        .filter(|_| error.is_reset() && error.is_remote());
    match reset {
        Some(Reason::REFUSED_STREAM) => TryError::TurnedAway(CallError::Refused {
            endpoint: endpoint.into(),
        }),
        Some(reason) => TryError::Failed(CallError::Reset(reason)),
        None if error.is_reset() => TryError::Failed(CallError::Malformed(
            "the stream breaks the rules of HTTP/2",
        )),
        None => {
            slot.retire_connection();
            if slot.connection().traffic().writes() == written {
                let why = error.to_string().into();
                return TryError::NotSent(CallError::Connect {
                    endpoint: endpoint.into(),
                    why,
                });
            }
            TryError::Failed(CallError::ConnectionLost(error.to_string().into()))
        }
    }
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Self::Transport(error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Answer(error)
    }
}
