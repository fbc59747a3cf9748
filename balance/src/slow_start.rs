//! Weights that grow: an endpoint that is new, or back, begins with a part of its weight, so that it can fill its caches and pools
//! before it gets its share. The part grows in a line over the window, from a floor that keeps it from starving.
//!
//! Nothing is rebuilt as time passes: a policy draws by the full weights, and what is drawn is taken with the probability of its part.
//! Where all are new alike, none is held back: what counts is the part relative to the largest one.

use std::time::Duration;

use tokio::time::Instant;

/// The part that an endpoint begins with.
pub const FLOOR: f64 = 0.1;

/// The endpoints whose weights grow, at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    window: Duration,
    /// When the first of all began; `None`: somebody has the full weight.
    first: Option<Instant>,
    /// When the last of them has the full weight.
    until: Instant,
}

// === impl SlowStart ===

impl SlowStart {
    /// Of endpoints that began then; those that have been there for ever are `None`. `None`: nobody's weight grows.
    #[must_use]
    pub fn of(
        window: Duration,
        began: impl IntoIterator<Item = Option<Instant>>,
        now: Instant,
    ) -> Option<Self> {
        let (mut first, mut last, mut all) = (None::<Instant>, None::<Instant>, true);
        for one in began {
            match one.filter(|one| now < *one + window) {
                Some(one) => {
                    first = Some(first.map_or(one, |known| known.min(one)));
                    last = Some(last.map_or(one, |known| known.max(one)));
                }
                None => all = false,
            }
        }
        Some(Self {
            window,
            first: first.filter(|_| all),
            until: last? + window,
        })
    }

    /// Whether there is still somebody whose weight grows.
    #[must_use]
    pub fn is_on(&self, now: Instant) -> bool {
        now < self.until
    }

    /// The part of its weight that an endpoint has.
    #[must_use]
    pub fn part(&self, began: Option<Instant>, now: Instant) -> f64 {
        began.map_or(1.0, |began| {
            let age = now.saturating_duration_since(began);
            (age.as_secs_f64() / self.window.as_secs_f64()).clamp(FLOOR, 1.0)
        })
    }

    /// The same, relative to the largest part that anybody has.
    #[must_use]
    pub fn relative(&self, began: Option<Instant>, now: Instant) -> f64 {
        self.part(began, now) / self.part(self.first, now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_part_grows_in_a_line_from_the_floor() {
        let now = Instant::now();
        let slow = SlowStart::of(WINDOW, [None, Some(now)], now).unwrap();
        for (seconds, part) in [(0, 0.1), (1, 0.1), (3, 0.3), (5, 0.5), (10, 1.0), (99, 1.0)] {
            let then = now + Duration::from_secs(seconds);
            assert!((slow.part(Some(now), then) - part).abs() < 1e-9);
            assert!((slow.relative(Some(now), then) - part).abs() < 1e-9);
            assert_eq!(slow.part(None, then), 1.0);
            assert_eq!(slow.is_on(then), seconds < 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_new_the_oldest_has_the_full_weight() {
        let old = Instant::now();
        let new = old + Duration::from_secs(4);
        let now = old + Duration::from_secs(8);
        let slow = SlowStart::of(WINDOW, [Some(old), Some(new)], now).unwrap();
        assert_eq!(slow.relative(Some(old), now), 1.0);
        assert!((slow.relative(Some(new), now) - 0.5).abs() < 1e-9);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_grows_for_ever() {
        let now = Instant::now();
        assert_eq!(SlowStart::of(WINDOW, [None, None], now), None);
        assert_eq!(SlowStart::of(WINDOW, [Some(now)], now + WINDOW), None);
    }
}
