//! Errors that the edge finds by itself, before or instead of a call.
//!
//! The words are fixed: they go into metrics and logs. How they look to a client is the service's
//! affair ([`crate::edge::Service::refuse`]).

/// Why the edge refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request is not HTTP, or can be read in two ways. The text says what is wrong.
    BadRequest(&'static str),
    /// The header section has too many bytes or too many fields.
    HeaderTooLarge,
    /// The request target is too long.
    UriTooLong,
    /// The body is longer than its lane takes.
    BodyTooLarge,
    /// The header section was not complete in time.
    HeaderTimeout,
    /// The body was not complete in time.
    BodyTimeout,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// A method or transfer coding that this server does not speak. The text says which.
    NotImplemented(&'static str),
    /// An HTTP version other than 1.0 and 1.1 in a request line.
    VersionNotSupported,
    /// A version of WebSocket other than 13.
    WebSocketVersion,
    /// More connections than the limit.
    TooManyConnections,
}

impl Refusal {
    /// The HTTP status that fits.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::HeaderTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::UriTooLong => 414,
            Self::ExpectationFailed => 417,
            Self::WebSocketVersion => 426,
            Self::HeaderTooLarge => 431,
            Self::NotImplemented(_) => 501,
            Self::TooManyConnections => 503,
            Self::VersionNotSupported => 505,
        }
    }

    /// A fixed word for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::ExpectationFailed => "expectation_failed",
            Self::HeaderTooLarge => "header_too_large",
            Self::NotImplemented(_) => "not_implemented",
            Self::WebSocketVersion => "websocket_version",
            Self::TooManyConnections => "too_many_connections",
            Self::VersionNotSupported => "version_not_supported",
        }
    }

    /// What is wrong, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(why) | Self::NotImplemented(why) => why,
            Self::HeaderTimeout => "the request header was not complete in time",
            Self::BodyTimeout => "the request body was not complete in time",
            Self::BodyTooLarge => "the request body is too large",
            Self::UriTooLong => "the request target is too long",
            Self::ExpectationFailed => "only the expectation 100-continue is understood",
            Self::HeaderTooLarge => "the request header is too large or has too many fields",
            Self::WebSocketVersion => "the only version of WebSocket here is 13",
            Self::TooManyConnections => "too many connections",
            Self::VersionNotSupported => "only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here",
        }
    }
}
