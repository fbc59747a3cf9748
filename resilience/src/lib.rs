//! Resilience policies under tokio time, with no transport in sight.
//!
//! [`backoff`] spreads attempts to reach something that is down; [`limiter`] bounds what is under way at
//! once. Neither knows what it guards: tests drive them with paused time.

pub mod backoff;
pub mod limiter;
