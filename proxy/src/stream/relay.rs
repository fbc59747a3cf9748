//! A stream that has begun: messages from the backend to the client and back, as fast as the slower side takes them.
//!
//! The backend is asked for more only while the client has little to take, so a slow reader of an endless stream
//! costs a constant. Failures that come before the answer begins are told like those of any call.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::{Instant, Sleep, sleep_until};

use super::gathered::Gathered;
use super::{Asking, BrokenOff, Ended, Face, Finish, Lane};
use crate::compression::{self, Flow};
use crate::edge::{Answer, Client, Gone};
use crate::error::GatewayError;
use crate::refusals;
use crate::upstream::{CallError, Next, Reply, Stream, code};

/// With so many bytes on their way to the client, the backend is not asked for more.
const ENOUGH: usize = 32 * 1024;
/// A stream that says nothing for this long shows that it is alive, where its form has a way to.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Both directions of a stream.
pub(super) struct Relay<'r, 'l> {
    lane: &'r Lane<'l>,
    client: &'r mut dyn Client,
    face: &'r mut dyn Face,
    stream: Option<Box<Stream>>,
    /// The client's body goes on.
    uploads: bool,
    begun: bool,
    /// The code that the call has ended with.
    ended: u32,
    out: Vec<u8>,
    /// Answers may be encoded, and what this one is encoded by.
    compress: bool,
    flow: Option<Flow>,
    idle_timeout: Duration,
    /// The client takes its time before it says more.
    chats: bool,
    /// When waiting for the next message is given up.
    patience: Instant,
    /// When the caller gives all of it up.
    ends: Option<Instant>,
    /// When the client was last told anything.
    spoken: Instant,
    sleep: Pin<Box<Sleep>>,
}

type Outcome = Result<Option<Answer>, Ended>;
/// `None`: look again.
type Step = Poll<Result<Option<Option<Answer>>, Ended>>;

impl<'r, 'l> Relay<'r, 'l> {
    pub(super) fn new(
        lane: &'r Lane<'l>,
        client: &'r mut dyn Client,
        face: &'r mut dyn Face,
        asking: &Asking<'_>,
    ) -> Self {
        let now = Instant::now();
        let patience = now + asking.idle_timeout;
        Self {
            lane,
            client,
            face,
            stream: None,
            uploads: asking.more,
            begun: false,
            ended: code::OK,
            out: Vec::new(),
            compress: asking.compress,
            flow: None,
            idle_timeout: asking.idle_timeout,
            chats: asking.chats,
            patience,
            ends: None,
            spoken: now,
            sleep: Box::pin(sleep_until(patience)),
        }
    }

    /// The stream of the backend.
    pub(super) fn take(&mut self, stream: Box<Stream>) {
        self.stream = Some(stream);
    }

    /// The first message is waited for until then; `all`: that is the end of the whole stream.
    pub(super) fn wait_until(&mut self, deadline: Instant, all: bool) {
        if !self.chats {
            self.patience = deadline;
        }
        self.ends = all.then_some(deadline);
    }

    /// The client has said something: as long as it goes on, the backend need not have answered. `done`: it was the last.
    fn heard(&mut self, done: bool) {
        let wait = match self.begun || (self.chats && !done) {
            true => self.idle_timeout,
            false => self.lane.row.timeout,
        };
        let until = Instant::now() + wait;
        self.patience = match self.chats && done {
            true => until,
            false => self.patience.max(until),
        };
    }

    /// How the call ended, as the backend or a gRPC client would have it.
    pub(super) fn code(&self, outcome: &Outcome) -> u32 {
        match outcome {
            Ok(_) => self.ended,
            Err(Ended::Gone) => code::CANCELLED,
            Err(Ended::Failed(error)) => error.code(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            match self.poll_step(cx) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(answer))) => return Poll::Ready(Ok(answer)),
                Poll::Ready(Err(Ended::Failed(error))) if self.begun => {
                    return Poll::Ready(self.broken(&error));
                }
                Poll::Ready(Err(ended)) => return Poll::Ready(Err(ended)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The call is over: the client is told how.
    pub(super) fn over(&mut self, reply: Box<Reply>) -> Outcome {
        self.ended = reply.code;
        let metadata = (!self.begun).then(|| reply.headers.clone());
        match self.face.end(*reply, &mut self.out)? {
            Finish::Whole(answer) => Ok(Some(*answer)),
            Finish::Streamed(trailers) => {
                if let Some(metadata) = metadata {
                    let answer = self.face.begin(&metadata);
                    self.begin(answer);
                }
                self.end(trailers);
                Ok(None)
            }
        }
    }

    /// Does what can be done now.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Step {
        let mut waits = false;
        while self.client.unsent() < ENOUGH {
            match self.poll_next(cx) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending => {
                    waits = true;
                    break;
                }
            }
        }
        let reads = self.poll_upload(cx)?;
        match self.client.poll_flush(cx) {
            Poll::Ready(Err(Gone)) => return Poll::Ready(Err(Ended::Gone)),
            Poll::Ready(Ok(())) if !waits => return Poll::Ready(Ok(None)),
            _ => {}
        }
        if !reads && self.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Ended::Gone));
        }
        self.poll_time(cx, waits)
    }

    /// Takes what the backend has sent.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(stream) = &mut self.stream else {
            return Poll::Pending;
        };
        if !self.begun
            && self.face.is_eager()
            && let Poll::Ready(Some(metadata)) = stream.poll_head(cx)
        {
            let answer = self.face.begin(metadata);
            self.begin(answer);
            return Poll::Ready(Ok(None));
        }
        match ready!(stream.poll_next(cx)) {
            Ok(Next::Message(message)) => {
                self.patience = Instant::now() + self.idle_timeout;
                self.face.message(message, &mut self.out)?;
                self.begin_with_message(cx);
                Poll::Ready(Ok(None))
            }
            Ok(Next::End(reply)) => Poll::Ready(self.over(reply).map(Some)),
            Err(error) => Poll::Ready(Err(Ended::Failed(error.into()))),
        }
    }

    /// Queues what there is for the client, and the head before it.
    fn begin_with_message(&mut self, cx: &Context<'_>) {
        if self.out.is_empty() {
            return;
        }
        if let Some(stream) = self.stream.as_mut().filter(|_| !self.begun) {
            // Metadata comes before messages, so that it is known by now.
            let answer = match stream.poll_head(cx) {
                Poll::Ready(Some(metadata)) => self.face.begin(metadata),
                _ => self.face.begin(&HeaderMap::new()),
            };
            self.begin(answer);
        }
        self.write();
    }

    /// Sends what the client has sent, as long as the backend takes it. Whether the client is being read.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        while self.uploads {
            let Some(stream) = &mut self.stream else {
                return Ok(false);
            };
            if stream.poll_sent(cx).is_pending() {
                return Ok(false);
            }
            let Poll::Ready(messages) = self.poll_messages(cx)? else {
                return Ok(true);
            };
            if let Some(stream) = &mut self.stream {
                stream.send(messages, !self.uploads);
            }
        }
        Ok(false)
    }

    /// What the client has sent by now, together: messages that are small and many would cost the backend more
    /// than they are if each came in a frame of its own, and HTTP/2 servers end connections for that.
    fn poll_messages(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Ended>> {
        let mut messages = Gathered::default();
        while messages.len() < ENOUGH {
            if let Some(more) = self.face.next()? {
                messages.add(more);
                continue;
            }
            let piece = match self.client.poll_read(cx) {
                Poll::Pending if messages.len() == 0 => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(piece) => piece?,
            };
            self.heard(piece.is_none());
            let Some(piece) = piece else {
                self.uploads = false;
                messages.add(self.face.last()?);
                break;
            };
            self.face.push(piece)?;
        }
        Poll::Ready(Ok(messages.done()))
    }

    /// Gives up waiting, or shows that the stream is alive. `waits`: for the backend, not for the client.
    fn poll_time(&mut self, cx: &mut Context<'_>, waits: bool) -> Step {
        let now = Instant::now();
        if !waits {
            // The backend is not to blame for the time in which nobody asked it.
            self.patience = self.patience.max(now + self.idle_timeout);
        }
        if now >= self.patience || self.ends.is_some_and(|ends| now >= ends) {
            return Poll::Ready(Err(GatewayError::from(CallError::DeadlineExceeded).into()));
        }
        let keep_alive = self.face.keep_alive().filter(|_| self.begun);
        let mut wake = self
            .ends
            .map_or(self.patience, |ends| ends.min(self.patience));
        if let Some(comment) = keep_alive {
            if now >= self.spoken + KEEP_ALIVE && self.client.unsent() == 0 {
                self.out.extend_from_slice(comment);
                self.write();
                return Poll::Ready(Ok(None));
            }
            wake = wake.min((self.spoken + KEEP_ALIVE).max(now));
        }
        self.sleep.as_mut().reset(wake);
        self.sleep.as_mut().poll(cx).map(|()| Ok(None))
    }

    fn begin(&mut self, mut answer: Answer) {
        self.begun = true;
        (self.lane.decorate)(&mut answer);
        if self.compress {
            self.flow = compression::flow(self.lane.head, &mut answer);
        }
        self.client.begin(answer);
    }

    fn write(&mut self) {
        let encoded = match &mut self.flow {
            Some(flow) if !self.out.is_empty() => Some(flow.push(&self.out)),
            _ => None,
        };
        match encoded {
            None => self.client.write(&self.out),
            // Writing to memory does not fail.
            Some(encoded) => self.client.write(&encoded.unwrap_or_default()),
        }
        self.out.clear();
        self.spoken = Instant::now();
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.write();
        if let Some(flow) = self.flow.take() {
            // As above.
            self.client.write(&flow.finish().unwrap_or_default());
        }
        self.client.end(trailers);
    }

    /// Tells a failure in the middle of the stream.
    fn broken(&mut self, error: &GatewayError) -> Outcome {
        self.ended = error.code();
        let told = refusals::failed(Some(self.lane.row), self.lane.head.into(), error);
        match self.face.failure(told, &mut self.out) {
            Ok(trailers) => {
                self.end(trailers);
                Ok(None)
            }
            Err(BrokenOff(told)) => Ok(told.map(|told| *told)),
        }
    }
}
