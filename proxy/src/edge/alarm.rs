//! The moment by which an exchange that pingora serves must have come to an answer.
//!
//! Pingora bounds every single read of a backend, so one that trickles its header never runs out of time. While
//! an exchange waits, though, its client is always being read, to see it leave: when the moment has come, that
//! read fails, pingora gives the backend up at once, and the client can still be answered. An exchange that is
//! not reading its client just then, because a backend takes neither body nor time, is dropped after a grace.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Shared by the exchange, which sets it, and the client's session, whose reads fail when it has struck. All in
/// one task: nobody else is woken.
#[derive(Debug, Clone, Default)]
pub struct Alarm(Arc<State>);

#[derive(Debug, Default)]
struct State {
    at: Mutex<Option<Instant>>,
    struck: AtomicBool,
}

impl Alarm {
    /// From `at` on the client's reads fail, until the alarm is set again.
    pub fn set(&self, at: Instant) {
        *self.0.at.lock() = Some(at);
        self.0.struck.store(false, Relaxed);
    }

    /// There is no such moment any more.
    pub fn clear(&self) {
        *self.0.at.lock() = None;
        self.0.struck.store(false, Relaxed);
    }

    /// Whether the moment has come, and been acted upon.
    pub fn has_struck(&self) -> bool {
        self.0.struck.load(Relaxed)
    }

    /// Runs an exchange. `None`: it did not come to its end within `grace` after the alarm struck.
    pub async fn watch<T>(&self, grace: Duration, exchange: impl Future<Output = T>) -> Option<T> {
        let mut exchange = pin!(exchange);
        // Not armed before its first poll, which sets it to the time that counts.
        let mut sleep = pin!(sleep_until(Instant::now()));
        let mut armed = false;
        poll_fn(|context| {
            loop {
                if let Poll::Ready(done) = exchange.as_mut().poll(context) {
                    return Poll::Ready(Some(done));
                }
                let Some(at) = *self.0.at.lock() else {
                    return Poll::Pending;
                };
                let next = if self.has_struck() { at + grace } else { at };
                // A moment that moves on costs nothing until the timer fires.
                if !armed || next < sleep.deadline() {
                    sleep.as_mut().reset(next);
                    armed = true;
                }
                ready!(sleep.as_mut().poll(context));
                armed = false;
                match (Instant::now() < next, self.has_struck()) {
                    (true, _) => {}
                    (false, false) => self.0.struck.store(true, Relaxed),
                    (false, true) => return Poll::Ready(None),
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Ends as soon as it is polled after the alarm has struck.
    async fn until_struck(alarm: &Alarm) -> Instant {
        poll_fn(|_| match alarm.has_struck() {
            true => Poll::Ready(Instant::now()),
            false => Poll::Pending,
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn it_strikes_in_time_and_wakes_the_exchange() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        let exchange = async {
            alarm.set(start + 100 * MS);
            until_struck(&alarm).await
        };
        let ended = alarm.watch(MS, exchange).await;
        assert_eq!(ended, Some(start + 100 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_moves_on_is_waited_for() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        let exchange = async {
            alarm.set(start + 100 * MS);
            tokio::time::sleep(50 * MS).await;
            alarm.set(start + 300 * MS);
            until_struck(&alarm).await
        };
        assert_eq!(alarm.watch(MS, exchange).await, Some(start + 300 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn once_cleared_it_never_strikes() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        let exchange = async {
            alarm.set(start + 100 * MS);
            tokio::time::sleep(50 * MS).await;
            alarm.clear();
            tokio::time::sleep(1000 * MS).await;
            Instant::now()
        };
        assert_eq!(alarm.watch(MS, exchange).await, Some(start + 1050 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_that_does_not_heed_it_is_dropped() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        let exchange = async {
            alarm.set(start + 100 * MS);
            std::future::pending::<()>().await;
        };
        assert_eq!(alarm.watch(20 * MS, exchange).await, None);
        assert_eq!(Instant::now(), start + 120 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_set_again_after_it_has_struck() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        let exchange = async {
            alarm.set(start + 100 * MS);
            until_struck(&alarm).await;
            alarm.set(start + 200 * MS);
            until_struck(&alarm).await
        };
        assert_eq!(alarm.watch(MS, exchange).await, Some(start + 200 * MS));
    }
}
