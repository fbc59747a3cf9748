//! A session of HTTP/1.1: requests one after another on one connection, pipelined or not.
//!
//! In the usual case a request costs one read and one write: its head and body come in one piece,
//! the answer leaves in one, and watching for a client that goes away while a call runs needs no
//! system call. After anything that leaves the framing in doubt the connection is closed. A client
//! that ends its side while its call runs is taken to have gone, as most proxies take it.

mod body;
mod output;
mod pass_through;
mod streamed;
mod watched;
mod websocket;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use self::output::Output;
use super::connections::OpenConnection;
use super::head::Head;
use super::parse::{Framing, Scanner};
use super::refusal::Refusal;
use super::socket::{Socket, poll_fill};
use super::timer::Timer;
use super::workers::Worker;
use super::{Answer, Lane, Service};

/// Room for a typical request, asked for before each read.
const READ_ROOM: usize = 2 * 1024;
/// What a connection's buffer starts with.
const FIRST_ROOM: usize = 2 * READ_ROOM;
/// Room for what a client sends while its request is being answered; usually that is nothing.
const FIRST_GLANCE: usize = 64;
/// Buffers larger than this are given back between requests.
const KEPT_BUFFER: usize = 64 * 1024;
/// Answers to pipelined requests are written together up to this size.
const COALESCED: usize = 64 * 1024;
/// How long, and for how many bytes, a refused client may go on sending before the connection is
/// cut: closing at once would reset it, and the answer could be lost.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 256 * 1024);

/// A connection, in HTTP/1.1 unless its first bytes say otherwise.
pub(super) struct Session<S: Service> {
    pub(super) worker: Arc<Worker<S>>,
    pub(super) open: OpenConnection,
    pub(super) socket: Socket,
    pub(super) head: Head,
    scanner: Scanner,
    /// Where the request under way ends in the head's buffer.
    consumed: usize,
    /// What came while a call was running.
    early: Vec<u8>,
    output: Output,
    pub(super) timer: Timer,
    /// When the first head must be complete, counted from the connection's start.
    first_deadline: Option<Instant>,
}

/// Why a session ends.
#[derive(Debug)]
enum End {
    /// There is nothing more to say, or nobody to say it to.
    Close,
    /// All is said, but the client may still be sending.
    Linger,
    /// Something is wrong with the request; its head is known or not.
    Refuse(Refusal, HeadKnown),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadKnown {
    Yes,
    No,
}

/// What waiting for bytes came to.
enum Filled {
    Some,
    Gone,
    TimedOut,
    Draining,
}

impl<S: Service> Session<S> {
    /// A session on a new connection.
    pub(super) fn new(
        worker: Arc<Worker<S>>,
        open: OpenConnection,
        socket: Socket,
        peer: SocketAddr,
    ) -> Self {
        let deadline = Instant::now() + worker.limits.header_timeout;
        Self {
            timer: Timer::new(deadline, worker.limits.shortest_timeout()),
            worker,
            open,
            socket,
            head: Head::new(peer, FIRST_ROOM),
            scanner: Scanner::default(),
            consumed: 0,
            early: Vec::new(),
            output: Output::default(),
            first_deadline: Some(deadline),
        }
    }

    /// Serves requests until either side ends the connection.
    pub(super) async fn run(&mut self) {
        let end = loop {
            match self.serve_one().await {
                Ok(()) => self.prepare_next(),
                Err(end) => break end,
            }
        };
        match end {
            End::Close => {}
            End::Linger => self.linger().await,
            End::Refuse(refusal, HeadKnown::No) => self.refuse(refusal).await,
            End::Refuse(refusal, HeadKnown::Yes) => {
                let answer = self.worker.refuse(Some(&self.head), refusal);
                self.output.push(answer, &self.head, false);
                self.linger().await;
            }
        }
    }

    async fn serve_one(&mut self) -> Result<(), End> {
        let framing = self.read_head().await?;
        let worker = &self.worker;
        match worker.service.route(worker.index, &self.head) {
            Lane::Unary { call, max_body } => {
                let body = self.read_body(framing, max_body).await?;
                let keep_alive = self.call(call, body, framing.keep_alive).await?;
                self.settle(keep_alive).await
            }
            Lane::Answer(answer) => {
                let answer = Box::new(answer);
                let discarded = self.discard_body(framing).await?;
                let keep_alive = self.answer(*answer, framing.keep_alive && discarded);
                match discarded {
                    true => self.settle(keep_alive).await,
                    false => Err(End::Linger),
                }
            }
            // Boxed, so that other connections do not carry its size.
            Lane::Stream { call } => Box::pin(self.stream(call, framing)).await,
            Lane::WebSocket(upgrade) => Box::pin(self.websocket(*upgrade, framing)).await,
            Lane::PassThrough { call } => self.pass_through(call, framing).await,
        }
    }

    /// Waits for a whole head.
    async fn read_head(&mut self) -> Result<Framing, End> {
        self.scanner.reset();
        let limits = &self.worker.limits;
        let (header_timeout, idle_timeout) = (limits.header_timeout, limits.idle_timeout);
        let first_deadline = self.first_deadline.take();
        let mut deadline = first_deadline;
        let mut begun = false;
        loop {
            if !self.head.buffer.is_empty() {
                let advanced = self.scanner.advance(&mut self.head, &self.worker.limits);
                if let Some(framing) = advanced.map_err(|r| End::Refuse(r, HeadKnown::No))? {
                    self.head.received = Instant::now();
                    return Ok(framing);
                }
                if !std::mem::replace(&mut begun, true) {
                    deadline = first_deadline;
                }
            }
            self.flush().await?;
            let wait = if begun { header_timeout } else { idle_timeout };
            self.timer
                .set(*deadline.get_or_insert_with(|| Instant::now() + wait));
            match self.fill(!begun, READ_ROOM).await {
                Filled::Some => {}
                Filled::TimedOut if begun => {
                    return Err(End::Refuse(Refusal::HeaderTimeout, HeadKnown::No));
                }
                Filled::Gone | Filled::TimedOut | Filled::Draining => return Err(End::Close),
            }
        }
    }

    /// Reads once into the head's buffer.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_fill(&mut self.socket, context, &mut self.head.buffer, READ_ROOM)
    }

    /// Reads once into the head's buffer, within the timer's deadline.
    async fn fill(&mut self, idle: bool, room: usize) -> Filled {
        let Self {
            worker,
            socket,
            head,
            timer,
            ..
        } = self;
        poll_fn(|context| {
            match poll_fill(socket, context, &mut head.buffer, room) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Filled::Gone),
                Poll::Ready(Ok(_)) => return Poll::Ready(Filled::Some),
                Poll::Pending => {}
            }
            if timer.poll(context).is_ready() {
                return Poll::Ready(Filled::TimedOut);
            }
            match idle && worker.connections.is_draining() {
                true => Poll::Ready(Filled::Draining),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Runs a call and queues its answer, or drops it when the client goes away. Answers to earlier
    /// requests that wait for company leave now, if the call does not end at once.
    async fn call(
        &mut self,
        call: S::Call,
        body: Range<usize>,
        keep_alive: bool,
    ) -> Result<bool, End> {
        let Self {
            worker,
            socket,
            head,
            early,
            output,
            ..
        } = self;
        let body = &head.buffer[body];
        let mut future = pin!(worker.service.unary(worker.index, call, head, body));
        poll_fn(|context| {
            if let Poll::Ready(answer) = future.as_mut().poll(context) {
                let keep_alive = keep_alive && !worker.connections.is_draining();
                output.push(answer, head, keep_alive);
                return Poll::Ready(Ok(keep_alive));
            }
            if let Poll::Ready(Err(_)) = output.poll_write(socket, context) {
                return Poll::Ready(Err(End::Close));
            }
            while early.len() < worker.limits.pipelined_bytes {
                let room = if early.is_empty() {
                    FIRST_GLANCE
                } else {
                    READ_ROOM
                };
                match poll_fill(socket, context, early, room) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(End::Close)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Queues an answer; says whether the connection is kept after it.
    fn answer(&mut self, answer: Answer, keep_alive: bool) -> bool {
        let keep_alive = keep_alive && !self.worker.connections.is_draining();
        self.output.push(answer, &self.head, keep_alive);
        keep_alive
    }

    /// After an answer has been queued: writes it now if it is large or the last one.
    async fn settle(&mut self, keep_alive: bool) -> Result<(), End> {
        if !keep_alive {
            self.flush().await?;
            let unread = !self.early.is_empty() || self.head.buffer.len() > self.consumed;
            return Err(if unread { End::Linger } else { End::Close });
        }
        if self.output.len() > COALESCED {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes all that is queued. A client has `write_timeout`, and more for what it takes.
    async fn flush(&mut self) -> Result<(), End> {
        let Self {
            worker,
            socket,
            output,
            timer,
            ..
        } = self;
        let mut started = None;
        poll_fn(|context| match output.poll_write(socket, context) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(End::Close)),
            Poll::Pending => {
                let started = *started.get_or_insert_with(Instant::now);
                timer.set(started + worker.limits.write_allowance(output.sent()));
                timer.poll(context).map(|()| Err(End::Close))
            }
        })
        .await
    }

    /// Moves what lies behind the request to the front.
    fn prepare_next(&mut self) {
        let buffer = &mut self.head.buffer;
        if self.consumed == buffer.len() {
            buffer.clear();
        } else {
            buffer.drain(..self.consumed);
        }
        self.consumed = 0;
        if !self.early.is_empty() {
            buffer.append(&mut self.early);
        }
        if buffer.capacity() > KEPT_BUFFER && buffer.len() < READ_ROOM {
            buffer.shrink_to(FIRST_ROOM);
        }
        if self.early.capacity() > READ_ROOM {
            self.early = Vec::new();
        }
    }

    /// Refuses a request whose head is not known, and ends the connection.
    pub(super) async fn refuse(&mut self, refusal: Refusal) {
        self.head.forget();
        let answer = self.worker.refuse(None, refusal);
        self.output.push(answer, &self.head, false);
        self.linger().await;
    }

    /// Ends the connection so that the client can read the last answer: flush, FIN, discard.
    async fn linger(&mut self) {
        if self.flush().await.is_err() {
            return;
        }
        let discard = async {
            self.socket.shutdown().await.ok();
            let mut left = LINGER.1;
            while left > 0 {
                self.head.buffer.clear();
                match poll_fn(|context| self.poll_fill(context)).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => left = left.saturating_sub(count),
                }
            }
        };
        timeout(LINGER.0, discard).await.ok();
    }
}
