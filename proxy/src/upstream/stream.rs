//! A gRPC call whose messages come, and perhaps go, one by one. Until its answer begins it is tried like any other
//! call; from then on it is this stream and no other.
//!
//! A stream holds its place in the cluster's limits and in the load of its endpoint until it is dropped, which
//! cancels it. Refused: a second try of a request that is still being sent.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use resilience::retry::Pushback;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::attempts::{self, Place};
use super::call::{self, Call, TryError};
use super::cluster::Cluster;
use super::connection::Wire;
use super::counters::Outcome;
use super::error::{CallError, NoRetry};
use super::exchange::Exchange;
use super::http2::{Event, RequestHead};
use super::lane::Kept;
use super::method::Method;
use super::policy::Terms;
use super::reply::Reply;
use super::retries::Reason;
use super::{message, timeout};
use crate::compression::Coding;

/// A call that streams.
#[derive(Debug)]
pub struct StreamCall<'a> {
    /// What is called.
    pub method: &'a Method,
    /// Headers beside those of the method, as in a unary call.
    pub metadata: &'a [(HeaderName, HeaderValue)],
    /// What there is to send now, each message with its prefix.
    pub first: Bytes,
    /// What is awaited before the call counts as answered.
    pub await_for: Await,
    /// How large each message of the answer may be. `None`: the caller speaks gRPC. Its bytes and those of the answer are
    /// handed on as they come, whatever messages they are, and `metadata` has its content type and user agent.
    pub max_message: Option<usize>,
    /// What messages are encoded in on their way to the backend, unless they are handed on as they come.
    pub(crate) coding: Option<Coding>,
    /// When all of it must be over, if the caller said so.
    pub ends: Option<Instant>,
    /// How long there is time until the answer begins, and when it may be tried again until then.
    pub terms: Terms<'a>,
}

/// When the answer to a call has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Await {
    /// At once: more of the request is to be sent.
    Nothing,
    /// With the metadata that precedes the messages.
    Head,
    /// With the first message.
    Message,
}

/// A stream whose answer has begun.
#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    endpoint: Arc<str>,
    /// What precedes the messages, if anything does, once that is known.
    head: Option<Option<HeaderMap>>,
    first: Option<Bytes>,
    _slot: Kept,
    coding: Option<Coding>,
    /// Its place in the limits of the cluster.
    place: Option<Place>,
}

/// What came of a call that streams.
#[derive(Debug)]
pub enum Opened {
    /// It ended before there was a message.
    Over(Box<Reply>),
    /// It goes on.
    Live(Box<Stream>),
}

/// What comes of a stream.
#[derive(Debug)]
pub enum Next {
    /// A message, or bytes of some.
    Message(Bytes),
    /// The outcome, after which nothing comes.
    End(Box<Reply>),
}

/// Makes the call within the limits of the cluster.
pub(super) async fn open(
    cluster: &Arc<Cluster>,
    worker: usize,
    call: &StreamCall<'_>,
) -> Result<Opened, CallError> {
    let (mut opened, place) = attempts::run_and_stay(cluster, worker, call).await?;
    if let Opened::Live(stream) = &mut opened {
        stream.place = Some(place);
    }
    Ok(opened)
}

// === impl StreamCall ===

impl StreamCall<'_> {
    /// Encodes messages on their way to the backend, where they are ours to encode.
    pub(super) fn compress(&mut self, coding: Coding) {
        if self.max_message.is_some() {
            self.coding = Some(coding);
            self.first = message::compressed(&self.first, coding);
        }
    }
}

impl Exchange for StreamCall<'_> {
    type Reply = Opened;

    fn terms(&self) -> &Terms<'_> {
        &self.terms
    }

    async fn once(
        &self,
        attempt: &mut Attempt,
        worker: usize,
        _: Instant,
    ) -> Result<Opened, TryError> {
        let (endpoint, departure) = attempt.set_out();
        let name = endpoint.name();
        let slot = call::leave(endpoint, departure, worker)
            .await?
            .keep(endpoint);
        // The route's time ends with the first message: a backend that heard of it would end the stream then.
        let left = self
            .ends
            .map(|ends| timeout::text(ends.saturating_duration_since(departure.at)));
        let head = RequestHead {
            path: self.method.path(),
            authority: name,
            timeout: left.as_ref().map_or(&[], |left| left.as_bytes()),
            metadata: self.metadata,
            coding: self.coding.map(Coding::as_str),
            passed: self.max_message.is_none(),
        };
        let request = (self.first.clone(), self.await_for == Await::Nothing);
        let wire = Wire::open(
            Arc::clone(slot.connection()),
            &head,
            request,
            self.max_message,
        )
        .map_err(|failure| TryError::of(failure, name))?;
        let stream = Stream {
            wire,
            endpoint: Arc::clone(name),
            head: None,
            first: None,
            _slot: slot,
            coding: self.coding,
            place: None,
        };
        stream.begin(self.await_for).await
    }

    fn outcome(reply: &Opened) -> Outcome {
        match reply {
            Opened::Over(reply) => Outcome::of_reply(reply),
            Opened::Live(_) => Outcome::Ok,
        }
    }

    fn reason(reply: &Opened) -> Reason {
        match reply {
            Opened::Over(reply) => Reason::Code(reply.code),
            Opened::Live(_) => Reason::Code(super::code::OK),
        }
    }

    fn not_tried_again(reply: Opened, why: &NoRetry) -> Opened {
        match reply {
            Opened::Over(reply) => Opened::Over(Box::new(Call::not_tried_again(*reply, why))),
            live => live,
        }
    }

    fn pushback(reply: &Opened) -> Option<Pushback> {
        match reply {
            Opened::Over(reply) => call::pushback(reply),
            Opened::Live(_) => None,
        }
    }
}

// === impl Stream ===

impl Stream {
    /// Ready with the metadata that precedes the messages when it has come, or it is certain that there is none.
    pub fn poll_head(&mut self, cx: &Context<'_>) -> Poll<Option<&HeaderMap>> {
        if self.head.is_none() {
            self.head = Some(ready!(self.wire.poll_head(cx)));
        }
        Poll::Ready(self.head.as_ref().and_then(Option::as_ref))
    }

    /// The next message, or the outcome.
    ///
    /// # Errors
    /// When the stream breaks. Nothing comes after that.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Result<Next, CallError>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Next::Message(first)));
        }
        self.wire.poll_event(cx).map(|event| match event {
            Ok(Event::Message(message)) => Ok(Next::Message(message)),
            Ok(Event::End(reply)) => Ok(Next::End(reply)),
            Err(failure) => Err(TryError::of(failure, &self.endpoint).into_error()),
        })
    }

    /// Ready when more of the request may be given, or the backend wants no more.
    pub fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        self.wire.poll_sent(cx)
    }

    /// Sends messages with their prefixes, once those before have been sent. `end`: they are the last.
    pub fn send(&self, messages: Bytes, end: bool) {
        let messages = match self.coding {
            Some(coding) => message::compressed(&messages, coding),
            None => messages,
        };
        self.wire.send(messages, end);
    }

    async fn begin(mut self, until: Await) -> Result<Opened, TryError> {
        let answered = match until {
            Await::Nothing => return Ok(Opened::Live(Box::new(self))),
            Await::Head | Await::Message => poll_fn(|cx| self.wire.poll_head(cx)).await,
        };
        if let Some(head) = answered {
            self.head = Some(Some(head));
            if until == Await::Head {
                return Ok(Opened::Live(Box::new(self)));
            }
        }
        match poll_fn(|cx| self.wire.poll_event(cx)).await {
            Ok(Event::Message(message)) => {
                self.first = Some(message);
                Ok(Opened::Live(Box::new(self)))
            }
            Ok(Event::End(reply)) => Ok(Opened::Over(reply)),
            Err(failure) => Err(TryError::of(failure, &self.endpoint)),
        }
    }
}
