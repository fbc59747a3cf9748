//! Exponential backoff with full jitter: the nth wait is anything from nothing to `base * 2^n`, at most `max`.
//!
//! Full jitter spreads those who failed together furthest apart, see
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>. Refused by construction: a
//! base of zero and a maximum below the base.

use std::time::Duration;

/// The bounds of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

/// Why bounds make no backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackoffError {
    /// Every wait would be zero: a busy loop.
    #[error("the base of a backoff must be longer than zero")]
    ZeroBase,
    /// The waits would shrink.
    #[error("the maximum of a backoff must not be below its base")]
    MaxBelowBase,
}

/// The waits of one series of failures.
#[derive(Debug, Clone)]
pub struct Waits {
    backoff: Backoff,
    failures: u32,
    random: fastrand::Rng,
}

// === impl Backoff ===

impl Backoff {
    /// Waits that grow from `base` to `max`.
    ///
    /// # Errors
    /// If the bounds make no backoff.
    pub const fn new(base: Duration, max: Duration) -> Result<Self, BackoffError> {
        if base.is_zero() {
            return Err(BackoffError::ZeroBase);
        }
        if max.as_nanos() < base.as_nanos() {
            return Err(BackoffError::MaxBelowBase);
        }
        Ok(Self { base, max })
    }

    /// A series that starts at the base.
    #[must_use]
    pub fn waits(self, random: fastrand::Rng) -> Waits {
        Waits {
            backoff: self,
            failures: 0,
            random,
        }
    }

    /// The longest that the wait after `failures` earlier ones may be.
    #[must_use]
    pub fn ceiling(self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

// === impl Waits ===

impl Waits {
    /// How long to wait after one more failure.
    pub fn after_failure(&mut self) -> Duration {
        let ceiling = self.backoff.ceiling(self.failures);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(self.random.f64())
    }

    /// The next wait is one after a first failure again.
    pub const fn start_over(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_that_make_no_backoff_are_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(
            Backoff::new(Duration::ZERO, second),
            Err(BackoffError::ZeroBase)
        );
        assert_eq!(
            Backoff::new(second, second / 2),
            Err(BackoffError::MaxBelowBase)
        );
    }

    #[test]
    fn waits_use_the_whole_range() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, second).unwrap();
        let mut waits = backoff.waits(fastrand::Rng::with_seed(7));
        let all: Vec<_> = (0..1000).map(|_| waits.after_failure()).collect();
        let below_half = all.iter().filter(|wait| **wait < second / 2).count();
        assert!(
            (450..550).contains(&below_half),
            "{below_half} of 1000 waits are in the lower half"
        );
    }

    proptest! {
        #[test]
        fn no_wait_is_above_its_ceiling(base in 1u64..10_000, factor in 1u64..10_000, seed: u64, failures in 1usize..80) {
            let max = Duration::from_millis(base.saturating_mul(factor));
            let backoff = Backoff::new(Duration::from_millis(base), max).unwrap();
            let mut waits = backoff.waits(fastrand::Rng::with_seed(seed));
            for failure in 0..failures {
                let wait = waits.after_failure();
                prop_assert!(wait <= backoff.ceiling(u32::try_from(failure).unwrap()));
                prop_assert!(wait <= max);
            }
        }
    }
}
