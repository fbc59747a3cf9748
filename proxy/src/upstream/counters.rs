//! What became of attempts, counted per worker with plain adds; a scrape sums the workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::error::{CallError, code};
use super::reply::Reply;

/// What one try came to, as the metric `highpress_upstream_attempts_total` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// gRPC OK, or an HTTP answer below 500.
    Ok,
    /// A gRPC status that is the caller's own fault, such as NOT_FOUND.
    CallerError,
    /// A gRPC status that is the backend's fault, or an HTTP answer from 500.
    BackendError,
    /// No connection; the backend has not seen it.
    Connect,
    /// Turned away unprocessed.
    RefusedStream,
    /// Not looked at by a connection that closes in good order.
    GoneAway,
    /// The stream or its connection broke.
    Reset,
    /// An answer that breaks the rules.
    Malformed,
    /// The deadline passed first.
    Timeout,
    /// The client gave up first.
    Cancelled,
}

/// Counts per outcome, a row for each worker.
#[derive(Debug)]
pub(crate) struct Counters {
    rows: Box<[Row]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Row([AtomicU64; Outcome::ALL.len()]);

// === impl Outcome ===

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::CallerError,
        Self::BackendError,
        Self::Connect,
        Self::RefusedStream,
        Self::GoneAway,
        Self::Reset,
        Self::Malformed,
        Self::Timeout,
        Self::Cancelled,
    ];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::CallerError => "caller_error",
            Self::BackendError => "backend_error",
            Self::Connect => "connect",
            Self::RefusedStream => "refused_stream",
            Self::GoneAway => "gone_away",
            Self::Reset => "reset",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }

    /// What an HTTP status says of the backend: 429 is its RESOURCE_EXHAUSTED, 501 its UNIMPLEMENTED.
    #[must_use]
    pub fn of_http(status: u16) -> Self {
        match status {
            501 => Self::CallerError,
            429 | 500.. => Self::BackendError,
            _ => Self::Ok,
        }
    }

    pub(crate) fn of_reply(reply: &Reply) -> Self {
        // INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION, ABORTED,
        // OUT_OF_RANGE, UNIMPLEMENTED and UNAUTHENTICATED: another backend would say the same.
        match reply.code {
            code::OK => Self::Ok,
            3 | 5 | 6 | 7 | 9 | 10 | 11 | 12 | 16 => Self::CallerError,
            _ => Self::BackendError,
        }
    }

    pub(crate) fn of_error(error: &CallError) -> Self {
        match error {
            CallError::NoHealthyUpstream(_)
            | CallError::CircuitOpen { .. }
            | CallError::Overloaded
            | CallError::Connect { .. } => Self::Connect,
            CallError::Refused { .. } => Self::RefusedStream,
            CallError::Reset(_) | CallError::ConnectionLost(_) => Self::Reset,
            CallError::NotGrpc { .. }
            | CallError::NoStatus
            | CallError::Malformed(_)
            | CallError::TooLarge { .. } => Self::Malformed,
            CallError::DeadlineExceeded | CallError::TryTimedOut { .. } => Self::Timeout,
            CallError::NotTriedAgain { error, .. } => Self::of_error(error),
        }
    }
}

// === impl Counters ===

impl Counters {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            rows: (0..workers.max(1)).map(|_| Row::default()).collect(),
        }
    }

    pub(crate) fn count(&self, worker: usize, outcome: Outcome) {
        self.rows[worker % self.rows.len()].0[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn sum(&self, outcome: Outcome) -> u64 {
        self.rows
            .iter()
            .map(|row| row.0[outcome as usize].load(Relaxed))
            .sum()
    }
}
