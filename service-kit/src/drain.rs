//! Drain: stop taking work, finish what is in flight, within a deadline.
//!
//! One `Drain` per program. Whoever accepts work watches `begun()`, holds an [`InFlight`] per piece of work, and
//! `finished(deadline)` says when all of it is done, or how much was cut off.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

/// How long what is in flight may take to finish. It may change until the drain begins; clones change together.
#[derive(Debug, Clone)]
pub struct Patience(Arc<AtomicU64>);

impl Patience {
    /// The time as it is now.
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// Changes it.
    pub fn set(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }
}

impl From<Duration> for Patience {
    fn from(time: Duration) -> Self {
        let patience = Self(Arc::default());
        patience.set(time);
        patience
    }
}

/// The state of a program's drain. Clones share it.
#[derive(Clone)]
pub struct Drain {
    shared: Arc<Shared>,
}

struct Shared {
    draining: watch::Sender<bool>,
    in_flight: AtomicUsize,
    idle: Notify,
}

/// Work that was still in flight when the deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{left} still in flight when the drain deadline passed")]
pub struct Unfinished {
    /// How many pieces of work were left.
    pub left: usize,
}

impl Drain {
    /// Not draining, nothing in flight.
    pub fn new() -> Self {
        let shared = Shared {
            draining: watch::Sender::new(false),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Begins to drain. Doing it twice changes nothing.
    pub fn begin(&self) {
        self.shared.draining.send_replace(true);
    }

    /// True once the drain has begun.
    pub fn is_draining(&self) -> bool {
        *self.shared.draining.borrow()
    }

    /// Returns once the drain has begun.
    pub async fn begun(&self) {
        let mut draining = self.shared.draining.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// The drain as a channel, for code that takes one: false, then true.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.shared.draining.subscribe()
    }

    /// Counts one piece of work as in flight until the guard is dropped.
    pub fn in_flight_guard(&self) -> InFlight {
        self.shared.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight {
            shared: self.shared.clone(),
        }
    }

    /// How many pieces of work are in flight.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    /// Waits until nothing is in flight, at most `deadline`.
    pub async fn finished(&self, deadline: Duration) -> Result<(), Unfinished> {
        let end = Instant::now() + deadline;
        loop {
            let idle = self.shared.idle.notified();
            tokio::pin!(idle);
            // Registered before the count is read: a guard dropped in between is not missed.
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return Ok(());
            }
            if timeout_at(end, idle).await.is_err() {
                return match self.in_flight() {
                    0 => Ok(()),
                    left => Err(Unfinished { left }),
                };
            }
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("draining", &self.is_draining())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

/// One piece of work in flight: it is done when this is dropped.
#[must_use = "the work counts as done when the guard is dropped"]
pub struct InFlight {
    shared: Arc<Shared>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.shared.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.idle.notify_waiters();
        }
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InFlight")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_what_is_in_flight() {
        let drain = Drain::new();
        let work = drain.in_flight_guard();
        drain.begin();
        drain.begun().await;
        let waiter = tokio::spawn({
            let drain = drain.clone();
            async move { drain.finished(Duration::from_secs(10)).await }
        });
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(!waiter.is_finished());
        drop(work);
        assert_eq!(waiter.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn says_how_much_the_deadline_cut_off() {
        let drain = Drain::new();
        let _one = drain.in_flight_guard();
        let _two = drain.in_flight_guard();
        drain.begin();
        assert_eq!(
            drain.finished(Duration::from_secs(5)).await,
            Err(Unfinished { left: 2 })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn is_done_at_once_when_idle() {
        let drain = Drain::new();
        assert!(!drain.is_draining());
        drain.begin();
        assert_eq!(drain.finished(Duration::ZERO).await, Ok(()));
    }
}
