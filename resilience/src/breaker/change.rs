//! What a breaker does and why, in words for the log and for `explain`.

use std::fmt;
use std::time::Duration;

/// A change of state that lasts; that a hold is over is told by [`Probe::is_first`](super::Probe::is_first).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing passes from now on.
    Rejects {
        /// For what.
        why: Trip,
        /// Until the next probe.
        hold: Duration,
    },
    /// Everything passes again.
    Admits,
}

/// What was too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    /// Failed calls in the window.
    Failures {
        /// Calls that failed.
        failed: u64,
        /// Calls that were judged.
        of: u64,
    },
    /// Slow calls in the window.
    Slow {
        /// Calls that were slow.
        slow: u64,
        /// Calls that were judged or slow.
        of: u64,
    },
    /// A probe failed.
    ProbeFailed,
    /// The probes were slow.
    ProbesSlow,
}

// === impl Change ===

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejects { why, hold } => write!(f, "rejects for {hold:?}: {why}"),
            Self::Admits => f.write_str("admits again: the probes were answered"),
        }
    }
}

// === impl Trip ===

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { failed, of } => write!(f, "{failed} of {of} calls failed"),
            Self::Slow { slow, of } => write!(f, "{slow} of {of} calls were slow"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbesSlow => f.write_str("the probes were slow"),
        }
    }
}
