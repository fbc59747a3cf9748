//! Resilience policies under tokio time, with no transport in sight.
//!
//! [`backoff`] spreads attempts to reach something that is down; [`limiter`] bounds what is under way at once,
//! [`adaptive`] finds such a bound, [`rate`] bounds what comes in a time and [`overload`] says who is turned away when
//! a process has too much to do; [`retry`] says whether and when a failed try is followed by another one, [`budget`]
//! how many of those a cluster bears; [`breaker`] keeps traffic from an endpoint that fails, [`outlier`] from one that
//! is worse than its peers, [`check`] from one that does not say that it is well; [`latency`] knows how long answers take; [`split`] shares traffic out; [`canary`] judges
//! one share by another. None knows what it guards: every `now` is passed in, and tests drive them with paused time.

pub mod adaptive;
pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod canary;
pub mod check;
mod clock;
mod histogram;
pub mod latency;
pub mod limiter;
pub mod outlier;
pub mod overload;
pub mod rate;
pub mod retry;
mod ring;
mod share;
pub mod split;
mod verdict;
mod window;

pub use verdict::Verdict;
