//! How a cluster is kept from being asked more than it can bear, and its sick endpoints from being asked at all.

use std::num::{NonZeroU32, NonZeroUsize};

use super::{Share, Timeout};

/// How many tries beyond the first a cluster may get. It always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of the first tries of the last ten seconds.
    pub ratio: Share,
    /// Beside that, so that little traffic is retried too.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            ratio: Share::from_percent::<20>(),
            min_per_second: 3,
        }
    }
}

/// When an endpoint is rejected because its answers fail or are slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// How far back answers are counted.
    pub window: Timeout,
    /// Fewer answers than this in the window prove nothing.
    pub min_requests: NonZeroU32,
    /// It rejects from this share of failures. Not zero.
    pub failure_ratio: Share,
    /// An answer that took this long is slow.
    pub slow_call: Timeout,
    /// It rejects from this share of slow answers. Not zero.
    pub slow_ratio: Share,
    /// How long it rejects before it is probed; doubles with each failed probe.
    pub hold: Timeout,
    /// It never rejects longer than this without a probe. At least `hold`.
    pub max_hold: Timeout,
    /// How many probes have to succeed before it admits again.
    pub probes: NonZeroU32,
}

impl Default for Breaker {
    fn default() -> Self {
        const MIN_REQUESTS: NonZeroU32 = NonZeroU32::new(20).unwrap();
        const PROBES: NonZeroU32 = NonZeroU32::new(3).unwrap();
        Self {
            window: Timeout::from_secs::<10>(),
            min_requests: MIN_REQUESTS,
            failure_ratio: Share::from_percent::<50>(),
            slow_call: Timeout::from_secs::<1>(),
            slow_ratio: Share::from_percent::<90>(),
            hold: Timeout::from_secs::<5>(),
            max_hold: Timeout::from_secs::<60>(),
            probes: PROBES,
        }
    }
}

/// When an endpoint is left out because it is worse than its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierDetection {
    /// So many failures one after the other eject it.
    pub consecutive_failures: NonZeroU32,
    /// Whether one that fails much more often than its peers is ejected.
    pub success_rate: bool,
    /// Whether one that is much slower than its peers is ejected.
    pub latency: bool,
    /// How often endpoints are compared.
    pub interval: Timeout,
    /// How long the first ejection lasts; the next are longer.
    pub base_ejection: Timeout,
    /// No ejection lasts longer. At least `base_ejection`.
    pub max_ejection: Timeout,
    /// The share of the endpoints that may be ejected at once, rounded down; one of two or more always may.
    pub max_ejected: Share,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        const CONSECUTIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();
        Self {
            consecutive_failures: CONSECUTIVE,
            success_rate: true,
            latency: false,
            interval: Timeout::from_secs::<5>(),
            base_ejection: Timeout::from_secs::<10>(),
            max_ejection: Timeout::from_secs::<300>(),
            max_ejected: Share::from_percent::<50>(),
        }
    }
}

/// A limit of requests in flight that follows the latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// It is never less than this.
    pub min: NonZeroUsize,
    /// It is never more than this. At least `min`, at most the cluster's `limits.requests`.
    pub max: NonZeroUsize,
}

impl AdaptiveConcurrency {
    /// `min` where it is not given (`max`, if that is less).
    pub const DEFAULT_MIN: NonZeroUsize = NonZeroUsize::new(8).unwrap();
}

/// From when on the gateway sheds requests by their priority. `None`: this is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overload {
    /// Resident memory of the process.
    pub memory: Option<super::ByteSize>,
    /// How late a timer of the event loop fires.
    pub loop_lag: Option<Timeout>,
    /// Open connections, as a share of the listeners' `max_connections`. Not zero.
    pub connections: Option<Share>,
}
