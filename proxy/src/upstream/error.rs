//! Why a call to a cluster has no reply of a backend. A gRPC status that a backend gave is not an error: it is
//! a reply. Each error says whether a backend may have executed the call, which gRPC status it amounts to
//! (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md> and the error code table of
//! PROTOCOL-HTTP2.md), and a fixed word for metrics. Refused: catch-all variants.

use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use http::HeaderValue;
use resilience::limiter::Refused;

/// gRPC status codes, by the names of google/rpc/code.proto.
pub mod code {
    /// Not an error.
    pub const OK: u32 = 0;
    /// The caller gave up.
    pub const CANCELLED: u32 = 1;
    /// Nobody knows.
    pub const UNKNOWN: u32 = 2;
    /// The time was too short.
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// The caller may not.
    pub const PERMISSION_DENIED: u32 = 7;
    /// A limit was met.
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// No such method.
    pub const UNIMPLEMENTED: u32 = 12;
    /// Broken.
    pub const INTERNAL: u32 = 13;
    /// Not now; trying again may help.
    pub const UNAVAILABLE: u32 = 14;
    /// The caller did not say who it is.
    pub const UNAUTHENTICATED: u32 = 16;
}

/// Why a call has no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The cluster has no endpoint that may be used now.
    #[error("no usable endpoint: {0}")]
    NoHealthyUpstream(Arc<str>),
    /// The breaker of every endpoint that may be used rejects.
    #[error("every usable endpoint is rejected by its breaker: {why}")]
    CircuitOpen {
        /// Which lets the next probe pass, and what it rejects for.
        why: Arc<str>,
        /// How long that still takes.
        opens_in: Duration,
    },
    /// The cluster's limits are reached, the queue before them included.
    #[error("too many requests in flight")]
    Overloaded,
    /// The caller's time is up.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// A try took longer than the route lets a try take.
    #[error("{endpoint} did not answer within the {limit:?} that a try may take")]
    TryTimedOut {
        /// Where.
        endpoint: Arc<str>,
        /// The route's `per_try_timeout`.
        limit: Duration,
    },
    /// No connection could be made; no backend has seen the call.
    #[error("cannot connect to {endpoint}: {why}")]
    Connect {
        /// The last endpoint that was tried.
        endpoint: Arc<str>,
        /// What the connection attempt ended with.
        why: Arc<str>,
    },
    /// The backend turned the stream away unprocessed: `REFUSED_STREAM`, or a GOAWAY that did not cover it.
    #[error("{endpoint} refused the stream")]
    Refused {
        /// The last endpoint that was tried.
        endpoint: Arc<str>,
    },
    /// The backend reset the stream.
    #[error("the stream was reset by the backend: {0}")]
    Reset(Reason),
    /// The connection broke while the call was on it.
    #[error("the connection broke: {0}")]
    ConnectionLost(Arc<str>),
    /// The backend answered something that is not gRPC.
    #[error("the backend did not answer gRPC: HTTP status {status}, content-type {content_type:?}")]
    NotGrpc {
        /// The HTTP status.
        status: u16,
        /// The content type, empty if there is none.
        content_type: String,
        /// Its `Retry-After`.
        retry_after: Option<HeaderValue>,
    },
    /// The answer ended without a `grpc-status`.
    #[error("the answer has no grpc-status")]
    NoStatus,
    /// The answer breaks the rules of gRPC.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The response message is larger than is accepted.
    #[error("the response message has {size} bytes, more than {limit}")]
    TooLarge {
        /// What the message's prefix announced.
        size: usize,
        /// What is accepted.
        limit: usize,
    },
    /// The last try failed so, and there would have been another one.
    #[error("{error}; not tried again: {why}")]
    NotTriedAgain {
        /// What the last try ended with.
        error: Box<CallError>,
        /// What did not allow for another one.
        why: NoRetry,
    },
}

/// Why a cluster allows for no try beyond a call's first.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoRetry {
    /// It had its share of the live traffic.
    #[error("the retry budget of cluster `{0}` is spent")]
    Budget(Arc<str>),
    /// As many as there may be are under way.
    #[error("the limit of retries of cluster `{0}` is reached")]
    Limit(Arc<str>),
}

// === impl CallError ===

impl CallError {
    /// The gRPC status that a client library would report.
    #[must_use]
    pub fn grpc_code(&self) -> u32 {
        match self {
            Self::NoHealthyUpstream(_)
            | Self::CircuitOpen { .. }
            | Self::Overloaded
            | Self::Connect { .. }
            | Self::Refused { .. }
            | Self::ConnectionLost(_) => code::UNAVAILABLE,
            Self::DeadlineExceeded | Self::TryTimedOut { .. } => code::DEADLINE_EXCEEDED,
            Self::Reset(reason) => code_of_reset(*reason),
            Self::NotGrpc { status, .. } => code_of_http(*status),
            Self::NoStatus => code::UNKNOWN,
            Self::Malformed(_) | Self::TooLarge { .. } => code::INTERNAL,
            Self::NotTriedAgain { error, .. } => error.grpc_code(),
        }
    }

    /// A fixed word for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoHealthyUpstream(_) => "no_healthy_upstream",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::Overloaded => "overloaded",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::TryTimedOut { .. } => "try_timed_out",
            Self::Connect { .. } => "connect",
            Self::Refused { .. } => "refused_stream",
            Self::Reset(_) => "reset",
            Self::ConnectionLost(_) => "connection_lost",
            Self::NotGrpc { .. } => "not_grpc",
            Self::NoStatus => "no_status",
            Self::Malformed(_) => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::NotTriedAgain { error, .. } => error.label(),
        }
    }

    /// Whether it is certain that no backend has executed the call.
    #[must_use]
    pub fn never_executed(&self) -> bool {
        match self {
            Self::NoHealthyUpstream(_)
            | Self::CircuitOpen { .. }
            | Self::Overloaded
            | Self::Connect { .. }
            | Self::Refused { .. } => true,
            Self::DeadlineExceeded
            | Self::TryTimedOut { .. }
            | Self::Reset(_)
            | Self::ConnectionLost(_)
            | Self::NotGrpc { .. }
            | Self::NoStatus
            | Self::Malformed(_)
            | Self::TooLarge { .. } => false,
            Self::NotTriedAgain { error, .. } => error.never_executed(),
        }
    }
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Overloaded,
            Refused::TooLate => Self::DeadlineExceeded,
        }
    }
}

/// The table of gRPC gives some of them codes that HTTP answers with 4xx. But the call may have been executed, and
/// the caller did nothing wrong: a backend that breaks a stream off has failed, whatever word it says.
fn code_of_reset(reason: Reason) -> u32 {
    match reason {
        Reason::REFUSED_STREAM | Reason::ENHANCE_YOUR_CALM => code::UNAVAILABLE,
        _ => code::INTERNAL,
    }
}

fn code_of_http(status: u16) -> u32 {
    match status {
        400 => code::INTERNAL,
        401 => code::UNAUTHENTICATED,
        403 => code::PERMISSION_DENIED,
        404 => code::UNIMPLEMENTED,
        429 | 502 | 503 | 504 => code::UNAVAILABLE,
        _ => code::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_statuses_map_as_the_grpc_documents_say() {
        let expected = [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (502, 14),
            (503, 14),
            (504, 14),
            (200, 2),
            (301, 2),
            (418, 2),
            (500, 2),
        ];
        for (status, code) in expected {
            let error = CallError::NotGrpc {
                status,
                content_type: String::new(),
                retry_after: None,
            };
            assert_eq!(error.grpc_code(), code, "HTTP {status}");
        }
    }

    #[test]
    fn resets_are_failures_of_the_backend() {
        for (reason, code) in [
            (0, 13),
            (1, 13),
            (2, 13),
            (7, 14),
            (8, 13),
            (11, 14),
            (12, 13),
            (13, 13),
            (99, 13),
        ] {
            assert_eq!(
                CallError::Reset(Reason::from(reason)).grpc_code(),
                code,
                "RST_STREAM {reason}"
            );
        }
    }
}
