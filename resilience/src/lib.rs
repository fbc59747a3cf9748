//! Resilience policies under tokio time, with no transport in sight.
//!
//! [`backoff`] spreads attempts to reach something that is down; [`limiter`] bounds what is under way at
//! once; [`latency`] knows how long answers take; [`split`] shares traffic out; [`canary`] judges one share by
//! another. None knows what it guards: tests drive them with paused time.

pub mod backoff;
pub mod canary;
mod histogram;
pub mod latency;
pub mod limiter;
mod ring;
pub mod split;
