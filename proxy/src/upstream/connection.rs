//! One HTTP/2 connection to an endpoint, shared by many calls of one worker.
//!
//! It counts as open when the peer has answered a PING: only then is it certain that HTTP/2 is spoken there
//! and how many streams the peer takes. Later PINGs go out only when calls wait in silence, and few of them:
//! servers punish more (`ENHANCE_YOUR_CALM`). Refused: push, streams beyond what the peer allows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection as Driver, SendRequest};
use h2::{Ping, PingPong};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::wire::{Traffic, Wire};

const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const HEADER_LIST: u32 = 64 << 10;
/// Resets of ours (deadlines, clients that left) whose late frames are recognised and dropped.
const REMEMBERED_RESETS: usize = 4096;
/// Calls wait this long without a byte from the peer before it is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// PINGs in one silence. Servers of gRPC close the connection at the third that brings no news.
const PINGS_IN_SILENCE: u32 = 2;

/// A connection, as those see it who send calls over it.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    traffic: Arc<Traffic>,
    streams: AtomicUsize,
    most_streams: AtomicUsize,
    /// No further calls: the peer said GOAWAY, or it broke.
    draining: AtomicBool,
}

/// A connection that has just been opened, and what has to be run for it to live.
pub(crate) struct Opened {
    pub(crate) connection: Arc<Connection>,
    driver: Driver<Wire, Bytes>,
    ping: Option<PingPong>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no HTTP/2 there: {0}")]
    Http2(#[from] h2::Error),
}

/// Opens a connection within `limit`.
pub(crate) async fn open(address: SocketAddr, limit: Duration) -> Result<Opened, ConnectError> {
    timeout(limit, establish(address))
        .await
        .unwrap_or(Err(ConnectError::TimedOut(limit)))
}

async fn establish(address: SocketAddr) -> Result<Opened, ConnectError> {
    let wire = Wire::connect(address).await?;
    let traffic = wire.traffic();
    let (sender, mut driver) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .enable_push(false)
        .handshake(wire)
        .await?;
    let mut ping = driver.ping_pong();
    if let Some(ping) = &mut ping {
        tokio::select! {
            biased;
            ended = &mut driver => return Err(ended.err().map_or_else(closed_at_once, ConnectError::Http2)),
            answer = ping.ping(Ping::opaque()) => { answer?; }
        }
    }
    let most_streams = sender.current_max_send_streams();
    let connection = Arc::new(Connection {
        sender,
        traffic,
        streams: AtomicUsize::new(0),
        most_streams: AtomicUsize::new(most_streams),
        draining: AtomicBool::new(false),
    });
    Ok(Opened {
        connection,
        driver,
        ping,
    })
}

fn closed_at_once() -> ConnectError {
    ConnectError::Io(std::io::ErrorKind::UnexpectedEof.into())
}

// === impl Opened ===

impl Opened {
    /// Runs the connection on this thread's runtime; `on_end` is called when it is gone, however it went.
    pub(crate) fn run(self, on_end: impl FnOnce() + Send + 'static) -> Arc<Connection> {
        let Self {
            connection,
            driver,
            ping,
        } = self;
        let ended = OnDrop(Some(on_end));
        let running = tokio::spawn(async move {
            let _ended = ended;
            if let Err(error) = driver.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        if let Some(ping) = ping {
            let watched = Arc::downgrade(&connection);
            tokio::spawn(watch_over(ping, watched, running.abort_handle()));
        }
        connection
    }
}

/// Closes a connection whose peer does not answer; ends with the connection.
async fn watch_over(
    mut ping: PingPong,
    connection: std::sync::Weak<Connection>,
    running: AbortHandle,
) {
    let (mut seen, mut pings) = (0, 0);
    loop {
        sleep(SILENCE).await;
        let Some(connection) = connection.upgrade().filter(|_| !running.is_finished()) else {
            return;
        };
        let reads = connection.traffic.reads();
        if reads != seen {
            (seen, pings) = (reads, 0);
            continue;
        }
        if connection.streams() == 0 || pings == PINGS_IN_SILENCE {
            continue;
        }
        let traffic = Arc::clone(&connection.traffic);
        drop(connection);
        if !matches!(
            timeout(PING_TIMEOUT, ping.ping(Ping::opaque())).await,
            Ok(Ok(_))
        ) && traffic.reads() == seen
        {
            tracing::info!("an upstream connection is silent and does not answer PING: closed");
            return running.abort();
        }
        (seen, pings) = (traffic.reads(), pings + 1);
    }
}

struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Takes a stream, if the peer allows one more.
    pub(crate) fn try_take_stream(&self) -> bool {
        if self.draining.load(Acquire) {
            return false;
        }
        let most = self.most_streams.load(Relaxed);
        let more = |now| if now < most { Some(now + 1) } else { None };
        self.streams.fetch_update(AcqRel, Acquire, more).is_ok()
    }

    /// Gives a stream back.
    pub(crate) fn release_stream(&self) {
        if self.streams.fetch_sub(1, AcqRel) >= self.most_streams.load(Relaxed) {
            // The peer may have changed its mind; asking costs a lock, so only when it matters.
            self.most_streams
                .store(self.sender.current_max_send_streams(), Relaxed);
        }
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }

    pub(crate) fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }
}
