//! The tries of one request: after each failure, whether there is another one, and when.
//!
//! Refused: a try beyond `attempts` (the first one counts), one whose wait would not end before the deadline, and
//! one that the backend asked not to be made. Otherwise the wait is exponential backoff with full jitter, or what
//! the backend asked for: gRPC's `grpc-retry-pushback-ms`
//! (<https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback>) or HTTP's `Retry-After` (RFC 9110,
//! 10.2.3). Whether the call may be repeated at all, and whether the budget allows it, is for others to say.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::backoff::{Backoff, Waits};

/// The state of one request's tries; made when the first one has failed, or before.
#[derive(Debug, Clone)]
pub struct Series {
    attempts: NonZeroU32,
    made: u32,
    waits: Waits,
}

/// What comes after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another one, after this wait.
    Again(Duration),
    /// The failure is the answer.
    Stop(Why),
}

/// Why there is no further try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// As many as were allowed have been made.
    #[error("all tries are made")]
    Attempts,
    /// The wait would not end before the deadline.
    #[error("no time is left for another try")]
    Deadline,
    /// The backend asked for none, or for none before the deadline.
    #[error("the backend asked not to be tried again in time")]
    PushedBack,
}

/// What a backend says about when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushback {
    /// Not before this much time is over.
    After(Duration),
    /// Not at all.
    Never,
}

// === impl Series ===

impl Series {
    /// A series whose first try is being made.
    #[must_use]
    pub fn new(attempts: NonZeroU32, backoff: Backoff, random: fastrand::Rng) -> Self {
        Self {
            attempts,
            made: 1,
            waits: backoff.waits(random),
        }
    }

    /// What comes after a try that failed at `now`. `Again` counts the try that it announces.
    #[must_use]
    pub fn after(&mut self, now: Instant, deadline: Instant, pushback: Option<Pushback>) -> Next {
        if self.made >= self.attempts.get() {
            return Next::Stop(Why::Attempts);
        }
        let (wait, too_long) = match pushback {
            Some(Pushback::Never) => return Next::Stop(Why::PushedBack),
            Some(Pushback::After(wait)) => (self.asked_for(wait), Why::PushedBack),
            None => (self.waits.after_failure(), Why::Deadline),
        };
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Next::Stop(Why::Deadline);
        }
        if wait >= left {
            return Next::Stop(too_long);
        }
        self.made += 1;
        Next::Again(wait)
    }

    /// A wait that the backend chose says nothing about ours: the next one of ours starts at the base again.
    fn asked_for(&mut self, wait: Duration) -> Duration {
        self.waits.start_over();
        wait
    }

    /// Tries made so far, the one under way included.
    #[must_use]
    pub const fn made(&self) -> u32 {
        self.made
    }
}

// === impl Pushback ===

impl Pushback {
    /// The value of `grpc-retry-pushback-ms`. What is negative or no number means never, as gRPC has it.
    #[must_use]
    pub fn of_grpc(value: &[u8]) -> Self {
        number(value).map_or(Self::Never, |millis| {
            Self::After(Duration::from_millis(millis))
        })
    }

    /// The value of `Retry-After`: seconds, or a date against the wall clock. What is neither says nothing.
    #[must_use]
    pub fn of_retry_after(value: &[u8], now: SystemTime) -> Option<Self> {
        if let Some(seconds) = number(value) {
            return Some(Self::After(Duration::from_secs(seconds)));
        }
        let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
        Some(Self::After(date.duration_since(now).unwrap_or_default()))
    }
}

/// Digits and nothing else; more than fit are a very long time.
fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = digits.then(|| std::str::from_utf8(value).ok())??;
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
