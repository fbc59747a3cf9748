//! Everything that can go wrong with a request inside the gateway, and whose fault it is.
//!
//! One variant a cause, no catch-all. Each knows its gRPC code, its fixed word (`reason`, which goes into
//! `ErrorInfo`, metrics and logs) and a text for people; how that looks to a client is the route's profile's.

use std::borrow::Cow;
use std::time::Duration;

use prost::Message;
use proto::rpc::RetryInfo;
use resilience::overload::Priority;
use transcode::{Code, Failure, RequestError, WireError};

use crate::edge::Refusal;
use crate::upstream::{CallError, Reply};

/// Why a request was not answered with a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    /// No route takes the path.
    #[error("no route takes {0}")]
    NotFound(String),
    /// A route takes the path, or may take it, but how is not known yet.
    #[error("waiting for {0}")]
    DescriptorsUnknown(String),
    /// Routes take the path, but none with this method.
    #[error("{method} is not allowed here; allowed: {allow}")]
    MethodNotAllowed {
        /// The method that was tried.
        method: String,
        /// The value of `Allow`.
        allow: String,
    },
    /// The route's method streams, and the cluster that is to answer speaks HTTP.
    #[error("{method} streams, which clusters that speak HTTP do not: {cluster}")]
    StreamOverHttp {
        /// The method.
        method: String,
        /// The cluster.
        cluster: String,
    },
    /// The route hands calls of gRPC on, and the request is none.
    #[error(
        "this route takes gRPC, gRPC-Web and Connect: a POST whose content-type is application/grpc, application/grpc-web, application/proto, or JSON for methods whose descriptor is known"
    )]
    NotGrpc,
    /// The client compresses messages in a way that is not read here, or does not say in which.
    #[error("messages are compressed, but not said to be gzip, br or zstd, which are read here")]
    Compressed,
    /// The body is encoded in a way that is not read here.
    #[error("the body's content-encoding is none of gzip, br and zstd")]
    UnknownCoding,
    /// The body is no stream of messages.
    #[error("body: {0}")]
    Elements(String),
    /// The edge refused the request.
    #[error("{}", .0.reason())]
    Refused(Refusal),
    /// The route's rate limit refuses it; it would pass in so many seconds.
    #[error("more requests than this route lets in; one would pass in {0} s")]
    RateLimited(u64),
    /// The route's rate limit cannot be asked, and its choice is to refuse then.
    #[error("the store of this route's rate limit is away")]
    RateStoreAway,
    /// The gateway has too much to do, and requests of this priority are turned away.
    #[error("the gateway has too much to do: requests of {} priority are turned away", .0.as_str())]
    Shed(Priority),
    /// The request does not fit the method's message.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// The call ended without a reply of a backend.
    #[error("{0}")]
    Call(#[from] CallError),
    /// The backend answered with a status other than OK.
    #[error("{}", .0.message)]
    Backend(Box<Reply>),
    /// A backend that speaks HTTP broke off before it answered.
    #[error("the backend broke off: {0}")]
    Broken(String),
    /// The route answers some requests with this status, to see what comes of it.
    #[error("a fault that the route injects")]
    FaultInjected(u16),
    /// A backend that speaks HTTP answered something else.
    #[error("the backend's answer is not HTTP: {0}")]
    Garbled(String),
    /// A backend that speaks HTTP answered this status, and no further try came to an answer.
    #[error("the backend answered with status {0}")]
    Status(u16),
    /// The backend's message cannot be read with the descriptors that are known.
    #[error("the backend's answer does not fit its descriptor: {0}")]
    Answer(#[from] WireError),
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The client's: it has to send something else.
    Caller,
    /// A backend's, or the way to it.
    Upstream,
    /// The configuration's, or a lack of room in the gateway.
    Gateway,
    /// Nobody's: there is more to do than fits. A state, which is told when it changes, and counted.
    Load,
}

impl GatewayError {
    /// The gRPC code that a client library would report.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::NotFound(_) => Code::NotFound as u32,
            Self::MethodNotAllowed { .. } => Code::Unimplemented as u32,
            Self::StreamOverHttp { .. } | Self::Compressed => Code::Unimplemented as u32,
            Self::NotGrpc | Self::UnknownCoding | Self::Elements(_) => Code::InvalidArgument as u32,
            Self::Refused(refusal) => refusal_code(*refusal) as u32,
            Self::RateLimited(_) => Code::ResourceExhausted as u32,
            Self::RateStoreAway | Self::Shed(_) | Self::DescriptorsUnknown(_) => {
                Code::Unavailable as u32
            }
            Self::Request(_) => Code::InvalidArgument as u32,
            Self::Call(error) => error.grpc_code(),
            Self::Backend(reply) => reply.code,
            Self::Broken(_) | Self::Garbled(_) => Code::Unavailable as u32,
            Self::Status(status) => code_of_status(*status) as u32,
            Self::FaultInjected(status) => code_of_status(*status) as u32,
            Self::Answer(_) => Code::Internal as u32,
        }
    }

    /// The fixed word; empty for a backend's own status.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "NOT_FOUND",
            Self::DescriptorsUnknown(_) => "DESCRIPTORS_UNKNOWN",
            Self::MethodNotAllowed { .. } => "METHOD_NOT_ALLOWED",
            Self::StreamOverHttp { .. } => "STREAMS_NOT_SUPPORTED",
            Self::NotGrpc => "NOT_GRPC",
            Self::UnknownCoding => "UNKNOWN_CODING",
            Self::Compressed => "COMPRESSION_NOT_SUPPORTED",
            Self::Elements(_) => "INVALID_REQUEST",
            Self::Refused(refusal) => refusal_reason(*refusal),
            Self::RateLimited(_) => "RATE_LIMITED",
            Self::RateStoreAway => "RATE_LIMIT_UNAVAILABLE",
            Self::Shed(_) => "OVERLOADED",
            Self::Request(_) => "INVALID_REQUEST",
            Self::Call(error) => call_reason(error),
            Self::Backend(_) => "",
            Self::Broken(_) => "UPSTREAM_CONNECTION_LOST",
            Self::Garbled(_) => "MALFORMED_UPSTREAM_RESPONSE",
            Self::Status(_) => "UPSTREAM_STATUS",
            Self::FaultInjected(_) => "FAULT_INJECTED",
            Self::Answer(_) => "MALFORMED_UPSTREAM_RESPONSE",
        }
    }

    /// Whose fault it is.
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::NotFound(_)
            | Self::MethodNotAllowed { .. }
            | Self::NotGrpc
            | Self::UnknownCoding
            | Self::Compressed
            | Self::Elements(_)
            | Self::Request(_) => Blame::Caller,
            Self::StreamOverHttp { .. } => Blame::Gateway,
            // A state, which the log has told.
            Self::DescriptorsUnknown(_) => Blame::Load,
            Self::Shed(_) | Self::RateStoreAway | Self::Call(CallError::Overloaded) => Blame::Load,
            Self::Refused(Refusal::TooManyConnections) => Blame::Gateway,
            Self::Refused(_) | Self::RateLimited(_) => Blame::Caller,
            // Nobody's, but nothing that the log has to tell of every time.
            Self::FaultInjected(_) => Blame::Caller,
            Self::Call(_)
            | Self::Backend(_)
            | Self::Broken(_)
            | Self::Garbled(_)
            | Self::Status(_)
            | Self::Answer(_) => Blame::Upstream,
        }
    }

    /// In how many seconds it may be worth to try again, where it is at all.
    pub(crate) fn retry_after(&self) -> u64 {
        match self {
            Self::RateLimited(seconds) => (*seconds).max(1),
            Self::Call(CallError::CircuitOpen { opens_in, .. }) => (*opens_in
                + Duration::from_nanos(999_999_999))
            .as_secs()
            .max(1),
            Self::Backend(reply) => reply.details.as_deref().and_then(retry_delay).unwrap_or(1),
            _ => 1,
        }
    }

    /// Whether a backend found fault with what the caller sent: nothing that an operator has to look at.
    pub(crate) fn is_callers_own(&self) -> bool {
        matches!(self, Self::Backend(reply) if reply.is_callers_own())
    }

    /// Whether the time was up before there was an answer.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::Call(CallError::DeadlineExceeded))
    }

    /// What a profile needs to word it; `message` is this error's text.
    pub(crate) fn failure<'a>(&'a self, message: &'a Cow<'a, str>) -> Failure<'a> {
        Failure {
            code: self.code(),
            reason: self.reason(),
            http_status: self.http_status(),
            message,
            details: match self {
                Self::Backend(reply) => reply.details.as_deref(),
                _ => None,
            },
        }
    }

    /// The HTTP status where it does not follow from the gRPC code.
    pub(crate) fn http_status(&self) -> Option<u16> {
        match self {
            Self::MethodNotAllowed { .. } => Some(405),
            Self::NotGrpc | Self::UnknownCoding => Some(415),
            Self::Refused(refusal) => Some(refusal.status()),
            Self::RateLimited(_) => Some(429),
            Self::RateStoreAway | Self::Shed(_) => Some(503),
            Self::Broken(_) | Self::Garbled(_) => Some(502),
            Self::FaultInjected(status) | Self::Status(status) => Some(*status),
            _ => None,
        }
    }
}

/// The code by which google/rpc/code.proto would answer with this status.
fn code_of_status(status: u16) -> Code {
    match status {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Aborted,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        500 => Code::Internal,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        status if status < 500 => Code::FailedPrecondition,
        _ => Code::Unknown,
    }
}

fn refusal_code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::BadRequest(_) | Refusal::UriTooLong | Refusal::VersionNotSupported => {
            Code::InvalidArgument
        }
        Refusal::ExpectationFailed | Refusal::WebSocketVersion => Code::FailedPrecondition,
        Refusal::HeaderTooLarge | Refusal::BodyTooLarge | Refusal::TooManyConnections => {
            Code::ResourceExhausted
        }
        Refusal::HeaderTimeout | Refusal::BodyTimeout => Code::DeadlineExceeded,
        Refusal::NotImplemented(_) => Code::Unimplemented,
    }
}

fn refusal_reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::BadRequest(_) => "BAD_REQUEST",
        Refusal::HeaderTooLarge => "HEADER_TOO_LARGE",
        Refusal::UriTooLong => "URI_TOO_LONG",
        Refusal::BodyTooLarge => "BODY_TOO_LARGE",
        Refusal::HeaderTimeout | Refusal::BodyTimeout => "REQUEST_TIMEOUT",
        Refusal::ExpectationFailed => "EXPECTATION_FAILED",
        Refusal::NotImplemented(_) => "NOT_IMPLEMENTED",
        Refusal::VersionNotSupported => "VERSION_NOT_SUPPORTED",
        Refusal::WebSocketVersion => "WEBSOCKET_VERSION",
        Refusal::TooManyConnections => "TOO_MANY_CONNECTIONS",
    }
}

fn call_reason(error: &CallError) -> &'static str {
    match error {
        CallError::NoHealthyUpstream(_) => "NO_HEALTHY_UPSTREAM",
        CallError::CircuitOpen { .. } => "CIRCUIT_OPEN",
        CallError::Overloaded => "OVERLOADED",
        CallError::DeadlineExceeded | CallError::TryTimedOut { .. } => "DEADLINE_EXCEEDED",
        CallError::Connect { .. } => "CONNECT_FAILED",
        CallError::Refused { .. } => "REFUSED_STREAM",
        CallError::Reset(_) => "UPSTREAM_RESET",
        CallError::ConnectionLost(_) => "UPSTREAM_CONNECTION_LOST",
        CallError::NotGrpc { .. } => "UPSTREAM_NOT_GRPC",
        CallError::NoStatus | CallError::Malformed(_) => "MALFORMED_UPSTREAM_RESPONSE",
        CallError::TooLarge { .. } => "UPSTREAM_RESPONSE_TOO_LARGE",
        CallError::NotTriedAgain { error, .. } => call_reason(error),
    }
}

/// The delay of the `google.rpc.RetryInfo` in a status, in whole seconds, rounded up.
fn retry_delay(status: &[u8]) -> Option<u64> {
    let status = proto::rpc::Status::decode(status).ok()?;
    let mut details = status.details.iter();
    let info = details.find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = delay.seconds.saturating_add(i64::from(delay.nanos > 0));
    Some(u64::try_from(seconds).ok()?.max(1))
}
