//! One HTTP/2 connection of a client as a state machine: bytes and calls in, bytes and replies out. It does no
//! I/O and knows no clock. RFC 9113; what a unary gRPC client does not need (push, priorities, trailers of
//! requests) is refused or left out.
//!
//! What waits to be written stands in one buffer in its final order, so the place of a call in it says whether
//! any byte of the call can have reached the peer.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use h2::Reason;

use super::decoder::{Decoder, MAX_LIST};
use super::encoder::Encoder;
use super::exchange::Exchange;
use super::frame::{self, setting};
use super::pieces::Pieces;
use crate::upstream::error::CallError;
use crate::upstream::reply::Reply;

/// What a stream of the peer may send before it has to wait: what a reader that is slow costs.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams together.
pub(super) const CONNECTION_WINDOW: u32 = 64 << 20;
/// The window that connections have at the start.
pub(super) const DEFAULT_WINDOW: u32 = 65_535;
/// Ids of streams are odd and end here.
pub(super) const LAST_ID: u32 = (1 << 31) - 1;

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Core {
    /// Bytes to be written; those before `sent` have been.
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
    /// Bytes written before those in `out`.
    pub(super) base: u64,
    /// Absent until the peer's settings are known.
    pub(super) encoder: Option<Encoder>,
    pub(super) decoder: Decoder,
    pub(super) block: Option<OpenBlock>,
    pub(super) calls: HashMap<u32, Call, BuildHasherDefault<IdHasher>>,
    pub(super) next: u32,
    pub(super) send_window: i64,
    pub(super) initial_window: i64,
    pub(super) max_frame: usize,
    pub(super) max_streams: usize,
    /// What the peer may still send before it hears from us.
    pub(super) receive_window: i64,
    /// Calls with data that no window has room for.
    pub(super) blocked: VecDeque<u32>,
    pub(super) going_away: bool,
    /// Why the connection is over.
    pub(super) ended: Option<Arc<str>>,
    pub(super) driver: Option<Waker>,
}

/// A header block of which more frames will come.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: usize,
}

/// One call on the connection.
#[derive(Debug)]
pub(super) struct Call {
    /// Where it begins in all that is ever written.
    pub(super) begins: u64,
    pub(super) window: i64,
    /// Of the message, what has not been given to `out`.
    pub(super) unsent: Bytes,
    pub(super) receive_window: i64,
    pub(super) waker: Option<Waker>,
    pub(super) state: CallState,
    /// What is taken piece by piece; a unary call has a message instead.
    pub(super) pieces: Option<Box<Pieces>>,
}

#[derive(Debug)]
pub(super) enum CallState {
    Receiving(Box<Exchange>),
    Done(Box<Result<Reply, Failure>>),
}

/// Why a call has no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No byte of it was written.
    NotSent(Arc<str>),
    /// The peer closes the connection and has not looked at it.
    NotCovered,
    /// `RST_STREAM` before response headers.
    Reset(Reason),
    /// `RST_STREAM` after them.
    ResetMidway(Reason),
    /// The connection ended before response headers.
    Lost(Arc<str>),
    /// The connection ended after them.
    LostMidway(Arc<str>),
    /// The answer is not what it should be.
    Answer(CallError),
}

/// The peer breaks the rules: the connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fatal {
    pub(crate) reason: Reason,
    pub(crate) why: &'static str,
}

/// Ids of streams are spread by a multiplication; nobody chooses them to collide.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

// === impl Core ===

impl Core {
    /// A connection that has just been made, its preface to be written.
    pub(crate) fn new() -> Self {
        let mut out = frame::PREFACE.to_vec();
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::MAX_HEADER_LIST_SIZE, MAX_LIST as u32),
        ];
        frame::settings(&mut out, &settings);
        frame::number(
            &mut out,
            frame::WINDOW_UPDATE,
            0,
            CONNECTION_WINDOW - DEFAULT_WINDOW,
        );
        Self {
            out,
            sent: 0,
            base: 0,
            encoder: None,
            decoder: Decoder::new(),
            block: None,
            calls: HashMap::default(),
            next: 1,
            send_window: i64::from(DEFAULT_WINDOW),
            initial_window: i64::from(DEFAULT_WINDOW),
            max_frame: frame::DEFAULT_MAX,
            max_streams: usize::MAX,
            receive_window: i64::from(CONNECTION_WINDOW),
            blocked: VecDeque::new(),
            going_away: false,
            ended: None,
            driver: None,
        }
    }

    /// Whether the peer has said how it wants to be spoken to.
    pub(crate) fn is_open(&self) -> bool {
        self.encoder.is_some()
    }

    /// Streams that the peer takes at once.
    pub(crate) fn max_streams(&self) -> usize {
        self.max_streams
    }

    /// Whether no further calls are taken.
    pub(crate) fn is_going_away(&self) -> bool {
        self.going_away || self.ended.is_some()
    }

    /// Whether it is going away and nobody waits for anything any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.going_away
            && self
                .calls
                .values()
                .all(|call| matches!(call.state, CallState::Done(_)))
    }

    /// What is to be written.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// So many bytes of it have been.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        const KEPT: usize = 256 * 1024;
        self.sent += bytes;
        if self.sent == self.out.len() || self.sent > KEPT {
            self.base += self.sent as u64;
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if self.out.is_empty() && self.out.capacity() > KEPT {
            self.out.shrink_to(KEPT);
        }
    }

    /// Who writes has to be told when there is something to write.
    pub(crate) fn set_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(waker),
            driver => *driver = Some(waker.clone()),
        }
    }

    /// The connection takes no further calls and ends when those on it have.
    pub(crate) fn close(&mut self) {
        self.going_away = true;
        self.wake_driver();
    }

    /// The connection is over: whoever waits is told.
    pub(crate) fn end(&mut self, why: &str) {
        let why: Arc<str> = why.into();
        self.end_calls(|| Failure::Lost(Arc::clone(&why)), &why);
    }

    /// Ends all calls: those that have left with this failure, the others as never sent.
    pub(super) fn end_calls(&mut self, failure: impl Fn() -> Failure, why: &Arc<str>) {
        let written = self.base + self.sent as u64;
        for call in self.calls.values_mut() {
            let left = call.begins < written;
            call.finish(Err(if left {
                failure()
            } else {
                Failure::NotSent(Arc::clone(why))
            }));
        }
        self.ended.get_or_insert_with(|| Arc::clone(why));
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

// === impl Call ===

impl Call {
    /// Settles the result, unless it is settled, and wakes who waits for it.
    pub(super) fn finish(&mut self, result: Result<Reply, Failure>) {
        if let CallState::Receiving(exchange) = &self.state {
            let result = match result {
                Err(failure) if exchange.is_answered() => Err(failure.midway()),
                other => other,
            };
            self.state = CallState::Done(Box::new(result));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    pub(super) fn exchange(&mut self) -> Option<&mut Exchange> {
        match &mut self.state {
            CallState::Receiving(exchange) => Some(exchange),
            CallState::Done(_) => None,
        }
    }
}

// === impl Failure ===

impl Failure {
    /// The same when an answer has begun.
    fn midway(self) -> Self {
        match self {
            Self::Reset(reason) => Self::ResetMidway(reason),
            Self::Lost(why) => Self::LostMidway(why),
            other => other,
        }
    }
}

// === impl IdHasher ===

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(self.0 as u32 ^ u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
