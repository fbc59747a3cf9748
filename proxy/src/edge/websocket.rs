//! WebSocket (RFC 6455) as a call sees it whose bodies go piece by piece: a message of the client is a piece of the request, a
//! piece of the answer is a message. An empty message ends the request.
//!
//! tungstenite reads and writes frames, on buffers in memory: fragments, masks, UTF-8, pongs and closing are its. Here are the
//! bounds: what waits on either side, and how long a client may be silent. Refused: extensions, compression among
//! them, and messages that are larger than the route takes.

mod handshake;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, Sleep, sleep_until};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

pub(super) use self::handshake::accepted;
use super::client::{Client, Gone, ReadError};
use super::refusal::Refusal;
use super::{Answer, Upgrade};

/// A client that was silent for so long is asked whether it is there, and has as long again to answer.
const SILENCE: Duration = Duration::from_secs(15);
/// Bytes of messages that are read before anybody asks for them, so that a close behind them is seen.
const READ_AHEAD: usize = 64 * 1024;
/// With so many bytes on their way to the client it is not listened to: its pings would be answered.
const UNSENT: usize = 64 * 1024;
/// Room for what is read at once.
const BUFFER: usize = 4 * 1024;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 64;
/// What a reason for closing may have (RFC 6455 section 5.5).
const REASON: usize = 123;

/// A client whose connection has become a WebSocket.
pub(super) struct WebSocket<C> {
    inner: C,
    context: WebSocketContext,
    pipe: Pipe,
    /// Messages that came and that nobody has asked for.
    queue: VecDeque<Bytes>,
    queued: usize,
    state: State,
    /// What is written is text.
    text: bool,
    closes_normally: bool,
    /// When the client last said anything.
    heard: Instant,
    asked: bool,
    sleep: Pin<Box<Sleep>>,
}

/// How far the client's side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The request is over.
    Ended,
    /// It has closed as one does who is done, and nobody waits for an answer to what it sent.
    Left,
    Gone,
    /// What it sends is not what it should be.
    Failed(Refusal, CloseCode),
}

/// The two directions of a connection, in memory.
#[derive(Debug, Default)]
struct Pipe {
    input: Bytes,
    output: Vec<u8>,
}

// === impl WebSocket ===

impl<C: Client> WebSocket<C> {
    /// A client that has just been told that its connection is one.
    pub(super) fn new<Call>(inner: C, upgrade: &Upgrade<Call>) -> Self {
        let now = Instant::now();
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(upgrade.max_message))
            .max_frame_size(Some(upgrade.max_message));
        Self {
            inner,
            context: WebSocketContext::new(Role::Server, Some(config)),
            pipe: Pipe::default(),
            queue: VecDeque::new(),
            queued: 0,
            state: State::Open,
            text: upgrade.text,
            closes_normally: upgrade.ends_by_close,
            heard: now,
            asked: false,
            sleep: Box::pin(sleep_until(now + SILENCE)),
        }
    }

    /// Says how the call ended, if it has not been said.
    pub(super) fn finish(&mut self, answer: Option<Answer>) {
        let why = match (&answer, self.state) {
            (_, State::Failed(refusal, code)) => Some((code, refusal.reason().to_owned())),
            (Some(answer), _) if answer.status >= 400 => Some(close_of(answer.status)),
            (Some(_), _) => Some((CloseCode::Normal, String::new())),
            (None, _) => None,
        };
        if let Some(answer) = answer {
            match answer.status >= 400 {
                true => self.send(&[b"{\"error\":", &answer.body[..], b"}"].concat(), true),
                false => self.write(&answer.body),
            }
        }
        if let Some((code, reason)) = why {
            self.close(code, &reason);
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        let end = reason.floor_char_boundary(REASON);
        let reason = Utf8Bytes::from(&reason[..end]);
        // That it is closed already is no news.
        let _ = self
            .context
            .close(&mut self.pipe, Some(CloseFrame { code, reason }));
        self.hand_on();
    }

    fn send(&mut self, message: &[u8], text: bool) {
        let utf8 = text.then(|| std::str::from_utf8(message).ok()).flatten();
        let message = match utf8 {
            Some(text) => Message::text(text),
            None => Message::binary(Bytes::copy_from_slice(message)),
        };
        // After a close nothing is sent any more, whoever closed.
        let _ = self.context.write(&mut self.pipe, message);
        self.hand_on();
    }

    /// Gives what the library has written to the connection.
    fn hand_on(&mut self) {
        let _ = self.context.flush(&mut self.pipe);
        if !self.pipe.output.is_empty() {
            self.inner.write(&self.pipe.output);
            self.pipe.output.clear();
        }
    }

    /// Reads from the connection once.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.inner.unsent() > UNSENT {
            let sent = ready!(self.inner.poll_flush(context));
            self.gone_if(sent.is_err());
        }
        let read = self.inner.poll_read(context);
        if let Poll::Ready(Ok(Some(bytes))) = read {
            (self.heard, self.asked) = (Instant::now(), false);
            self.pipe.input = bytes;
            while self.take() {}
            self.hand_on();
            return Poll::Ready(());
        }
        if read.is_ready() {
            self.gone_if(true);
            return Poll::Ready(());
        }
        self.poll_silence(context)
    }

    fn gone_if(&mut self, gone: bool) {
        if gone {
            self.state = State::Gone;
        }
    }

    /// Ready when the client was silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(context).is_ready() {
            let (now, due) = (Instant::now(), self.heard + SILENCE);
            if now < due {
                self.sleep.as_mut().reset(due);
                continue;
            }
            if std::mem::replace(&mut self.asked, true) {
                self.state = State::Gone;
                return Poll::Ready(());
            }
            let ping = Message::Ping(Bytes::new());
            // As above: who has closed is not asked.
            let _ = self.context.write(&mut self.pipe, ping);
            self.hand_on();
            self.sleep.as_mut().reset(now + SILENCE);
        }
        match self.inner.poll_flush(context) {
            Poll::Ready(Err(Gone)) => {
                self.state = State::Gone;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }

    /// Takes the next message of what was read, and says whether there may be more.
    fn take(&mut self) -> bool {
        let refused = |why| Refusal::BadRequest(why);
        match self.context.read(&mut self.pipe) {
            Ok(Message::Text(text)) if text.trim().is_empty() && !text.is_empty() => {}
            Ok(Message::Text(text)) => self.keep(text.into()),
            Ok(Message::Binary(bytes)) => self.keep(bytes),
            Ok(Message::Close(frame)) => {
                let done = frame.is_none_or(|frame| frame.code == CloseCode::Normal);
                self.state = match done && self.closes_normally {
                    true => State::Left,
                    false => State::Gone,
                };
                return false;
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(Error::Capacity(_)) => {
                self.state = State::Failed(Refusal::BodyTooLarge, CloseCode::Size);
                return false;
            }
            Err(Error::Utf8(_)) => {
                let refusal = refused("a message of text is not UTF-8");
                self.state = State::Failed(refusal, CloseCode::Invalid);
                return false;
            }
            Err(_) => {
                let refusal = refused("what follows is no frame of a WebSocket");
                self.state = State::Failed(refusal, CloseCode::Protocol);
                return false;
            }
        }
        true
    }

    fn keep(&mut self, message: Bytes) {
        match self.state {
            State::Open if message.is_empty() => self.state = State::Ended,
            State::Open => {
                self.queued += message.len() + OVERHEAD;
                self.queue.push_back(message);
            }
            // What comes after the end is for nobody.
            _ => {}
        }
    }
}

impl<C: Client> Client for WebSocket<C> {
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                self.queued -= message.len() + OVERHEAD;
                return Poll::Ready(Ok(Some(message)));
            }
            match self.state {
                State::Open => ready!(self.poll_receive(context)),
                State::Ended | State::Left => return Poll::Ready(Ok(None)),
                State::Gone => return Poll::Ready(Err(ReadError::Gone)),
                State::Failed(refusal, _) => {
                    return Poll::Ready(Err(ReadError::Refused(refusal)));
                }
            }
        }
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.state {
                State::Open if self.queued >= READ_AHEAD => return self.inner.poll_gone(context),
                State::Open | State::Ended => ready!(self.poll_receive(context)),
                State::Left => return Poll::Pending,
                State::Gone | State::Failed(..) => return Poll::Ready(()),
            }
        }
    }

    /// The connection has had its head.
    fn begin(&mut self, _: Answer) {}

    fn write(&mut self, piece: &[u8]) {
        if !piece.is_empty() {
            self.send(piece, self.text);
        }
    }

    fn unsent(&self) -> usize {
        match self.state {
            State::Left => 0,
            _ => self.inner.unsent(),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let flushed = self.inner.poll_flush(context);
        match self.state {
            State::Left => Poll::Ready(Ok(())),
            _ => flushed,
        }
    }

    fn end(&mut self, _: Option<HeaderMap>) {
        self.close(CloseCode::Normal, "");
    }
}

/// How a WebSocket is closed where an answer of HTTP would have had this status (RFC 6455 section 7.4.1).
fn close_of(status: u16) -> (CloseCode, String) {
    let code = match status {
        400 | 422 => CloseCode::Invalid,
        401 | 403 => CloseCode::Policy,
        413 => CloseCode::Size,
        429 | 503 => CloseCode::Again,
        _ => CloseCode::Error,
    };
    let words = StatusCode::from_u16(status).map(|status| status.to_string());
    (code, words.unwrap_or_default())
}

// === impl Pipe ===

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.input.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
