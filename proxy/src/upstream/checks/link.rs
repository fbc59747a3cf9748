//! The connection over which one endpoint is checked: kept open from check to check, HTTP/1.1 or HTTP/2, on hyper.
//!
//! It is apart from the workers' connections, so that a check neither waits for requests nor makes them wait. A kept
//! connection that turns out to be closed is replaced within the check. Refused: answers without end.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::outcome::Failure;

/// So much of an answer's body is read.
const MOST_BODY: usize = 64 << 10;
/// So much header an answer may have.
const MOST_HEAD: usize = 32 << 10;
const MOST_HEADERS: usize = 100;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A connection that may be there.
#[derive(Debug, Default)]
pub(super) struct Link(Option<Open>);

#[derive(Debug)]
struct Open {
    to: SocketAddr,
    version: Version,
    sender: Sender,
    driver: Driver,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// The task that moves the bytes; the connection ends with it.
#[derive(Debug)]
struct Driver(AbortHandle);

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

/// Why there is none.
enum Broken {
    /// Before anything of it came: a kept connection may have been closed meanwhile.
    Early(Failure),
    Late(Failure),
}

// === impl Link ===

impl Link {
    /// Asks, over the connection that is there or a new one. Dropping the future closes the connection.
    pub(super) async fn ask(
        &mut self,
        to: SocketAddr,
        version: Version,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        let kept = self.0.take();
        if let Some(mut kept) = kept.filter(|kept| kept.fits(to, version)) {
            match kept.exchange(request.clone()).await {
                Ok(answer) => return Ok(self.keep(kept, answer)),
                Err(Broken::Late(failure)) => return Err(failure),
                Err(Broken::Early(_)) => {}
            }
        }
        let mut open = Open::new(to, version).await?;
        match open.exchange(request).await {
            Ok(answer) => Ok(self.keep(open, answer)),
            Err(Broken::Early(failure) | Broken::Late(failure)) => Err(failure),
        }
    }

    /// No connection any more.
    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    /// The connection is good for another check, if all of the answer has been read.
    fn keep(&mut self, open: Open, (answer, whole): (Answer, bool)) -> Answer {
        self.0 = whole.then_some(open);
        answer
    }
}

// === impl Open ===

impl Open {
    async fn new(to: SocketAddr, version: Version) -> Result<Self, Failure> {
        let stream = connect(to).await?;
        let io = TokioIo::new(stream);
        let (sender, driver) = match version {
            Version::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .max_buf_size(MOST_HEAD)
                    .max_headers(MOST_HEADERS)
                    .handshake(io)
                    .await
                    .map_err(|error| unreachable(&error))?;
                // How it ended is told to whoever waits for an answer.
                let driver = tokio::spawn(async move { drop(connection.await) });
                (Sender::Http1(sender), driver)
            }
            Version::Http2 => {
                let window = u32::try_from(MOST_BODY).unwrap_or(u32::MAX);
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(window)
                    .initial_connection_window_size(window)
                    .max_header_list_size(u32::try_from(MOST_HEAD).unwrap_or(u32::MAX))
                    .handshake(io)
                    .await
                    .map_err(|error| unreachable(&error))?;
                let driver = tokio::spawn(async move { drop(connection.await) });
                (Sender::Http2(sender), driver)
            }
        };
        Ok(Self {
            to,
            version,
            sender,
            driver: Driver(driver.abort_handle()),
        })
    }

    fn fits(&self, to: SocketAddr, version: Version) -> bool {
        let closed = match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        };
        self.to == to && self.version == version && !closed && !self.driver.0.is_finished()
    }

    /// The answer, and whether all of it has been read.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<(Answer, bool), Broken> {
        let early = |error: hyper::Error| Broken::Early(unreachable(&error));
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(early)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(early)?;
                sender.send_request(request).await
            }
        };
        let response = response.map_err(|error| match error.is_parse() {
            true => Broken::Late(Failure::Answer(format!(
                "no answer of HTTP: {}",
                said(&error)
            ))),
            false => Broken::Early(unreachable(&error)),
        })?;
        let (head, body) = response.into_parts();
        let (body, trailers, whole) = read(body).await.map_err(Broken::Late)?;
        let answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            trailers,
        };
        Ok((answer, whole))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// As much of the body as is wanted, what follows it, and whether that is all.
async fn read(mut body: Incoming) -> Result<(Bytes, HeaderMap, bool), Failure> {
    let (mut read, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreachable(&error))?;
        match frame.into_data() {
            Ok(data) if read.len() + data.len() > MOST_BODY => {
                return Ok((read.freeze(), trailers, false));
            }
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((read.freeze(), trailers, true))
}

/// A connection of TCP.
pub(super) async fn connect(to: SocketAddr) -> Result<TcpStream, Failure> {
    let failed = |error: io::Error| Failure::Unreachable(format!("cannot connect: {error}"));
    let stream = TcpStream::connect(to).await.map_err(failed)?;
    // Only latency is lost without it.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn unreachable(error: &hyper::Error) -> Failure {
    Failure::Unreachable(format!("the connection broke: {}", said(error)))
}

/// An error with what lies below it.
fn said(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        text = format!("{text}: {error}");
        below = error.source();
    }
    text
}
