//! One worker's connections to one endpoint: opened on demand, one attempt shared by all who wait for it,
//! a further one when the peer allows no more streams on those that are there.
//!
//! The lock is held for a few instructions and taken by this worker alone, but for reloads and probes.
//! Refused: a second attempt at once after one failed, unless the endpoint has been reached since.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use resilience::backoff::Waits;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::cluster::Reservation;
use super::connection::{self, Connection, End, Opened};
use super::endpoint::Endpoint;
use super::probe;

/// Who waits for a stream looks again after this time, whatever happens.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The connections, and news of them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Lane {
    state: Mutex<State>,
    changed: Notify,
    /// Calls that wait for a stream or a connection.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    connections: SmallVec<[Arc<Connection>; 2]>,
    connecting: bool,
    /// Attempts that have ended.
    attempts: u64,
    failure: Option<Failure>,
    closed: bool,
}

/// The latest attempt failed.
#[derive(Debug)]
struct Failure {
    attempt: u64,
    why: Arc<str>,
    again_from: Instant,
    recoveries: u64,
    waits: Waits,
}

/// A stream on a connection, given back on drop.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    connection: Arc<Connection>,
    lane: &'a Lane,
    waited: bool,
    /// Somebody else gives the stream back.
    kept: bool,
}

/// The same for longer than the endpoint can be borrowed.
#[derive(Debug)]
pub(crate) struct Kept {
    connection: Arc<Connection>,
    endpoint: Arc<Endpoint>,
}

/// Why there is no stream.
#[derive(Debug)]
pub(crate) enum NoStream {
    /// There is no connection, and the limit on them allows none.
    NoRoom,
    /// There is no connection, for this reason.
    Failed(Arc<str>),
}

enum Found<'a> {
    Slot(Slot<'a>),
    /// Wait for an attempt that ends after this many others, or for a stream.
    Wait(u64),
    /// There is no connection, and the limit on them allows none.
    NoRoom,
    Failed(Arc<str>),
}

/// Why no attempt was started.
enum NotStarted {
    NoRoom,
    Impossible(&'static str),
}

/// A stream to `endpoint` for a call of this worker.
///
/// # Errors
/// With the reason why there is none.
pub(crate) async fn checkout(
    endpoint: &Arc<Endpoint>,
    worker: usize,
) -> Result<Slot<'_>, NoStream> {
    let (worker, found) = match endpoint.lane(worker).find(endpoint, worker, None) {
        // All connections that there may be are other workers': then one of those carries the call.
        Found::NoRoom => {
            let other = endpoint.lanes.iter().position(Lane::is_in_use);
            let other = other.ok_or(NoStream::NoRoom)?;
            (other, endpoint.lane(other).find(endpoint, other, None))
        }
        found => (worker, found),
    };
    let mut since = match found {
        Found::Slot(slot) => return Ok(slot),
        Found::Failed(why) => return Err(NoStream::Failed(why)),
        Found::NoRoom => return Err(NoStream::NoRoom),
        Found::Wait(attempts) => attempts,
    };
    let lane = endpoint.lane(worker);
    let _waiting = Waiting::new(&lane.waiting);
    loop {
        let mut changed = pin!(lane.changed.notified());
        changed.as_mut().enable();
        match lane.find(endpoint, worker, Some(since)) {
            Found::Slot(slot) => return Ok(slot),
            Found::Failed(why) => return Err(NoStream::Failed(why)),
            Found::NoRoom => return Err(NoStream::NoRoom),
            Found::Wait(attempts) => since = attempts.max(since),
        }
        // The peer may allow more streams without any event of this lane.
        let _ = timeout(LOOK_AGAIN, changed).await;
    }
}

// === impl Lane ===

impl Lane {
    /// A stream, or what to wait for. `since`: the caller has waited for attempts after that one.
    fn find(&self, endpoint: &Arc<Endpoint>, worker: usize, since: Option<u64>) -> Found<'_> {
        let mut state = self.state.lock();
        if let Some(connection) = state
            .connections
            .iter()
            .find(|connection| connection.try_take_stream())
        {
            let connection = Arc::clone(connection);
            return Found::Slot(Slot {
                connection,
                lane: self,
                waited: since.is_some(),
                kept: false,
            });
        }
        if state.closed {
            return Found::Failed("the endpoint was removed".into());
        }
        if state.connecting {
            return Found::Wait(state.attempts);
        }
        state
            .connections
            .retain(|connection| !connection.is_going_away());
        let full = !state.connections.is_empty();
        if let Some(failure) = &state.failure {
            let waited_for_it = since.is_some_and(|since| failure.attempt > since);
            let too_soon =
                Instant::now() < failure.again_from && failure.recoveries == endpoint.recoveries();
            if !full && (waited_for_it || too_soon) {
                return Found::Failed(Arc::clone(&failure.why));
            }
            if too_soon {
                return Found::Wait(state.attempts);
            }
        }
        match start_attempt(endpoint, worker) {
            Ok(()) => state.connecting = true,
            Err(_) if full => {}
            Err(NotStarted::NoRoom) => return Found::NoRoom,
            Err(NotStarted::Impossible(why)) => return Found::Failed(why.into()),
        }
        Found::Wait(state.attempts)
    }

    /// A stream of one of its connections is free again.
    fn released(&self) {
        if self.waiting.load(Acquire) > 0 {
            self.changed.notify_one();
        }
    }

    /// Whether it has a connection, or is about to.
    fn is_in_use(&self) -> bool {
        let state = self.state.lock();
        state.connecting || !state.connections.is_empty()
    }

    /// A connection is there, by an attempt of this lane or by a probe.
    pub(crate) fn opened(
        &self,
        endpoint: &Arc<Endpoint>,
        worker: usize,
        opened: Opened,
        reserved: Reservation,
    ) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        if endpoint.connections.fetch_add(1, Relaxed) == 0 {
            // Whatever was observed before may have been another process.
            endpoint.load.forget();
        }
        let (gone, connection) = (Arc::clone(endpoint), Arc::downgrade(&opened.connection));
        let since = Instant::now();
        let connection = opened.run(move |end| {
            drop(reserved);
            let last = gone.connections.fetch_sub(1, Relaxed) == 1;
            gone.lane(worker).remove(connection.as_ptr());
            if last && end == End::Broken {
                probe::reconnect(&gone, worker, since.elapsed());
            }
        });
        state.connections.push(connection);
        state.failure = None;
        drop(state);
        endpoint.reachable();
        self.changed.notify_waiters();
    }

    /// Opens a connection unless there is one, or one is being opened.
    pub(crate) fn connect(&self, endpoint: &Arc<Endpoint>, worker: usize) {
        let mut state = self.state.lock();
        if !state.closed && !state.connecting && state.connections.is_empty() {
            state.connecting = start_attempt(endpoint, worker).is_ok();
        }
    }

    /// The same, and waits until it is there, or is not to be had.
    pub(crate) async fn opened_or_not(&self, endpoint: &Arc<Endpoint>, worker: usize) {
        self.connect(endpoint, worker);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.state.lock().connecting {
                return;
            }
            changed.await;
        }
    }

    /// No connection any more; calls on them finish.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.let_go();
    }

    /// No connection until somebody needs one; calls on them finish.
    pub(crate) fn let_go(&self) {
        let mut state = self.state.lock();
        let connections = std::mem::take(&mut state.connections);
        drop(state);
        drop(connections);
        self.changed.notify_waiters();
    }

    /// Open connections and the streams on them.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (
            state.connections.len(),
            state
                .connections
                .iter()
                .map(|connection| connection.streams())
                .sum(),
        )
    }

    fn remove(&self, gone: *const Connection) {
        let mut state = self.state.lock();
        state
            .connections
            .retain(|connection| !std::ptr::eq(Arc::as_ptr(connection), gone));
        drop(state);
        self.changed.notify_waiters();
    }

    fn attempt_ended(&self, failure: Option<(Arc<str>, u64)>) {
        let mut state = self.state.lock();
        state.connecting = false;
        state.attempts += 1;
        let earlier = state.failure.take();
        if let Some((why, recoveries)) = failure {
            let mut waits = earlier.map_or_else(probe::waits, |failure| failure.waits);
            let again_from = Instant::now() + waits.after_failure();
            state.failure = Some(Failure {
                attempt: state.attempts,
                why,
                again_from,
                recoveries,
                waits,
            });
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

/// Starts an attempt on this worker's runtime. It goes on if the caller gives up: others wait for it too.
fn start_attempt(endpoint: &Arc<Endpoint>, worker: usize) -> Result<(), NotStarted> {
    let gone = NotStarted::Impossible("the cluster was removed");
    let cluster = endpoint.cluster().ok_or(gone)?;
    let nowhere = NotStarted::Impossible("the host name has no address");
    let address = endpoint.socket_addr().ok_or(nowhere)?;
    let reserved = cluster
        .reserve_connection(endpoint)
        .ok_or(NotStarted::NoRoom)?;
    let endpoint = Arc::clone(endpoint);
    tokio::spawn(async move {
        let recoveries = endpoint.recoveries();
        let lane = endpoint.lane(worker);
        match connection::open(address, cluster.connect_timeout()).await {
            Ok(opened) => {
                lane.opened(&endpoint, worker, opened, reserved);
                lane.attempt_ended(None);
            }
            Err(error) => {
                drop(reserved);
                let why: Arc<str> = error.to_string().into();
                endpoint.unreachable(Some(worker), &why);
                lane.attempt_ended(Some((why, recoveries)));
            }
        }
    });
    Ok(())
}

// === impl Slot ===

impl Slot<'_> {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether it was not there at once.
    pub(crate) fn waited(&self) -> bool {
        self.waited
    }

    /// For a call that outlives the one who opened it. It counts as in flight at its endpoint.
    pub(crate) fn keep(mut self, endpoint: &Arc<Endpoint>) -> Kept {
        self.kept = true;
        endpoint.load.start();
        Kept {
            connection: Arc::clone(&self.connection),
            endpoint: Arc::clone(endpoint),
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.connection.release_stream();
            self.lane.released();
        }
    }
}

// === impl Kept ===

impl Kept {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.endpoint.load.end();
        self.connection.release_stream();
        // Whose connection it was is not known any more; few are asked, and seldom.
        self.endpoint.lanes.iter().for_each(Lane::released);
    }
}

/// One call that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}
