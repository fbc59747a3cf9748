//! The door: listeners, worker threads, and sessions of HTTP/1.1 and HTTP/2.
//!
//! The edge knows the wire and its limits, and nothing of routes: it reads and strictly validates a
//! request head, asks the [`Service`] for a [`Lane`], and then answers at once, reads the body and
//! runs a unary call, lets a stream read and write piece by piece, or hands the untouched bytes to pingora. Requests that can be understood in
//! two ways (RFC 9112 section 11.2, RFC 9113 section 8.1.1) are refused, and the connection closed.
//!
//! Paths are passed on as they were sent: dot segments and percent-encoding are the router's.

mod alarm;
mod answer;
mod begin;
mod chunked;
mod client;
mod connections;
mod grammar;
mod head;
mod heartbeat;
mod http1;
mod http2;
mod limits;
mod parse;
mod refusal;
mod socket;
mod timer;
mod websocket;
mod workers;

#[cfg(test)]
mod tests;

use std::future::Future;

use http::Method;
use pingora_core::apps::ReusedHttpStream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;

pub use alarm::Alarm;
pub use answer::{Answer, Headers, Length};
pub use client::{Client, Gone, ReadError};
pub use head::{Head, HeadHeaders};
pub use limits::EdgeLimits;
pub use refusal::Refusal;
pub use workers::{Edge, ListenerOptions, Protocols, Running, Stats};

/// What stands behind the door. One value serves all workers.
pub trait Service: Send + Sync + 'static {
    /// What [`Service::route`] found out and the call needs.
    type Call: Send + 'static;

    /// Decides what to do with a request before its body is read.
    fn route(&self, worker: usize, head: &Head) -> Lane<Self::Call>;

    /// Runs a call whose whole body is there. The future is dropped when the client goes away.
    fn unary(
        &self,
        worker: usize,
        call: Self::Call,
        head: &Head,
        body: &[u8],
    ) -> impl Future<Output = Answer> + Send;

    /// Runs a call whose bodies go piece by piece. It gives an answer that is whole as long as it has not begun
    /// one with `client`; for a WebSocket, also one that tells of a failure after that. The future is not dropped before it ends: it has to watch for a client that goes away.
    fn stream(
        &self,
        worker: usize,
        call: Self::Call,
        head: &Head,
        client: &mut dyn Client,
    ) -> impl Future<Output = Option<Answer>> + Send;

    /// Serves a request on pingora's pipeline; `Some` when the connection can take another one.
    /// `HttpProxy::process_new_http` is made for this. A reload between `route` and the proxy's own
    /// callbacks cannot matter if `call` is given on as the session's user context. The session's reads
    /// fail once `alarm` has struck.
    fn pass_through(
        &self,
        worker: usize,
        call: Self::Call,
        session: ServerSession,
        alarm: Alarm,
        drain: &ShutdownWatch,
    ) -> impl Future<Output = Option<ReusedHttpStream>> + Send;

    /// Words an error that the edge found by itself. `head` is there if it could be read.
    fn refuse(&self, worker: usize, head: Option<&Head>, refusal: Refusal) -> Answer;
}

/// Where a request goes.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once, from `route` to the session"
)]
pub enum Lane<C> {
    /// Answered here; a body, if one comes, is discarded.
    Answer(Answer),
    /// The body, at most `max_body` bytes of it, is read and given to [`Service::unary`].
    Unary {
        /// Given on to the call.
        call: C,
        /// More than this is refused with [`Refusal::BodyTooLarge`].
        max_body: usize,
    },
    /// The body is read, and the answer written, by [`Service::stream`].
    Stream {
        /// Given on to the call.
        call: C,
    },
    /// The connection becomes a WebSocket whose messages are read and written by [`Service::stream`]. Only for a head that
    /// asks for it ([`Head::wants_websocket`]).
    WebSocket(Box<Upgrade<C>>),
    /// The request goes through pingora, untouched, its body as it comes.
    PassThrough {
        /// Given on to [`Service::pass_through`].
        call: C,
    },
}

/// What becomes of a request for a WebSocket.
#[derive(Debug)]
pub struct Upgrade<C> {
    /// Given on to the call.
    pub call: C,
    /// What stands in the head that accepts it.
    pub headers: Headers,
    /// The method that the request counts as.
    pub method: Method,
    /// The query parameter that said so, which is not the call's.
    pub parameter: Option<&'static str>,
    /// A larger message is refused with [`Refusal::BodyTooLarge`].
    pub max_message: usize,
    /// What the call writes is text.
    pub text: bool,
    /// A client that closes as one does who is done has ended its request, and the call goes on; else it is as if it had gone away.
    pub ends_by_close: bool,
}
