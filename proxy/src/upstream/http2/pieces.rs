//! The messages of a call that streams, taken and given one by one.
//!
//! What has come and was not taken yet holds the peer's window down, so that a reader who is slow costs one window
//! and not what the peer would like to send. Bytes are handed on as the network cut them: who takes them puts
//! messages together. Refused: a message that announces more than is accepted, before it is read.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;

use super::machine::{Call, CallState, Core, Failure};
use crate::compression::Coding;
use crate::upstream::error::CallError;
use crate::upstream::message::{Deframer, Framed, PREFIX};
use crate::upstream::reply::Reply;

/// The two directions of a call that streams.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// Messages that came, without their prefixes and still encoded, or bytes.
    messages: VecDeque<Framed>,
    /// What they are encoded in, where they are.
    coding: Option<Coding>,
    /// Their bytes, as they count in the window.
    held: usize,
    /// What puts messages together; nothing where bytes are handed on as they come.
    deframer: Option<Deframer>,
    /// More will be given to be sent.
    more: bool,
    /// Not all that was given has been sent.
    sending: bool,
    writer: Option<Waker>,
}

/// What comes of a call that streams.
#[derive(Debug)]
pub(crate) enum Event {
    /// The next message.
    Message(Bytes),
    /// The outcome; its `body` is empty.
    End(Box<Reply>),
}

// === impl Pieces ===

impl Pieces {
    /// Each message may have `limit` bytes. No limit: they are not looked for.
    pub(super) fn new(limit: Option<usize>, more: bool) -> Self {
        Self {
            messages: VecDeque::new(),
            coding: None,
            held: 0,
            deframer: limit.map(Deframer::new),
            more,
            sending: true,
            writer: None,
        }
    }

    /// Bytes that nobody has taken yet. Those of a message that is not whole do not count: it could never become so.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether the peer has sent whole messages only.
    pub(super) fn is_whole(&self) -> bool {
        self.deframer
            .as_ref()
            .is_none_or(Deframer::is_between_messages)
    }

    /// Whether what was given last is the end of the request.
    pub(super) fn is_last(&self) -> bool {
        !self.more
    }

    /// Whether the request has not ended.
    pub(super) fn is_sending(&self) -> bool {
        self.more || self.sending
    }

    pub(super) fn all_sent(&mut self) {
        self.sending = false;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        let (messages, held) = (&mut self.messages, &mut self.held);
        let Some(deframer) = &mut self.deframer else {
            if !bytes.is_empty() {
                *held += bytes.len();
                messages.push_back(Framed::piece(Bytes::copy_from_slice(bytes)));
            }
            return Ok(());
        };
        deframer.push(bytes, |message| {
            *held += PREFIX + message.bytes.len();
            messages.push_back(message);
        })
    }

    /// The next message, which is decoded only now: what waits is held as it came.
    fn pop(&mut self) -> Option<Result<Bytes, CallError>> {
        let message = self.messages.pop_front()?;
        let prefix = self.deframer.as_ref().map_or(0, |_| PREFIX);
        self.held -= prefix + message.bytes.len();
        Some(message.plain(self.coding))
    }
}

// === impl Call ===

impl Call {
    /// Takes a piece of the answer.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        let CallState::Receiving(exchange) = &mut self.state else {
            return Ok(());
        };
        let Some(pieces) = &mut self.pieces else {
            return exchange.data(bytes);
        };
        exchange.may_have_data()?;
        pieces.coding = exchange.coding();
        pieces.push(bytes)?;
        if !pieces.messages.is_empty() {
            self.wake_if_streaming();
        }
        Ok(())
    }

    /// For news that a unary call does not wait for.
    pub(super) fn wake_if_streaming(&mut self) {
        if self.pieces.is_some()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

// === impl Core ===

impl Core {
    /// The metadata that precedes the messages, or nothing if the call has ended.
    pub(crate) fn poll_head(&mut self, id: u32, cx: &Context<'_>) -> Poll<Option<HeaderMap>> {
        let Some(call) = self.calls.get_mut(&id) else {
            return Poll::Ready(None);
        };
        match &call.state {
            CallState::Receiving(exchange) if exchange.is_answered() => {
                Poll::Ready(Some(exchange.metadata().clone()))
            }
            CallState::Receiving(_) => {
                call.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            CallState::Done(result) => {
                // All of it has come at once: with messages there was metadata before them.
                let messages = call.pieces.as_ref().filter(|pieces| pieces.held > 0);
                let reply = result.as_ref().as_ref().ok();
                Poll::Ready(messages.and(reply).map(|reply| reply.headers.clone()))
            }
        }
    }

    /// The next message, or the outcome, once.
    pub(crate) fn poll_event(&mut self, id: u32, cx: &Context<'_>) -> Poll<Result<Event, Failure>> {
        let Some(call) = self.calls.get_mut(&id) else {
            return Poll::Ready(Err(Failure::Lost("the call is over".into())));
        };
        if let Some(message) = call.pieces.as_mut().and_then(|pieces| pieces.pop()) {
            if matches!(call.state, CallState::Receiving(_)) && self.ended.is_none() {
                let before = self.out.len();
                self.refill(id);
                if self.out.len() > before {
                    self.wake_driver();
                }
            }
            return Poll::Ready(message.map(Event::Message).map_err(Failure::Answer));
        }
        let ended = self.poll_reply(id, cx);
        ended.map(|ended| ended.map(|reply| Event::End(Box::new(reply))))
    }

    /// Ready when all that was given to be sent is on its way, or the call has ended.
    pub(crate) fn poll_sent(&mut self, id: u32, cx: &Context<'_>) -> Poll<()> {
        let call = self.calls.get_mut(&id);
        let Some(call) = call.filter(|call| matches!(call.state, CallState::Receiving(_))) else {
            return Poll::Ready(());
        };
        match &mut call.pieces {
            Some(pieces) if pieces.sending => {
                pieces.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Sends more of the request, which was all sent before. `end`: there is no more.
    pub(crate) fn send_piece(&mut self, id: u32, bytes: Bytes, end: bool) {
        let call = self.calls.get_mut(&id);
        let Some(call) = call.filter(|call| matches!(call.state, CallState::Receiving(_))) else {
            return;
        };
        let Some(pieces) = call.pieces.as_mut().filter(|pieces| pieces.more) else {
            return;
        };
        (pieces.sending, pieces.more) = (true, !end);
        call.unsent = bytes;
        if !self.send_data(id) && !self.blocked.contains(&id) {
            self.blocked.push_back(id);
        }
        self.wake_driver();
    }
}
