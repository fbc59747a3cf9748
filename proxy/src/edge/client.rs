//! A client as a call sees it whose bodies go piece by piece, whatever version of HTTP it speaks.
//!
//! What is written waits in memory until it is flushed: a call that looks at [`Client::unsent`] before it writes
//! more holds a bounded amount for a client that is slow. One that takes nothing at all for the edge's
//! `write_timeout` counts as gone.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use super::Answer;
use super::refusal::Refusal;

/// The client has gone, or takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Why there is no more of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// The client has gone.
    Gone,
    /// What it sends is no body.
    Refused(Refusal),
}

/// The client's side of a call that streams.
pub trait Client: Send {
    /// The next piece of the request's body; `None` once it has ended.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>>;

    /// Ready when the client goes away. For while its body is not read.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Begins the answer; the body follows piece by piece.
    fn begin(&mut self, answer: Answer);

    /// Queues a piece of the answer's body.
    fn write(&mut self, piece: &[u8]);

    /// Bytes that are queued.
    fn unsent(&self) -> usize;

    /// Ready when nothing is queued any more.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>>;

    /// Ends the answer's body; trailers stand behind it where the version of HTTP has any. An answer that was begun and is
    /// not ended is one that broke off, and looks like it.
    fn end(&mut self, trailers: Option<HeaderMap>);
}
