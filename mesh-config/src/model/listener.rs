//! The doors of the gateway and what each of them lets in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use super::{ByteSize, Timeout};

/// One address on which clients are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it binds; port 0 lets the system choose.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocols: Protocols,
    /// What one client may ask of it.
    pub limits: EdgeLimits,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            protocols: Protocols::default(),
            limits: EdgeLimits::default(),
        }
    }
}

/// What is spoken on a listener: at least one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 (and 1.0).
    pub http1: bool,
    /// HTTP/2 without TLS, with prior knowledge.
    pub h2c: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            http1: true,
            h2c: true,
        }
    }
}

/// What one client may ask of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeLimits {
    /// From the first byte of a request to the end of its header.
    pub header_timeout: Timeout,
    /// From the end of the header to the end of a body that is read whole before it is answered (transcoded
    /// routes); between two reads of a body that is passed through.
    pub body_timeout: Timeout,
    /// For the client to take an answer that waits for it.
    pub write_timeout: Timeout,
    /// How long a connection without a request is kept.
    pub idle_timeout: Timeout,
    /// All header lines of a request together.
    pub max_header_bytes: ByteSize,
    /// Header lines of a request.
    pub max_headers: NonZeroUsize,
    /// Path and query of a request.
    pub max_uri: ByteSize,
    /// A request's body, whatever its route allows.
    pub max_body: ByteSize,
    /// Open connections of all listeners together.
    pub max_connections: NonZeroUsize,
    /// Concurrent streams of one HTTP/2 connection.
    pub max_streams: NonZeroUsize,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        const HEADERS: NonZeroUsize = NonZeroUsize::new(100).unwrap();
        const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
        const STREAMS: NonZeroUsize = NonZeroUsize::new(128).unwrap();
        Self {
            header_timeout: Timeout::from_secs::<10>(),
            body_timeout: Timeout::from_secs::<30>(),
            write_timeout: Timeout::from_secs::<30>(),
            idle_timeout: Timeout::from_secs::<60>(),
            max_header_bytes: ByteSize::from_kib::<32>(),
            max_headers: HEADERS,
            max_uri: ByteSize::from_kib::<8>(),
            max_body: ByteSize::from_kib::<{ 64 * 1024 }>(),
            max_connections: CONNECTIONS,
            max_streams: STREAMS,
        }
    }
}

/// The operators' door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    /// Where it binds; loopback unless the file says otherwise.
    pub address: SocketAddr,
    /// Whether it has the OpenAPI document and the page that tries requests out.
    pub openapi: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901),
            openapi: true,
        }
    }
}
