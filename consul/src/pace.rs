//! How fast a watch may ask again: a hot service, or a server whose queries do not block, must not become a busy loop. A
//! token bucket: a burst is free, after that a query every tenth of a second.

use std::time::Duration;

use tokio::time::Instant;

const BURST: f64 = 20.0;
const PER_SECOND: f64 = 10.0;

#[derive(Debug)]
pub(crate) struct Pace {
    tokens: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
        }
    }

    /// Takes a token, and says how long to wait before it may be used.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now.max(self.at);
        self.tokens = (self.tokens + passed * PER_SECOND).min(BURST) - 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.tokens / PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_hot_loop_is_not() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut now = start;
        for _ in 0..120 {
            now += pace.take(now);
        }
        assert_eq!(
            (now - start).as_millis(),
            10_000,
            "20 at once, then 10 a second"
        );
        now += Duration::from_secs(60);
        assert_eq!(pace.take(now), Duration::ZERO);
    }
}
