//! The gRPC port: HTTP/2 on hyper, with tonic's generated services behind it.
//!
//! Connections are served by hyper directly rather than by tonic's transport, so that a spent `grpc-timeout` is answered
//! DEADLINE_EXCEEDED (tonic says CANCELLED), every answer is counted with its code, and a drain has a deadline. It
//! refuses what is not gRPC with 415. Protocol: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

mod streams;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use service_kit::metrics::{GrpcMethod, GrpcMetrics};
use service_kit::{Drain, Patience};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use self::streams::Streams;
use crate::dispatch::{Dispatch, Method};
use crate::unary::Answer;
use service_kit::deadline::grpc_timeout;

/// Streams at a time on one connection: a gateway multiplexes all its calls over a few.
const MAX_STREAMS: u32 = 4096;
/// Receive windows. Requests are small, but many share a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// HTTP/2 pings find out that a peer hangs, TCP keepalive that it is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Pause when the process cannot take another connection: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The gRPC server before it listens.
#[derive(Clone)]
pub(crate) struct Server {
    dispatch: Dispatch,
    metrics: GrpcMetrics,
    increments: Arc<GrpcMethod>,
}

impl Server {
    pub(crate) fn new(dispatch: Dispatch, metrics: GrpcMetrics) -> Self {
        let increment = Method::Increment;
        let increments = metrics.method(increment.service(), increment.name());
        Self {
            dispatch,
            metrics,
            increments,
        }
    }

    /// Serves until the drain begins, then lets calls finish for `drain_timeout` at most.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        drain: &Drain,
        drain_timeout: &Patience,
    ) {
        let server = Arc::new(self);
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = drain.begun() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(server.clone().connection(stream, graceful.watcher()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        // Closed at once, so that new callers are refused instead of left waiting.
        drop(listener);
        if timeout(drain_timeout.get(), graceful.shutdown())
            .await
            .is_err()
        {
            while connections.try_join_next().is_some() {}
            tracing::warn!(
                connections = connections.len(),
                "drain deadline passed: closing connections with calls in flight"
            );
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, watcher: Watcher) {
        if let Err(error) = set_options(&stream) {
            tracing::debug!(%error, "cannot set socket options");
        }
        let service = service_fn(move |request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let streams = Streams::default();
        let connection =
            http2_builder(streams.clone()).serve_connection(TokioIo::new(stream), service);
        if let Err(error) = streams.run(watcher.watch(connection)).await {
            tracing::debug!(%error, "connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        if !is_grpc(request.headers()) {
            let mut refused = Response::new(Answer::End);
            *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return refused;
        }
        let method = Method::of(request.uri().path());
        let call = match method {
            Method::Increment => self.increments.begin(),
            _ => self.metrics.begin(method.service(), method.name()),
        };
        let refuse = |status: Status| status.into_http().map(Answer::Tonic);
        let response = match grpc_timeout(request.headers()) {
            Ok(None) => self.dispatch.call(method, request).await,
            // A call whose time is up before it begins does nothing.
            Ok(Some(left)) if left.is_zero() => refuse(late()),
            Ok(Some(left)) => timeout(left, self.dispatch.call(method, request))
                .await
                .unwrap_or_else(|_| refuse(late())),
            Err(malformed) => refuse(Status::invalid_argument(malformed.to_string())),
        };
        call.end(code_of(&response));
        response
    }
}

fn late() -> Status {
    Status::deadline_exceeded("the caller's deadline passed before the answer was there")
}

fn http2_builder(streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_BYTES)
        // Nobody reads a date here.
        .auto_date_header(false)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// An error of a unary call stands in the headers; an answer without one there is OK (its trailers say so).
fn code_of(response: &Response<Answer>) -> u32 {
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    code as u32
}
