//! One HTTP/2 connection to an endpoint, shared by many calls of one worker.
//!
//! A task owns the socket: it takes what came in, and writes what the calls of this turn of the worker's loop
//! have put into the buffer at once. The connection counts as open when the peer's settings are there: only
//! then is it certain that HTTP/2 is spoken and how many streams the peer takes. PINGs go out only when calls
//! wait in silence, and few of them: servers punish more (`ENHANCE_YOUR_CALM`).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::http2::{Core, Event, Failure, RequestHead};
use super::reply::Reply;

/// At least one frame fits.
const READ_BUFFER: usize = 32 * 1024;
/// A peer that sends but does not read is not listened to beyond this.
const MAX_UNWRITTEN: usize = 16 << 20;
/// One of so many streams that the peer allows is not used.
const STREAMS_IN_RESERVE: usize = 8;
/// Silence before the kernel asks whether the peer's machine is there at all.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Calls wait this long without a byte from the peer before it is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// PINGs in one silence. Servers of gRPC close the connection at the third that brings no news.
const PINGS_IN_SILENCE: u32 = 2;

/// A connection, as those see it who send calls over it.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    streams: AtomicUsize,
}

/// What calls and the task that owns the socket share.
#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    max_streams: AtomicUsize,
    going_away: AtomicBool,
    /// Reads that brought bytes.
    reads: AtomicU64,
}

/// A connection that has just been opened, and what has to be run for it to live.
pub(crate) struct Opened {
    pub(crate) connection: Arc<Connection>,
    socket: Socket,
}

/// How a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was not to be used any more, and nobody did.
    Finished,
    /// Unannounced, or under calls.
    Broken,
}

/// The socket and the state that it feeds.
struct Socket {
    shared: Arc<Shared>,
    io: Io,
}

struct Io {
    stream: TcpStream,
    /// What came in without being a whole frame yet.
    input: Box<[u8]>,
    filled: usize,
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer closed the connection")]
    Closed,
    #[error("{0}")]
    Protocol(&'static str),
}

/// Opens a connection within `limit`.
pub(crate) async fn open(address: SocketAddr, limit: Duration) -> Result<Opened, ConnectError> {
    timeout(limit, establish(address))
        .await
        .unwrap_or(Err(ConnectError::TimedOut(limit)))
}

async fn establish(address: SocketAddr) -> Result<Opened, ConnectError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let shared = Arc::new(Shared {
        core: Mutex::new(Core::new()),
        max_streams: AtomicUsize::new(0),
        going_away: AtomicBool::new(false),
        reads: AtomicU64::new(0),
    });
    let input = vec![0; READ_BUFFER].into_boxed_slice();
    let mut socket = Socket {
        shared: Arc::clone(&shared),
        io: Io {
            stream,
            input,
            filled: 0,
        },
    };
    std::future::poll_fn(|cx| socket.poll_open(cx)).await?;
    let connection = Arc::new(Connection {
        shared,
        streams: AtomicUsize::new(0),
    });
    Ok(Opened { connection, socket })
}

// === impl Opened ===

impl Opened {
    /// Runs the connection on this thread's runtime; `on_end` is called when it is gone, however it went.
    pub(crate) fn run(self, on_end: impl FnOnce(End) + Send + 'static) -> Arc<Connection> {
        let Self {
            connection,
            mut socket,
        } = self;
        let mut ending = Ending {
            end: End::Broken,
            shared: Arc::clone(&socket.shared),
            tell: Some(on_end),
        };
        let running = tokio::spawn(async move {
            let why = match std::future::poll_fn(|cx| socket.poll(cx)).await {
                Ok(()) => {
                    ending.end = End::Finished;
                    "the connection was closed".to_owned()
                }
                Err(error) => error.to_string(),
            };
            tracing::debug!(why, "an upstream connection ended");
            ending.shared.end(&why);
        });
        tokio::spawn(watch_over(
            Arc::downgrade(&connection),
            running.abort_handle(),
        ));
        connection
    }
}

/// Closes a connection whose peer does not answer; ends with the connection.
async fn watch_over(connection: std::sync::Weak<Connection>, running: AbortHandle) {
    let (mut seen, mut pings) = (0, 0);
    loop {
        sleep(SILENCE).await;
        let Some(connection) = connection.upgrade().filter(|_| !running.is_finished()) else {
            return;
        };
        let shared = Arc::clone(&connection.shared);
        let reads = shared.reads.load(Relaxed);
        if reads != seen {
            (seen, pings) = (reads, 0);
            continue;
        }
        if connection.streams() == 0 || pings == PINGS_IN_SILENCE {
            continue;
        }
        drop(connection);
        shared.core.lock().ping();
        sleep(PING_TIMEOUT).await;
        let reads = shared.reads.load(Relaxed);
        if reads == seen {
            tracing::info!("an upstream connection is silent and does not answer PING: closed");
            shared.end("the peer is silent and does not answer PING");
            return running.abort();
        }
        (seen, pings) = (reads, pings + 1);
    }
}

/// Tells the end of a connection when its task is gone, finished or aborted.
struct Ending<F: FnOnce(End)> {
    end: End,
    shared: Arc<Shared>,
    tell: Option<F>,
}

impl<F: FnOnce(End)> Drop for Ending<F> {
    fn drop(&mut self) {
        self.shared.end("the connection was closed");
        if let Some(tell) = self.tell.take() {
            tell(self.end);
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Takes a stream, if the peer allows one more.
    pub(crate) fn try_take_stream(&self) -> bool {
        if self.is_going_away() {
            return false;
        }
        let most = self.shared.max_streams.load(Relaxed);
        let more = |now| if now < most { Some(now + 1) } else { None };
        self.streams.fetch_update(AcqRel, Acquire, more).is_ok()
    }

    pub(crate) fn release_stream(&self) {
        self.streams.fetch_sub(1, AcqRel);
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }

    /// Whether it takes no further calls.
    pub(crate) fn is_going_away(&self) -> bool {
        self.shared.going_away.load(Acquire)
    }

    /// Sends a call and waits for its reply. `message` has its prefix; a response message may have `limit`
    /// bytes. Dropping the future resets the stream.
    pub(crate) async fn call(
        &self,
        head: &RequestHead<'_>,
        message: Bytes,
        limit: usize,
    ) -> Result<Reply, Failure> {
        let started = self.shared.core.lock().start(head, message, limit);
        let id = started.map_err(|_| Failure::NotSent("the connection is closing".into()))?;
        let mut waiting = Waiting {
            core: &self.shared.core,
            id,
            done: false,
        };
        std::future::poll_fn(|cx| waiting.poll(cx)).await
    }
}

/// A call whose messages come and go one by one. Dropped, it is cancelled.
#[derive(Debug)]
pub(crate) struct Wire {
    connection: Arc<Connection>,
    id: u32,
    over: bool,
}

// === impl Wire ===

impl Wire {
    /// Starts a call. `first` is what there is to send, with prefixes, and `more` whether that is not all of it;
    /// each message that comes back may have `limit` bytes. Without a limit, bytes come back, whatever they are.
    pub(crate) fn open(
        connection: Arc<Connection>,
        head: &RequestHead<'_>,
        (first, more): (Bytes, bool),
        limit: Option<usize>,
    ) -> Result<Self, Failure> {
        let mut core = connection.shared.core.lock();
        let started = core.start_stream(head, first, more, limit);
        drop(core);
        let id = started.map_err(|_| Failure::NotSent("the connection is closing".into()))?;
        Ok(Self {
            connection,
            id,
            over: false,
        })
    }

    /// The metadata that precedes the messages; nothing if the call ends before.
    pub(crate) fn poll_head(&self, cx: &Context<'_>) -> Poll<Option<HeaderMap>> {
        self.connection.shared.core.lock().poll_head(self.id, cx)
    }

    /// The next message, or the outcome, after which there is nothing.
    pub(crate) fn poll_event(&mut self, cx: &Context<'_>) -> Poll<Result<Event, Failure>> {
        let polled = self.connection.shared.core.lock().poll_event(self.id, cx);
        if let Poll::Ready(Ok(Event::End(_)) | Err(_)) = polled {
            self.over = true;
        }
        polled
    }

    /// Ready when more may be sent, or the call has ended.
    pub(crate) fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        self.connection.shared.core.lock().poll_sent(self.id, cx)
    }

    /// Sends more, once all before it has been.
    pub(crate) fn send(&self, bytes: Bytes, end: bool) {
        let mut core = self.connection.shared.core.lock();
        core.send_piece(self.id, bytes, end);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if !self.over {
            self.connection.shared.core.lock().cancel(self.id);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.core.lock().close();
    }
}

/// A call that has been sent; on drop it is cancelled.
struct Waiting<'a> {
    core: &'a Mutex<Core>,
    id: u32,
    done: bool,
}

impl Waiting<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Reply, Failure>> {
        let polled = self.core.lock().poll_reply(self.id, cx);
        self.done = polled.is_ready();
        polled
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.core.lock().cancel(self.id);
        }
    }
}

// === impl Shared ===

impl Shared {
    /// The first reason given stays.
    fn end(&self, why: &str) {
        self.going_away.store(true, Release);
        self.core.lock().end(why);
    }

    /// What calls look at without the lock.
    fn publish(&self, core: &Core) {
        // Servers send a stream's last frame a moment before they stop counting it: keep clear of their limit.
        let most = core.max_streams();
        self.max_streams
            .store(most - most / STREAMS_IN_RESERVE, Relaxed);
        if core.is_going_away() {
            self.going_away.store(true, Release);
        }
    }
}

// === impl Socket ===

impl Socket {
    /// Ready when the peer's settings are there.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        match self.poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(ConnectError::Closed)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if self.shared.core.lock().is_open() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Reads what is there, writes what it can. Ready when the connection is over; then nothing of what is
    /// still to be written ever will be.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        let Self { shared, io } = self;
        let mut core = shared.core.lock();
        core.set_driver(cx.waker());
        match io.read(&mut core, &shared.reads, cx) {
            Ok(any) => {
                if any {
                    shared.publish(&core);
                }
                io.write(&mut core, cx)?;
            }
            Err(error) => {
                shared.publish(&core);
                // A last word to the peer, if it fits into the socket.
                if matches!(error, ConnectError::Protocol(_)) {
                    let _ = io.write(&mut core, cx);
                }
                return Poll::Ready(Err(error));
            }
        }
        if core.is_finished() && core.unsent().is_empty() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

// === impl Io ===

impl Io {
    /// Takes in all that has arrived; true if anything had.
    fn read(
        &mut self,
        core: &mut Core,
        reads: &AtomicU64,
        cx: &mut Context<'_>,
    ) -> Result<bool, ConnectError> {
        let mut any = false;
        while core.unsent().len() < MAX_UNWRITTEN {
            let mut buffer = ReadBuf::new(&mut self.input[self.filled..]);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) else {
                break;
            };
            read?;
            let bytes = buffer.filled().len();
            if bytes == 0 {
                return Err(ConnectError::Closed);
            }
            self.filled += bytes;
            reads.fetch_add(1, Relaxed);
            any = true;
            let taken = core.receive(&self.input[..self.filled]).map_err(|fatal| {
                core.fail(fatal);
                ConnectError::Protocol(fatal.why)
            })?;
            self.input.copy_within(taken..self.filled, 0);
            self.filled -= taken;
        }
        Ok(any)
    }

    fn write(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Result<(), ConnectError> {
        while !core.unsent().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, core.unsent()) {
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(written) => core.wrote(written?),
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}
