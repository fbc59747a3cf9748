//! What a client may take of this process, in bytes, counts and time.
//!
//! Every limit holds from the first connection on; none can be switched off, only widened.

use std::time::Duration;

use service_kit::Patience;

/// The limits of the edge. The defaults are safe on an open port.
#[derive(Debug, Clone)]
pub struct EdgeLimits {
    /// Open connections over all workers; one more is answered 503 and closed.
    pub connections: usize,
    /// Bytes of a request line and header section, or of a decoded HTTP/2 header list.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub header_count: usize,
    /// Bytes of a request target.
    pub uri_bytes: usize,
    /// Bytes of a body that nobody wants which are read so that the connection can be kept.
    pub discard_bytes: usize,
    /// Bytes of further requests that are taken in while one is being answered.
    pub pipelined_bytes: usize,
    /// From its first byte (a connection's first request: from the connection) to the end of a head.
    pub header_timeout: Duration,
    /// From the end of a head to the end of its body.
    pub body_timeout: Duration,
    /// Between requests on a connection that is kept open.
    pub idle_timeout: Duration,
    /// For an answer to be taken by the client, beyond what `min_write_rate` allows for its size.
    pub write_timeout: Duration,
    /// Bytes per second that a reader must take, on average, once `write_timeout` has passed.
    pub min_write_rate: u32,
    /// From the start of a drain until what is left is cut.
    pub drain_timeout: Patience,
    /// Concurrent streams of an HTTP/2 connection.
    pub streams: u32,
    /// Streams that a client may reset on one connection while they are most of its streams.
    pub stream_resets: u32,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            header_bytes: 32 * 1024,
            header_count: 100,
            uri_bytes: 8 * 1024,
            discard_bytes: 64 * 1024,
            pipelined_bytes: 64 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            min_write_rate: 4 * 1024,
            drain_timeout: Duration::from_secs(30).into(),
            streams: 128,
            stream_resets: 100,
        }
    }
}

impl EdgeLimits {
    /// How long a client may take for an answer of which it has taken `sent` bytes.
    pub(super) fn write_allowance(&self, sent: usize) -> Duration {
        self.write_timeout
            + Duration::from_secs(sent as u64 / u64::from(self.min_write_rate.max(1)))
    }

    /// The shortest of the timeouts that a connection's timer serves.
    pub(super) fn shortest_timeout(&self) -> Duration {
        self.header_timeout
            .min(self.body_timeout)
            .min(self.idle_timeout)
            .min(self.write_timeout)
    }
}
