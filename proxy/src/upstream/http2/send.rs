//! The way out: calls become frames, as far as the peer's windows allow.

use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use h2::Reason;

use super::encoder::RequestHead;
use super::exchange::Exchange;
use super::frame;
use super::machine::{Call, CallState, Core, Failure, LAST_ID, STREAM_WINDOW};
use super::pieces::Pieces;
use crate::upstream::reply::Reply;

/// The connection takes no calls (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

impl Core {
    /// Starts a call: its frames stand in the buffer when this returns. `message` has its prefix; `limit`
    /// bounds the message that comes back. The number is the stream's.
    pub(crate) fn start(
        &mut self,
        head: &RequestHead<'_>,
        message: Bytes,
        limit: usize,
    ) -> Result<u32, Closed> {
        self.begin(head, message, Exchange::new(limit, false), None)
    }

    /// Starts a call whose messages come, and unless `more` is false also go, one by one. `first` is what there is
    /// to send, with its prefixes; `limit` bounds each message that comes back. Without one, bytes come back, whatever they are.
    pub(crate) fn start_stream(
        &mut self,
        head: &RequestHead<'_>,
        first: Bytes,
        more: bool,
        limit: Option<usize>,
    ) -> Result<u32, Closed> {
        let exchange = Exchange::new(limit.unwrap_or(0), limit.is_none());
        let pieces = Box::new(Pieces::new(limit, more));
        self.begin(head, first, exchange, Some(pieces))
    }

    fn begin(
        &mut self,
        head: &RequestHead<'_>,
        message: Bytes,
        exchange: Exchange,
        pieces: Option<Box<Pieces>>,
    ) -> Result<u32, Closed> {
        if self.is_going_away() {
            return Err(Closed);
        }
        let encoder = self.encoder.as_mut().ok_or(Closed)?;
        let id = self.next;
        self.next += 2;
        // The last id has been given out: another connection has to go on.
        self.going_away |= self.next > LAST_ID;
        let start = self.out.len();
        self.out.extend_from_slice(&[0; frame::HEAD]);
        encoder.encode(head, &mut self.out);
        frame::headers(&mut self.out, start, self.max_frame, id);
        let call = Call {
            begins: self.base + start as u64,
            window: self.initial_window,
            unsent: message,
            receive_window: i64::from(STREAM_WINDOW),
            waker: None,
            state: CallState::Receiving(Box::new(exchange)),
            pieces,
        };
        self.calls.insert(id, call);
        if !self.send_data(id) {
            self.blocked.push_back(id);
        }
        self.wake_driver();
        Ok(id)
    }

    /// The outcome of a call, once.
    pub(crate) fn poll_reply(&mut self, id: u32, cx: &Context<'_>) -> Poll<Result<Reply, Failure>> {
        let Some(call) = self.calls.get_mut(&id) else {
            return Poll::Ready(Err(Failure::Lost("the call is over".into())));
        };
        if let CallState::Receiving(_) = call.state {
            call.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match self.calls.remove(&id).map(|call| call.state) {
            Some(CallState::Done(result)) => Poll::Ready(*result),
            _ => Poll::Pending,
        }
    }

    /// Nobody waits for this call any more.
    pub(crate) fn cancel(&mut self, id: u32) {
        if let Some(call) = self.calls.remove(&id)
            && matches!(call.state, CallState::Receiving(_))
            && self.ended.is_none()
        {
            self.reset(id, Reason::CANCEL);
            self.wake_driver();
        }
    }

    /// Asks whether the peer lives.
    pub(crate) fn ping(&mut self) {
        frame::ping(&mut self.out, 0, *b"highpres");
        self.wake_driver();
    }

    pub(super) fn reset(&mut self, id: u32, reason: Reason) {
        frame::number(&mut self.out, frame::RST_STREAM, id, reason.into());
    }

    /// Whatever the windows have held back goes on.
    pub(super) fn unblock(&mut self) {
        while self.send_window > 0
            && let Some(id) = self.blocked.pop_front()
        {
            if !self.send_data(id) {
                // Its own window is too small: it comes back when that grows.
                if self.send_window > 0 {
                    continue;
                }
                self.blocked.push_front(id);
            }
        }
    }

    /// Writes as much of the message as the windows allow; true if nothing is left.
    pub(super) fn send_data(&mut self, id: u32) -> bool {
        let Some(call) = self
            .calls
            .get_mut(&id)
            .filter(|call| matches!(call.state, CallState::Receiving(_)))
        else {
            return true;
        };
        loop {
            let room = call.window.min(self.send_window).max(0);
            let room = usize::try_from(room)
                .unwrap_or(usize::MAX)
                .min(self.max_frame);
            let length = call.unsent.len().min(room);
            let all = length == call.unsent.len();
            if length == 0 && !all {
                return false;
            }
            let last = all && call.pieces.as_ref().is_none_or(|pieces| pieces.is_last());
            if length > 0 || last {
                frame::head(
                    &mut self.out,
                    length,
                    frame::DATA,
                    if last { frame::END_STREAM } else { 0 },
                    id,
                );
                self.out.extend_from_slice(&call.unsent[..length]);
                call.unsent.advance(length);
                call.window -= length as i64;
                self.send_window -= length as i64;
            }
            if all {
                if let Some(pieces) = &mut call.pieces {
                    pieces.all_sent();
                }
                return true;
            }
        }
    }
}
