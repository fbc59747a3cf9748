//! Readiness as a set of named guards: a program is ready when nothing is waited for any more.
//!
//! Whoever must happen first takes a guard and drops it when it has happened, so a start-up step that fails or is
//! cancelled cannot leave the program waiting for ever. A guard may be taken at any later time too (drain, lost
//! backend): `/readyz` is 503 as long as it lives, and names it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// What a program still waits for. Clones share the same set.
#[derive(Clone)]
pub struct Readiness {
    waiting: Arc<Waiting>,
}

struct Waiting {
    /// Guards by the order in which they were taken, so that the list reads like the start-up did.
    guards: Mutex<Guards>,
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct Guards {
    next: u64,
    names: BTreeMap<u64, String>,
}

impl Readiness {
    /// A set that waits for nothing: take the first guards before anybody can ask.
    pub fn new() -> Self {
        let waiting = Waiting {
            guards: Mutex::default(),
            ready: watch::Sender::new(true),
        };
        Self {
            waiting: Arc::new(waiting),
        }
    }

    /// The program is not ready until the guard is dropped. `name` is what `/readyz` shows.
    pub fn guard(&self, name: impl Into<String>) -> ReadinessGuard {
        let mut guards = self.waiting.guards.lock();
        let id = guards.next;
        guards.next += 1;
        guards.names.insert(id, name.into());
        self.waiting.ready.send_replace(false);
        ReadinessGuard {
            waiting: self.waiting.clone(),
            id,
        }
    }

    /// True when nothing is waited for.
    pub fn is_ready(&self) -> bool {
        *self.waiting.ready.borrow()
    }

    /// The names of what is waited for, oldest first.
    pub fn waiting_for(&self) -> Vec<String> {
        self.waiting.guards.lock().names.values().cloned().collect()
    }

    /// Whether it is ready, as a channel: for whoever has to tell others when it changes.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.waiting.ready.subscribe()
    }

    /// Returns once nothing is waited for.
    pub async fn ready(&self) {
        let mut ready = self.waiting.ready.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = ready.wait_for(|ready| *ready).await;
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness")
            .field(&self.waiting_for())
            .finish()
    }
}

/// Something that must happen before the program is ready: drop it when it has.
#[must_use = "dropping the guard says that what it waits for has happened"]
pub struct ReadinessGuard {
    waiting: Arc<Waiting>,
    id: u64,
}

impl ReadinessGuard {
    /// Changes what `/readyz` shows, for example to name the latest error.
    pub fn rename(&self, name: impl Into<String>) {
        self.waiting
            .guards
            .lock()
            .names
            .insert(self.id, name.into());
    }
}

impl Drop for ReadinessGuard {
    fn drop(&mut self) {
        let mut guards = self.waiting.guards.lock();
        guards.names.remove(&self.id);
        self.waiting.ready.send_replace(guards.names.is_empty());
    }
}

impl fmt::Debug for ReadinessGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadinessGuard")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn waits_for_every_guard_by_name_in_order() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let store = readiness.guard("store");
        let snapshot = readiness.guard("first snapshot");
        assert!(!readiness.is_ready());
        assert_eq!(readiness.waiting_for(), ["store", "first snapshot"]);
        store.rename("store: connection refused");
        assert_eq!(
            readiness.waiting_for(),
            ["store: connection refused", "first snapshot"]
        );
        drop(store);
        assert!(!readiness.is_ready());
        drop(snapshot);
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn ready_returns_when_the_last_guard_goes() {
        let readiness = Readiness::new();
        let guard = readiness.guard("store");
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        drop(guard);
        waiter.await.unwrap();
    }
}
