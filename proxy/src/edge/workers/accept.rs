//! Accepts connections, hands each to a worker, and begins its session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep};

use super::{Protocols, Worker};
use crate::edge::Service;
use crate::edge::begin;
use crate::edge::connections::{Connections, OpenConnection};
use crate::edge::http1::Session;
use crate::edge::socket::Socket;

/// The kernel bounds it by net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Connections over the limit that are told so at the same time; the others are just closed.
const MAX_TOLD: usize = 128;
/// How long accepting rests when descriptors or memory have run out, at first and at most.
const REST: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Counts of all workers.
#[derive(Debug)]
pub struct Stats {
    workers: Vec<Arc<Connections>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Stats {
    pub(super) fn new(workers: Vec<Arc<Connections>>) -> Self {
        Self {
            workers,
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Connections that are open now, over all workers.
    pub fn open(&self) -> usize {
        self.workers.iter().map(|worker| worker.open()).sum()
    }

    /// Connections that are open now, for each worker.
    pub fn open_by_worker(&self) -> impl Iterator<Item = usize> + '_ {
        self.workers.iter().map(|worker| worker.open())
    }

    /// How late the event loop of a worker was at worst since this was last asked.
    pub fn lag(&self, now: Instant) -> Duration {
        let lags = self.workers.iter().map(|worker| worker.heartbeat.lag(now));
        lags.max().unwrap_or_default()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections refused because of the limit.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Failures to accept, such as running out of descriptors.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// A connection on its way to a worker.
pub(super) struct Accepted {
    stream: Handed,
    peer: SocketAddr,
    protocols: Protocols,
    open: OpenConnection,
    over_limit: bool,
}

/// A socket that stays on the worker that accepted it, or goes to another one.
enum Handed {
    Here(TcpStream),
    Over(std::net::TcpStream),
}

/// Accepts from one listener on one worker.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) protocols: Protocols,
    pub(super) workers: Vec<UnboundedSender<Accepted>>,
    pub(super) own: usize,
    pub(super) stats: Arc<Stats>,
    pub(super) limit: usize,
}

/// Binds a listener; an address in use is an error even when the other one is of our kind.
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Acceptor {
    /// Accepts until the task is dropped.
    pub(super) async fn run(self) {
        let mut rest = REST.0;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    rest = REST.0;
                    self.dispatch(stream, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.stats.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "cannot accept connections for now");
                    sleep(rest).await;
                    rest = (rest * 2).min(REST.1);
                }
            }
        }
    }

    /// Gives a connection to the worker with the fewest, this one if it is among them.
    fn dispatch(&self, stream: TcpStream, peer: SocketAddr) {
        let open = self.stats.open();
        let over_limit = open >= self.limit;
        if over_limit {
            self.stats.refused.fetch_add(1, Ordering::Relaxed);
            if open >= self.limit + MAX_TOLD {
                return;
            }
        }
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        let counts = self.stats.workers.iter().map(|worker| worker.open());
        let fewest = counts
            .enumerate()
            .min_by_key(|&(index, open)| (open, index != self.own));
        let chosen = fewest.map_or(self.own, |(index, _)| index);
        // A socket belongs to the runtime of the thread that polls it.
        let stream = match chosen == self.own {
            true => Handed::Here(stream),
            false => match stream.into_std() {
                Ok(stream) => Handed::Over(stream),
                Err(_) => return,
            },
        };
        let open = self.stats.workers[chosen].enter();
        let accepted = Accepted {
            stream,
            peer,
            protocols: self.protocols,
            open,
            over_limit,
        };
        // It fails only when that worker has ended, and the connection with it.
        self.workers[chosen].send(accepted).ok();
    }
}

/// Whether an error of accept concerns only the connection that would have been accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Starts the task of a connection on the worker that it was given to.
pub(super) fn start<S: Service>(worker: &Arc<Worker<S>>, accepted: Accepted) {
    let stream = match accepted.stream {
        Handed::Here(stream) => Ok(stream),
        Handed::Over(stream) => TcpStream::from_std(stream),
    };
    // A connection that is gone already needs no more than this.
    let Ok(stream) = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) else {
        return;
    };
    let socket = Socket::Tcp(stream);
    let session = Session::new(worker.clone(), accepted.open, socket, accepted.peer);
    match accepted.over_limit {
        true => tokio::spawn(begin::turn_away(session)),
        false => tokio::spawn(begin::serve(session, accepted.protocols)),
    };
}
