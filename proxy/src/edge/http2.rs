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

use self::flood::{Flood, Watched};
use super::socket::Socket;
use super::timer::Timer;
use super::workers::Worker;
use super::{Service, http1};

/// What a client sends first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
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
    flood: Flood,
    timer: Timer,
    opened: u32,
    idle: bool,
    leaving: Leaving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// A GOAWAY has been sent; streams that run may end.
    Gracefully,
    /// As soon as the last frame has been written.
    Now,
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
    let (watched, flood) = flood::watch(socket, first);
    let limits = &worker.limits;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
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
        flood,
        timer,
        opened: 0,
        idle: false,
        leaving: Leaving::No,
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
                    self.shared.active.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(stream::serve(Active(self.shared.clone()), request, respond));
                    continue;
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if self.abused() && self.leaving != Leaving::Now {
                self.leave(Leaving::Now, FAREWELL);
                continue;
            }
            if self.leaving == Leaving::No && self.shared.worker.connections.is_draining() {
                self.leave(Leaving::Gracefully, self.shared.worker.limits.drain_timeout);
                continue;
            }
            self.note_idleness();
            if self.timer.poll(context).is_pending() {
                return Poll::Pending;
            }
            if self.leaving != Leaving::No {
                return Poll::Ready(());
            }
            if self.idle {
                self.leave(Leaving::Gracefully, FAREWELL);
            } else {
                self.timer
                    .set(Instant::now() + self.shared.worker.limits.idle_timeout);
            }
        }
    }

    fn abused(&self) -> bool {
        let resets = self.shared.resets.load(Ordering::Relaxed);
        let mostly_reset =
            resets > self.shared.worker.limits.stream_resets && resets > self.opened / 2;
        mostly_reset || self.flood.is_flooding()
    }

    fn leave(&mut self, how: Leaving, wait: Duration) {
        match how {
            Leaving::Now => self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
            _ => self.connection.graceful_shutdown(),
        }
        self.leaving = how;
        self.timer.set(Instant::now() + wait);
    }

    /// The idle timeout runs from the moment at which the last stream is seen to have ended.
    fn note_idleness(&mut self) {
        let idle = self.shared.active.load(Ordering::Relaxed) == 0;
        if idle && !self.idle && self.leaving == Leaving::No {
            self.timer
                .set(Instant::now() + self.shared.worker.limits.idle_timeout);
        }
        self.idle = idle;
    }
}

/// A stream that runs.
pub(super) struct Active<S>(Arc<Shared<S>>);

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
