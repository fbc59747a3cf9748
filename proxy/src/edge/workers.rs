//! Listeners and the threads that serve them.
//!
//! Each worker is a thread with a runtime of its own; what a connection touches stays there. All
//! workers accept from the same sockets and give a new connection to the one that has the fewest.
//! Refuses connections over the limit with 503, and outlives running out of descriptors.

mod accept;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub use self::accept::Stats;
use self::accept::{Accepted, Acceptor, start};
use super::connections::Connections;
use super::head::Head;
use super::limits::EdgeLimits;
use super::refusal::Refusal;
use super::{Answer, Service};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.0 and HTTP/1.1.
    pub http1: bool,
    /// HTTP/2 by prior knowledge, without TLS.
    pub h2c: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            http1: true,
            h2c: true,
        }
    }
}

/// Where to listen, and for what.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// Port 0 takes a free one: see [`Edge::addresses`].
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocols: Protocols,
}

/// Bound listeners, before anything is accepted.
#[derive(Debug)]
pub struct Edge {
    listeners: Vec<(TcpListener, Protocols)>,
    addresses: Vec<SocketAddr>,
}

/// What the sessions of one thread share.
pub(super) struct Worker<S> {
    pub(super) index: usize,
    pub(super) service: Arc<S>,
    pub(super) limits: Arc<EdgeLimits>,
    pub(super) connections: Arc<Connections>,
    pub(super) drain: ShutdownWatch,
    /// Heads of HTTP/2 streams that have ended, for those to come.
    #[expect(clippy::vec_box, reason = "taken out and given on as they are")]
    heads: Mutex<Vec<Box<Head>>>,
}

/// More heads than this are not kept for later.
const KEPT_HEADS: usize = 256;

impl<S> Worker<S> {
    /// Words a refusal.
    pub(super) fn refuse(&self, head: Option<&Head>, refusal: Refusal) -> Answer
    where
        S: Service,
    {
        self.service.refuse(self.index, head, refusal)
    }

    /// An empty head for a stream.
    pub(super) fn take_head(&self, peer: SocketAddr) -> Box<Head> {
        let pooled = self.heads.lock().pop();
        let mut head = pooled.unwrap_or_else(|| Box::new(Head::new(peer, 512)));
        head.peer = peer;
        head
    }

    /// Gives back a head whose stream has ended.
    pub(super) fn give_head(&self, head: Box<Head>) {
        let mut heads = self.heads.lock();
        if heads.len() < KEPT_HEADS && head.buffer.capacity() <= 4096 {
            heads.push(head);
        }
    }
}

/// Running workers.
#[derive(Debug)]
pub struct Running {
    threads: Vec<JoinHandle<()>>,
    runtimes: Vec<Handle>,
    finished: Vec<oneshot::Receiver<usize>>,
    stats: Arc<Stats>,
}

impl Edge {
    /// Binds every listener, or none.
    pub fn bind(listeners: &[ListenerOptions]) -> io::Result<Self> {
        let mut edge = Self {
            listeners: Vec::new(),
            addresses: Vec::new(),
        };
        for options in listeners {
            let listener = accept::listen(options.address)?;
            edge.addresses.push(listener.local_addr()?);
            edge.listeners.push((listener, options.protocols));
        }
        Ok(edge)
    }

    /// The addresses that were really bound, in the order of the options.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Starts `threads` workers, at least one. They drain when `drain` turns true.
    pub fn start<S: Service>(
        self,
        service: Arc<S>,
        threads: usize,
        limits: EdgeLimits,
        drain: ShutdownWatch,
    ) -> io::Result<Running> {
        let threads = threads.max(1);
        let limits = Arc::new(limits);
        let all: Vec<_> = (0..threads)
            .map(|_| Arc::new(Connections::default()))
            .collect();
        let stats = Arc::new(Stats::new(all.clone()));
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| mpsc::unbounded_channel()).unzip();
        let mut running = Running {
            threads: Vec::new(),
            runtimes: Vec::new(),
            finished: Vec::new(),
            stats: stats.clone(),
        };
        for (index, accepted) in receivers.into_iter().enumerate() {
            let worker = Arc::new(Worker {
                index,
                service: service.clone(),
                limits: limits.clone(),
                connections: all[index].clone(),
                drain: drain.clone(),
                heads: Mutex::default(),
            });
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let acceptors = {
                // Sockets belong to the runtime in whose context they are made.
                let _context = runtime.enter();
                self.acceptors(index, &senders, &stats, limits.connections)?
            };
            running.spawn(runtime, worker, acceptors, accepted)?;
        }
        Ok(running)
    }

    fn acceptors(
        &self,
        own: usize,
        workers: &[mpsc::UnboundedSender<Accepted>],
        stats: &Arc<Stats>,
        limit: usize,
    ) -> io::Result<Vec<Acceptor>> {
        let acceptor = |(listener, protocols): &(TcpListener, Protocols)| {
            Ok(Acceptor {
                listener: tokio::net::TcpListener::from_std(listener.try_clone()?)?,
                protocols: *protocols,
                workers: workers.to_vec(),
                own,
                stats: stats.clone(),
                limit,
            })
        };
        self.listeners.iter().map(acceptor).collect()
    }
}

impl Running {
    fn spawn<S: Service>(
        &mut self,
        runtime: Runtime,
        worker: Arc<Worker<S>>,
        acceptors: Vec<Acceptor>,
        accepted: mpsc::UnboundedReceiver<Accepted>,
    ) -> io::Result<()> {
        let (report, finished) = oneshot::channel();
        self.runtimes.push(runtime.handle().clone());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{}", worker.index))
            .spawn(move || {
                let cut = runtime.block_on(work(worker, acceptors, accepted));
                // What is left is cut here, with the runtime.
                drop(runtime);
                report.send(cut).ok();
            })?;
        self.threads.push(thread);
        self.finished.push(finished);
        Ok(())
    }

    /// The runtimes of the workers, for what others have to do there.
    pub fn runtimes(&self) -> Vec<Handle> {
        self.runtimes.clone()
    }

    /// Live counts.
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Waits until a drain has ended on every worker; says how many connections were cut.
    pub async fn drained(self) -> usize {
        let mut cut = 0;
        for finished in self.finished {
            cut += finished.await.unwrap_or_default();
        }
        for thread in self.threads {
            // It has reported as its last act.
            thread.join().ok();
        }
        cut
    }
}

/// A worker's life: accept and serve, then drain. Says how many connections are left.
async fn work<S: Service>(
    worker: Arc<Worker<S>>,
    acceptors: Vec<Acceptor>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
) -> usize {
    let accepting: Vec<_> = acceptors
        .into_iter()
        .map(|acceptor| tokio::spawn(acceptor.run()))
        .collect();
    let of_worker = worker.connections.clone();
    tokio::spawn(async move { of_worker.heartbeat.beat().await });
    let mut drain = worker.drain.clone();
    loop {
        tokio::select! {
            Some(accepted) = accepted.recv() => {
                start(&worker, accepted);
            }
            _ = drain.wait_for(|draining| *draining) => break,
        }
    }
    for acceptor in accepting {
        acceptor.abort();
    }
    worker.connections.drain();
    let drained = async {
        loop {
            tokio::select! {
                biased;
                // Another worker may have accepted it just before it heard of the drain.
                Some(accepted) = accepted.recv() => start(&worker, accepted),
                () = worker.connections.emptied() => return,
            }
        }
    };
    timeout(worker.limits.drain_timeout.get(), drained)
        .await
        .ok();
    worker.connections.open()
}
