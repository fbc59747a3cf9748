//! The open connections of a worker: counted, and woken when a drain starts.
//!
//! A connection registers its task's waker once. Asking "are we draining?" is then one load for each
//! request, where a watch or a notify would be a lock for each wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use super::heartbeat::Heartbeat;

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Connections {
    draining: AtomicBool,
    open: AtomicUsize,
    wakers: Mutex<Slab<Option<Waker>>>,
    empty: Notify,
    /// How late the worker is.
    pub(super) heartbeat: Heartbeat,
}

/// One open connection; dropping it closes the account.
#[derive(Debug)]
pub(super) struct OpenConnection {
    connections: Arc<Connections>,
    key: usize,
}

impl Connections {
    /// Takes a connection into account, before its task runs.
    pub(super) fn enter(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        let key = self.wakers.lock().insert(None);
        OpenConnection {
            connections: self.clone(),
            key,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Tells every connection to end when it can.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        for (_, waker) in &*self.wakers.lock() {
            if let Some(waker) = waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Waits until the last connection has gone.
    pub(super) async fn emptied(&self) {
        while self.open() > 0 {
            let notified = self.empty.notified();
            if self.open() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl OpenConnection {
    /// Has `waker`, the connection's task, woken when a drain starts.
    pub(super) fn wake_on_drain(&self, waker: &Waker) {
        if let Some(slot) = self.connections.wakers.lock().get_mut(self.key) {
            *slot = Some(waker.clone());
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.wakers.lock().try_remove(self.key);
        if self.connections.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.connections.empty.notify_one();
        }
    }
}
