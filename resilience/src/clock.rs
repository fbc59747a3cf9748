//! Instants as numbers that fit an atomic: nanoseconds since a little before the policy was made.
//!
//! The clock is read once, at construction; from then on every `now` comes from the caller, so that a test owns
//! the time and a request reads it once for all policies. A request may have read it before the policy was made:
//! an hour of grace keeps even that exact, and what is older counts as that hour.

use std::time::Duration;

use tokio::time::Instant;

const GRACE: Duration = Duration::from_secs(3600);

/// Where a policy counts its time from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

// === impl Clock ===

impl Clock {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self(now.checked_sub(GRACE).unwrap_or(now))
    }

    /// Nanoseconds from the start to `now`; enough for 584 years.
    pub(crate) fn nanos(self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.0))
    }
}

/// A duration as nanoseconds; one that does not fit is as good as for ever.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
