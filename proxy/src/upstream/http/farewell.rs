//! Connections of pingora's pools to endpoints that have left. The pools keep what is idle for a minute and do not let
//! go of it when told; but they notice when a connection closes. So its socket is shut down, once nobody uses it.
//!
//! What is kept is the socket's number, good for as long as the connection has not told of its end, which it does before
//! it closes. A descriptor of our own is made only to shut it down (`pidfd_getfd(2)`), so that none is held beside it.

use std::io;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::upstream::cluster::Reservation;
use crate::upstream::endpoint::Endpoint;

/// How often is looked whether requests have ended. Before the first look: whoever had just picked the endpoint when it
/// left is counted by then.
const LOOK: Duration = Duration::from_millis(100);

/// What an open connection holds. The lock is taken before it is closed.
pub(super) type Held = Mutex<Option<Open>>;

/// An open connection.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) _reservation: Reservation,
    pub(super) socket: RawFd,
}

/// The open connections to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Mutex<Vec<Weak<Held>>>);

// === impl Sockets ===

impl Sockets {
    pub(super) fn add(&self, open: &Arc<Held>) {
        let mut all = self.0.lock();
        if all.len() == all.capacity() {
            all.retain(|one| one.strong_count() > 0);
        }
        all.push(Arc::downgrade(open));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        let all = self.0.lock();
        let open = |one: &&Weak<Held>| one.upgrade().is_some_and(|held| held.lock().is_some());
        all.iter().filter(open).count()
    }

    pub(crate) fn shut_down(&self) -> io::Result<()> {
        let all = std::mem::take(&mut *self.0.lock());
        let open: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        if open.is_empty() {
            return Ok(());
        }
        let process = pidfd_open(getpid(), PidfdFlags::empty())?;
        for one in open {
            let held = one.lock();
            if let Some(open) = &*held {
                let socket = pidfd_getfd(&process, open.socket, PidfdGetfdFlags::empty())?;
                // What has been closed by the peer need not be.
                let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }
}

/// Closes the connections to an endpoint that has left, when its requests have ended.
pub(crate) fn part(endpoint: &Arc<Endpoint>, runtime: &Handle) {
    let endpoint = Arc::clone(endpoint);
    runtime.spawn(async move {
        loop {
            sleep(LOOK).await;
            if endpoint.load.in_flight() == 0 {
                break;
            }
        }
        if let Err(why) = endpoint.sockets.shut_down() {
            tracing::debug!(endpoint = %endpoint.name(), %why, "idle connections are left to their time");
        }
    });
}
