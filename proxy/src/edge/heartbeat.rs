//! How late a worker's event loop is: a timer that is asked how far behind its time it woke.
//!
//! A loop with much to do comes to its timers late; one that is stuck does not come at all, and is late by the time
//! that has passed since.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const INTERVAL: Duration = Duration::from_millis(50);

/// The lateness of one worker.
#[derive(Debug)]
pub(super) struct Heartbeat {
    epoch: Instant,
    /// When it is due, in nanoseconds; never before it begins.
    due: AtomicU64,
    /// The worst since it was last asked.
    worst: AtomicU64,
}

impl Heartbeat {
    /// Beats for as long as it is polled, on the runtime of the worker.
    pub(super) async fn beat(&self) {
        loop {
            let due = Instant::now() + INTERVAL;
            self.due.store(self.nanos(due), Relaxed);
            sleep_until(due).await;
            let late = Instant::now().saturating_duration_since(due);
            self.worst.fetch_max(nanos(late), Relaxed);
        }
    }

    /// The worst lateness since the last time that this was asked.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        let overdue = self.nanos(now).saturating_sub(self.due.load(Relaxed));
        Duration::from_nanos(self.worst.swap(0, Relaxed).max(overdue))
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.epoch))
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            due: AtomicU64::new(u64::MAX),
            worst: AtomicU64::new(0),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_stuck_is_late_by_the_time_since() {
        let heart = Arc::new(Heartbeat::default());
        let start = Instant::now();
        assert_eq!(heart.lag(start + INTERVAL), Duration::ZERO, "not begun");
        let beating = heart.clone();
        tokio::spawn(async move { beating.beat().await });
        tokio::time::sleep(3 * INTERVAL + INTERVAL / 2).await;
        assert!(heart.lag(Instant::now()) < Duration::from_millis(2));
        let stuck = Duration::from_secs(1);
        let lag = heart.lag(Instant::now() + stuck);
        assert!((stuck - INTERVAL..stuck).contains(&lag), "{lag:?}");
        tokio::time::advance(stuck).await;
        tokio::task::yield_now().await;
        let lag = heart.lag(Instant::now());
        assert!(
            (stuck - INTERVAL..stuck).contains(&lag),
            "it woke, late: {lag:?}"
        );
        assert!(
            heart.lag(Instant::now()) < Duration::from_millis(2),
            "told once"
        );
    }
}
