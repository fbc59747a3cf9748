//! One HTTP/1.1 connection to Consul, on hyper, over TCP or TLS. It ends when it is dropped, with whatever was under way on it.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::address::Address;
use crate::error::Error;
use crate::tls::Tls;

/// A host that does not answer must not hold up anybody for long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// From the head of an answer to its end: however slowly it trickles.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The health of 10,000 instances fits three times.
pub(crate) const MAX_BODY: usize = 64 << 20;
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

/// The task that moves the bytes.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What became of a request.
pub(crate) enum Sent {
    /// It was answered.
    Answered(Response<Incoming>),
    /// The connection had closed before anything of it was written: nobody can have seen it.
    Unsent(http::Request<Full<Bytes>>),
    /// Anything else.
    Failed(Error),
}

impl Connection {
    pub(crate) async fn open(address: &Address, tls: &Tls) -> Result<Self, Error> {
        let connecting = async {
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            // Only latency is lost without it.
            let _ = stream.set_nodelay(true);
            if !address.is_tls() {
                return Self::over(stream).await;
            }
            let wrong = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
            let name = tls.server_name(address.host()).map_err(wrong)?;
            let connector = TlsConnector::from(tls.config().map_err(wrong)?);
            Self::over(connector.connect(name, stream).await?).await
        };
        let failed = |why: String| Error::Connect {
            address: address.to_string().into(),
            why: why.into(),
        };
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| failed(format!("no connection within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| failed(error.to_string()))
    }

    async fn over<S>(stream: S) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // How it ended is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            driver: Driver(driver.abort_handle()),
        })
    }

    /// Whether it looks as if it could carry another request.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.driver.0.is_finished()
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(&mut self, request: http::Request<Full<Bytes>>) -> Sent {
        if self.sender.ready().await.is_err() {
            return Sent::Unsent(request);
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => Sent::Answered(response),
            Err(mut error) => match error.take_message() {
                Some(request) => Sent::Unsent(request),
                None => Sent::Failed(Error::Broken(reason(error.error()).into())),
            },
        }
    }
}

/// The whole body, bounded in size and time.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, Error> {
    let reading = read_within(body, MAX_BODY);
    timeout(BODY_TIMEOUT, reading)
        .await
        .unwrap_or(Err(Error::Timeout {
            what: "end of the answer",
            after: BODY_TIMEOUT,
        }))
}

async fn read_within(mut body: Incoming, limit: usize) -> Result<Bytes, Error> {
    let too_long = Error::TooLong { limit };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long);
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Broken(reason(&error).into()))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > limit {
                return Err(too_long);
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// An error of hyper with what lies below it.
fn reason(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        text = format!("{text}: {error}");
        below = error.source();
    }
    text
}
