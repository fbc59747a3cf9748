//! What came of a check, in words that fit the log, `/clusters` and a metric.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It was not answered in time.
    #[error("timeout after {0:?}")]
    Timeout(Duration),
    /// No connection came about, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The answer says that it is not well, or is none.
    #[error("{0}")]
    Answer(String),
}

/// A kind of outcome, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It is well.
    Passed,
    /// It says that it is not, or says nothing that can be understood.
    Failed,
    /// It did not answer in time.
    Timeout,
    /// It took no connection, or broke it.
    Unreachable,
}

/// How the checks of one cluster ended.
#[derive(Debug, Default)]
pub(crate) struct CheckCounts([AtomicU64; CheckOutcome::ALL.len()]);

// === impl CheckOutcome ===

impl CheckOutcome {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Timeout, Self::Unreachable];

    /// The fixed word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }

    pub(crate) fn of(outcome: &Result<String, Failure>) -> Self {
        match outcome {
            Ok(_) => Self::Passed,
            Err(Failure::Answer(_)) => Self::Failed,
            Err(Failure::Timeout(_)) => Self::Timeout,
            Err(Failure::Unreachable(_)) => Self::Unreachable,
        }
    }
}

// === impl CheckCounts ===

impl CheckCounts {
    pub(crate) fn count(&self, outcome: CheckOutcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn get(&self, outcome: CheckOutcome) -> u64 {
        self.0[outcome as usize].load(Relaxed)
    }
}
