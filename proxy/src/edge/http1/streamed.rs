//! A call over HTTP/1.1 whose bodies go piece by piece: chunked, or to the end of the connection for HTTP/1.0 and for
//! connections that have become something else.
//!
//! The connection is kept only if both bodies have come to their ends.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use tokio::time::Instant;

use super::output::Output;
use super::{End, READ_ROOM, Session};
use crate::edge::chunked::Chunked;
use crate::edge::client::{Client, Gone, ReadError};
use crate::edge::head::Head;
use crate::edge::limits::EdgeLimits;
use crate::edge::parse::{Body, Framing};
use crate::edge::socket::{Socket, poll_fill};
use crate::edge::timer::Timer;
use crate::edge::workers::Worker;
use crate::edge::{Answer, Length, Service};

/// The client while its call runs.
pub(super) struct Streamed<'s> {
    limits: &'s EdgeLimits,
    socket: &'s mut Socket,
    output: &'s mut Output,
    timer: &'s mut Timer,
    /// What has come of the body, and behind it.
    input: &'s mut Vec<u8>,
    body: Incoming,
    expects_continue: bool,
    version: Version,
    /// Answers to HEAD have no body.
    is_head: bool,
    keep_alive: bool,
    received: Instant,
    state: State,
    /// Since when the client takes nothing, and how much it had taken then.
    stalled: Option<(Instant, usize)>,
}

/// What is still to come of the request's body.
enum Incoming {
    Counted(u64),
    Chunked(Box<Chunked>),
    /// Whatever comes.
    Tunnel,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing of the answer is there.
    Waiting,
    Begun,
    Ended,
}

impl<S: Service> Session<S> {
    /// Runs a call that reads and writes by itself.
    pub(super) async fn stream(&mut self, call: S::Call, framing: Framing) -> Result<(), End> {
        let (worker, head, mut client) = self.lend(framing);
        let answer = worker
            .service
            .stream(worker.index, call, head, &mut client)
            .await;
        let (state, read, takes) = (client.state, client.has_ended(), client.stalled.is_none());
        let keep_alive = client.keep_alive && read;
        match (answer, state) {
            (Some(answer), State::Waiting) => {
                let keep_alive = self.answer(answer, keep_alive);
                match read {
                    true => self.settle(keep_alive).await,
                    false => Err(End::Linger),
                }
            }
            (_, State::Ended) => {
                let keep_alive = keep_alive && self.head.version == Version::HTTP_11;
                self.flush().await?;
                match keep_alive && !self.worker.connections.is_draining() {
                    true => Ok(()),
                    false => Err(if read { End::Close } else { End::Linger }),
                }
            }
            (_, State::Begun) if takes => {
                // What there is of it, so that it is seen to break off.
                self.flush().await?;
                Err(End::Close)
            }
            _ => Err(End::Close),
        }
    }
}

impl<S: Service> Session<S> {
    /// The client of a call, and what the call needs beside it.
    pub(super) fn lend(&mut self, framing: Framing) -> (&Worker<S>, &Head, Streamed<'_>) {
        let Self {
            worker,
            socket,
            head,
            early,
            output,
            timer,
            consumed,
            ..
        } = self;
        early.extend(head.buffer.drain(head.end..));
        *consumed = head.end;
        let client = Streamed {
            limits: &worker.limits,
            socket,
            output,
            timer,
            input: early,
            body: Incoming::of(framing),
            expects_continue: framing.expects_continue,
            version: head.version,
            is_head: head.method == Method::HEAD,
            keep_alive: framing.keep_alive && !worker.connections.is_draining(),
            received: head.received,
            state: State::Waiting,
            stalled: None,
        };
        (worker, head, client)
    }
}

impl Incoming {
    fn of(framing: Framing) -> Self {
        match framing.body {
            Body::Length(0) => Self::Ended,
            Body::Length(length) => Self::Counted(length),
            Body::Chunked => Self::Chunked(Box::new(Chunked::new())),
        }
    }

    /// What `input` has of the body, in front of what it is then left with.
    fn take(&mut self, input: &mut Vec<u8>) -> Result<Bytes, ReadError> {
        match self {
            Self::Ended => Ok(Bytes::new()),
            Self::Tunnel => Ok(std::mem::take(input).into()),
            Self::Counted(left) => {
                let length = input
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                let piece = Bytes::copy_from_slice(&input[..length]);
                input.drain(..length);
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(piece)
            }
            Self::Chunked(chunked) => {
                let decoded = chunked.decode(input, 0, 0, 0, usize::MAX);
                let progress = decoded.map_err(ReadError::Refused)?;
                let piece = Bytes::copy_from_slice(&input[..progress.written]);
                input.drain(..progress.read);
                if progress.done {
                    *self = Self::Ended;
                }
                Ok(piece)
            }
        }
    }
}

impl Streamed<'_> {
    fn has_ended(&self) -> bool {
        matches!(self.body, Incoming::Ended)
    }

    fn is_chunked(&self) -> bool {
        self.version == Version::HTTP_11 && !matches!(self.body, Incoming::Tunnel)
    }

    /// Makes the connection something else, as this head says: from here on bytes go both ways as they are.
    pub(super) fn switch(&mut self, head: &[u8]) {
        self.body = Incoming::Tunnel;
        self.state = State::Begun;
        self.output.push_raw(head);
    }
}

impl Client for Streamed<'_> {
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        loop {
            if self.has_ended() {
                return Poll::Ready(Ok(None));
            }
            if !self.input.is_empty() {
                let piece = self.body.take(self.input)?;
                if !piece.is_empty() {
                    return Poll::Ready(Ok(Some(piece)));
                }
                continue;
            }
            if std::mem::take(&mut self.expects_continue) && self.state == State::Waiting {
                self.output.push_raw(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if let Poll::Ready(Err(Gone)) = self.poll_flush(context) {
                return Poll::Ready(Err(ReadError::Gone));
            }
            match ready!(poll_fill(self.socket, context, self.input, READ_ROOM)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(ReadError::Gone)),
                Ok(_) => {}
            }
        }
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < self.limits.pipelined_bytes {
            match ready!(poll_fill(self.socket, context, self.input, READ_ROOM)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    fn begin(&mut self, mut answer: Answer) {
        answer.length = Length::Streamed;
        self.state = State::Begun;
        self.keep_alive &= self.is_chunked();
        self.output
            .push_head(&answer, self.version, self.keep_alive, self.received);
    }

    fn write(&mut self, piece: &[u8]) {
        if self.is_head || piece.is_empty() {
            return;
        }
        if self.is_chunked() {
            self.output.push_chunk(piece);
        } else {
            self.output.push_raw(piece);
        }
    }

    fn unsent(&self) -> usize {
        self.output.len()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match self.output.poll_write(self.socket, context) {
            Poll::Ready(written) => {
                self.stalled = None;
                Poll::Ready(written.map_err(|_| Gone))
            }
            Poll::Pending => {
                let sent = self.output.sent();
                let since = match self.stalled {
                    Some((since, before)) if before == sent => since,
                    _ => Instant::now(),
                };
                self.stalled = Some((since, sent));
                self.timer.set(since + self.limits.write_timeout);
                self.timer.poll(context).map(|()| Err(Gone))
            }
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.state = State::Ended;
        if self.is_chunked() && !self.is_head {
            self.output.push_last_chunk(&trailers.unwrap_or_default());
        }
    }
}
