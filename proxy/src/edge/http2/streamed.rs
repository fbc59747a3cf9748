//! A call over one stream of HTTP/2 whose bodies go piece by piece, within the windows of both sides.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::time::{Sleep, sleep};

use super::stream::{continue_response, response_head};
use crate::edge::client::{Client, Gone, ReadError};
use crate::edge::{Answer, Length};

/// The client while its call runs.
pub(super) struct Streamed {
    pub(super) body: RecvStream,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) expects_continue: bool,
    pub(super) is_head: bool,
    pub(super) write_timeout: Duration,
    pub(super) answer: Begun,
}

/// The answer, as far as it goes.
#[derive(Default)]
pub(super) struct Begun {
    sender: Option<SendStream<Bytes>>,
    pending: BytesMut,
    ended: bool,
    trailers: Option<HeaderMap>,
    broken: bool,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Begun {
    /// Whether there is anything of an answer.
    pub(super) fn has_begun(&self) -> bool {
        self.sender.is_some() || self.broken
    }
}

impl Streamed {
    /// Sends what is left of an answer that has begun, and its end; without an end it is reset.
    pub(super) async fn finish(&mut self) -> Result<(), Gone> {
        let flushed = match self.answer.ended {
            true => std::future::poll_fn(|context| self.poll_flush(context)).await,
            false => Err(Gone),
        };
        let Some(sender) = &mut self.answer.sender else {
            return Err(Gone);
        };
        if self.is_head {
            return Ok(());
        }
        match flushed {
            Ok(()) => match self.answer.trailers.take() {
                Some(trailers) => sender.send_trailers(trailers).map_err(|_| Gone),
                None => sender.send_data(Bytes::new(), true).map_err(|_| Gone),
            },
            Err(Gone) => {
                sender.send_reset(Reason::INTERNAL_ERROR);
                Err(Gone)
            }
        }
    }
}

impl Client for Streamed {
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        if std::mem::take(&mut self.expects_continue) && !self.answer.has_begun() {
            let sent = self.respond.send_informational(continue_response());
            sent.map_err(|_| ReadError::Gone)?;
        }
        match ready!(self.body.poll_data(context)) {
            None => Poll::Ready(Ok(None)),
            Some(Err(_)) => Poll::Ready(Err(ReadError::Gone)),
            Some(Ok(piece)) => {
                let released = self.body.flow_control().release_capacity(piece.len());
                Poll::Ready(released.map(|()| Some(piece)).map_err(|_| ReadError::Gone))
            }
        }
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.answer.sender {
            Some(sender) => sender.poll_reset(context).map(drop),
            None => self.respond.poll_reset(context).map(drop),
        }
    }

    fn begin(&mut self, mut answer: Answer) {
        answer.length = Length::Streamed;
        let head = response_head(&answer);
        match self.respond.send_response(head, self.is_head) {
            Ok(sender) => self.answer.sender = Some(sender),
            Err(_) => self.answer.broken = true,
        }
    }

    fn write(&mut self, piece: &[u8]) {
        if !self.is_head {
            self.answer.pending.extend_from_slice(piece);
        }
    }

    fn unsent(&self) -> usize {
        self.answer.pending.len()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let Begun {
            sender,
            pending,
            broken,
            stalled,
            ..
        } = &mut self.answer;
        if *broken {
            return Poll::Ready(Err(Gone));
        }
        let Some(sender) = sender else {
            return Poll::Ready(Ok(()));
        };
        while !pending.is_empty() {
            let room = sender.capacity();
            if room > 0 {
                let piece = pending.split_to(room.min(pending.len())).freeze();
                *stalled = None;
                if sender.send_data(piece, false).is_err() {
                    return Poll::Ready(Err(Gone));
                }
                continue;
            }
            sender.reserve_capacity(pending.len());
            match sender.poll_capacity(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(Gone)),
                Poll::Pending => {
                    let timer = stalled.get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
                    return timer.as_mut().poll(context).map(|()| Err(Gone));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.answer.ended = true;
        self.answer.trailers = trailers;
    }
}
