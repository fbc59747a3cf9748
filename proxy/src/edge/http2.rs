//! A session of HTTP/2 (RFC 9113): one connection, a task for each of its streams.
//!
//! The `h2` crate speaks the protocol and keeps flow control; this file bounds what a client may do
//! with it: streams that it opens only to reset (CVE-2023-44487), frames that cost it nothing, a
//! connection that stays and says nothing. Answers of streams that end in the same turn of the
//! worker's loop leave in one write.

mod flood;
mod pass_through;
mod request;
mod stream;
mod streamed;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};
use pingora_core::protocols::{Digest, SocketDigest};
use tokio::time::{Instant, timeout};

use self::flood::{Seen, Watched};
use super::socket::Socket;
use super::timer::Timer;
use super::workers::Worker;
use super::{Service, http1};

/// What a client sends first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Memory, as the library counts it (256 bytes a frame beside what is in it), of small frames that wait for a slow
/// backend. By default it is half a window, so that 512 small messages that are not read at once end the connection.
const SMALL_FRAMES: usize = 16 * STREAM_WINDOW as usize;
/// How long a client that is being sent away may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the streams of a connection share with it.
pub(super) struct Shared<S> {
    pub(super) worker: Arc<Worker<S>>,
    pub(super) peer: SocketAddr,
    /// What pingora wants to know of the connection.
    pub(super) digest: Arc<Digest>,
    active: AtomicUsize,
    /// Streams that the client reset before they were answered.
    resets: AtomicU32,
}

/// A connection's own state, between polls.
struct Session<S> {
    shared: Arc<Shared<S>>,
    connection: Connection<Watched, Bytes>,
    seen: Seen,
    timer: Timer,
    opened: u32,
    waiting: Waiting,
}

/// What a connection waits for, apart from frames; each has its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// For streams that run; they have their own deadlines.
    Streams,
    /// For a header that has begun.
    Header,
    /// For the first stream, or another one.
    Idle,
    /// For the last streams, and the last frame to be written, before the end.
    End,
}

/// Serves a connection whose first bytes, the preface among them, have been read.
pub(super) async fn serve<S: Service>(begun: http1::Session<S>) {
    let http1::Session {
        worker,
        open: _open,
        socket,
        head,
        timer,
        ..
    } = begun;
    let (peer, first) = (head.peer, head.buffer);
    let digest = Arc::new(digest(&socket, peer));
    let (watched, seen) = flood::watch(socket, first);
    let limits = &worker.limits;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_FRAMES);
    let handshake = timeout(limits.header_timeout, builder.handshake(watched));
    let Ok(Ok(connection)) = handshake.await else {
        return;
    };
    let shared = Shared {
        worker,
        peer,
        digest,
        active: AtomicUsize::new(0),
        resets: AtomicU32::new(0),
    };
    let mut session = Session {
        shared: Arc::new(shared),
        connection,
        seen,
        timer,
        opened: 0,
        waiting: Waiting::Streams,
    };
    poll_fn(|context| session.poll(context)).await;
}

/// Both addresses are known, so that the descriptor is never asked for them.
fn digest(socket: &Socket, peer: SocketAddr) -> Digest {
    let digest = SocketDigest::from_raw_fd(-1);
    digest.peer_addr.set(Some(peer.into())).ok();
    digest
        .local_addr
        .set(socket.local_address().map(Into::into))
        .ok();
    Digest {
        socket_digest: Some(Arc::new(digest)),
        ..Digest::default()
    }
}

impl<S: Service> Session<S> {
    /// Ready when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.opened = self.opened.saturating_add(1);
                    stream::begin(&self.shared, request, respond);
                    continue;
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if self.waiting != Waiting::End {
                if self.is_abused() {
                    self.end_now();
                    continue;
                }
                if self.shared.worker.connections.is_draining() {
                    self.end_gracefully(self.shared.worker.limits.drain_timeout.get());
                    continue;
                }
                self.note_waiting();
            }
            if self.timer.poll(context).is_pending() {
                return Poll::Pending;
            }
            match self.waiting {
                Waiting::End => return Poll::Ready(()),
                Waiting::Header => self.end_now(),
                Waiting::Idle => self.end_gracefully(FAREWELL),
                Waiting::Streams => self.wait_for(Waiting::Streams),
            }
        }
    }

    fn is_abused(&self) -> bool {
        let resets = self.shared.resets.load(Ordering::Relaxed);
        let allowed = self.shared.worker.limits.stream_resets.max(self.opened / 2);
        resets > allowed || self.seen.is_flooding()
    }

    fn end_now(&mut self) {
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        self.waiting = Waiting::End;
        self.timer.set(Instant::now() + FAREWELL);
    }

    fn end_gracefully(&mut self, wait: Duration) {
        self.connection.graceful_shutdown();
        self.waiting = Waiting::End;
        self.timer.set(Instant::now() + wait);
    }

    /// The deadline of a wait runs from the moment at which it is seen to begin.
    fn note_waiting(&mut self) {
        let waiting = if self.seen.is_unfinished() {
            Waiting::Header
        } else if self.shared.active.load(Ordering::Relaxed) == 0 {
            Waiting::Idle
        } else {
            Waiting::Streams
        };
        if waiting != self.waiting {
            self.wait_for(waiting);
        }
    }

    fn wait_for(&mut self, waiting: Waiting) {
        let limits = &self.shared.worker.limits;
        let wait = match waiting {
            Waiting::Header => limits.header_timeout,
            _ => limits.idle_timeout,
        };
        self.timer.set(Instant::now() + wait);
        self.waiting = waiting;
    }
}

/// A stream that runs.
pub(super) struct Active<S>(Arc<Shared<S>>);

impl<S> Active<S> {
    fn new(shared: &Arc<Shared<S>>) -> Self {
        shared.active.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl<S> std::ops::Deref for Active<S> {
    type Target = Shared<S>;

    fn deref(&self) -> &Shared<S> {
        &self.0
    }
}

impl<S> Shared<S> {
    /// Takes note of a stream that the client reset, or took with the connection.
    pub(super) fn was_reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

impl<S> Drop for Active<S> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
