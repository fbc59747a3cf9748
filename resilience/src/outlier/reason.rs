//! Why an endpoint is out, in words for the log, `/clusters` and `explain`.

use std::fmt;
use std::time::Duration;

/// What makes an endpoint an outlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// So many failures in a row.
    ConsecutiveFailures(u32),
    /// It succeeds less often than its peers.
    SuccessRate {
        /// Its share of successes.
        own: f64,
        /// The mean of all.
        mean: f64,
    },
    /// It is slower than its peers.
    Latency {
        /// The mean time of its successful calls.
        own: Duration,
        /// The median of all.
        median: Duration,
    },
}

/// One time out of service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// For what.
    pub reason: Reason,
    /// How long from now on.
    pub back_in: Duration,
}

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(failures) => write!(f, "{failures} consecutive failures"),
            Self::SuccessRate { own, mean } => {
                let (own, mean) = (own * 100.0, mean * 100.0);
                write!(f, "{own:.1}% of its calls succeed, {mean:.1}% on average")
            }
            Self::Latency { own, median } => {
                let (own, median) = (own.as_secs_f64() * 1e3, median.as_secs_f64() * 1e3);
                write!(f, "its calls take {own:.1} ms, {median:.1} ms elsewhere")
            }
        }
    }
}

// === impl Ejection ===

impl fmt::Display for Ejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up: who is told "0s" expects it to be back.
        let seconds = self.back_in.as_nanos().div_ceil(1_000_000_000);
        write!(f, "ejected: {}, back in {seconds}s", self.reason)
    }
}
