//! What a client of a stream speaks: how its bytes become messages, and messages its bytes. Nothing here waits.

use bytes::Bytes;
use http::HeaderMap;

use super::Ended;
use crate::edge::Answer;
use crate::upstream::Reply;

/// The language of one client, for one call.
pub(crate) trait Face: Send {
    /// Takes the next piece of the request's body.
    fn push(&mut self, piece: Bytes) -> Result<(), Ended>;

    /// What of it can be sent on by now, messages with their prefixes.
    fn next(&mut self) -> Result<Option<Bytes>, Ended>;

    /// What is sent at its end.
    fn last(&mut self) -> Result<Bytes, Ended>;

    /// Whether the answer begins with its metadata, before there is a message.
    fn is_eager(&self) -> bool;

    /// The head of an answer that streams.
    fn begin(&mut self, metadata: &HeaderMap) -> Answer;

    /// Appends a message. Where it appends nothing, the answer need not begin.
    fn message(&mut self, message: Bytes, out: &mut Vec<u8>) -> Result<(), Ended>;

    /// Appends what ends the stream.
    fn end(&mut self, reply: Reply, out: &mut Vec<u8>) -> Result<Finish, Ended>;

    /// Appends what tells of a failure in the middle, which alone would be answered like this; gives the trailers. An error: it
    /// cannot be told, and the answer breaks off.
    fn failure(&mut self, told: Answer, out: &mut Vec<u8>) -> Result<Option<HeaderMap>, BrokenOff>;

    /// What shows that a stream without messages is alive.
    fn keep_alive(&self) -> Option<&'static [u8]> {
        None
    }
}

/// An answer that has no way to tell of a failure; where the client's connection has one, this is what it tells.
pub(crate) struct BrokenOff(pub(crate) Option<Box<Answer>>);

/// How an answer ends.
pub(crate) enum Finish {
    /// It is this one; nothing of it has been sent.
    Whole(Box<Answer>),
    /// With these trailers.
    Streamed(Option<HeaderMap>),
}
