//! The connection over which an endpoint is asked for its schema: HTTP/2 on hyper, apart from those of requests, closed when all has
//! been asked. Time is bounded by who asks, sizes are bounded here.

use std::net::SocketAddr;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::Failure;
use super::message::{Answer, Question};

/// Servers that log who asks can tell this from requests.
const AGENT: HeaderValue = HeaderValue::from_static("highpress-reflection");
/// So much one round may bring.
const MOST_BYTES: usize = 32 << 20;
/// Of a window, so that large answers do not wait for small updates of it.
const WINDOW: u32 = 1 << 20;
/// The flag for compression and the length.
const PREFIX: usize = 5;

pub(super) struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: String,
    driver: AbortHandle,
}

impl Connection {
    pub(super) async fn open(to: SocketAddr, authority: &str) -> Result<Self, Failure> {
        let cannot =
            |why: &dyn std::fmt::Display| Failure::Connection(format!("cannot connect: {why}"));
        let stream = TcpStream::connect(to)
            .await
            .map_err(|error| cannot(&error))?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| cannot(&error))?;
        // How it ended is told to whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            sender,
            authority: authority.to_owned(),
            driver: driver.abort_handle(),
        })
    }

    /// One call with all of these questions, and its answers.
    pub(super) async fn round(
        &mut self,
        path: &str,
        questions: Vec<Question>,
    ) -> Result<Vec<Answer>, Failure> {
        let mut body = BytesMut::new();
        for question in questions {
            body.put_u8(0);
            body.put_u32(u32::try_from(question.encoded_len()).unwrap_or(u32::MAX));
            // Memory takes whatever is written to it.
            let _ = question.encode(&mut body);
        }
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.authority))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header(USER_AGENT, AGENT)
            .body(Full::new(body.freeze()))
            .map_err(|error| Failure::Connection(error.to_string()))?;
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let (body, trailers) = read(body).await?;
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        if head.status == 404 {
            // Servers of HTTP that know no gRPC, and proxies before them.
            let message = "HTTP 404".to_owned();
            return Err(Failure::Status {
                code: super::UNIMPLEMENTED,
                message,
            });
        }
        if head.status != 200 || !kind.starts_with(b"application/grpc") {
            return Err(Failure::Nonsense(format!(
                "HTTP {} that is no answer of gRPC",
                head.status.as_u16()
            )));
        }
        status(&trailers)
            .or_else(|| status(&head.headers))
            .unwrap_or_else(|| {
                Err(Failure::Nonsense(
                    "an answer of gRPC without a status".to_owned(),
                ))
            })?;
        answers(body)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn read(mut body: Incoming) -> Result<(Bytes, HeaderMap), Failure> {
    let (mut read, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| broken(&error))?.into_data() {
            Ok(data) if read.len() + data.len() > MOST_BYTES => {
                let most = MOST_BYTES >> 20;
                return Err(Failure::Nonsense(format!("it says more than {most} MiB")));
            }
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((read.freeze(), trailers))
}

/// What a status says, if there is one.
fn status(fields: &HeaderMap) -> Option<Result<(), Failure>> {
    let code: u32 = fields.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    if code == 0 {
        return Some(Ok(()));
    }
    let message = fields
        .get("grpc-message")
        .and_then(|text| text.to_str().ok());
    let message = message.unwrap_or_default().to_owned();
    Some(Err(Failure::Status { code, message }))
}

fn answers(mut body: Bytes) -> Result<Vec<Answer>, Failure> {
    let nonsense = |why: &str| Failure::Nonsense(why.to_owned());
    let mut answers = Vec::new();
    while !body.is_empty() {
        if body.len() < PREFIX {
            return Err(nonsense("an answer that breaks off"));
        }
        if body.get_u8() != 0 {
            return Err(nonsense(
                "an answer that is compressed, which nobody asked for",
            ));
        }
        let length = body.get_u32() as usize;
        if body.len() < length {
            return Err(nonsense("an answer that breaks off"));
        }
        let message = body.split_to(length);
        let answer = Answer::decode(message);
        answers
            .push(answer.map_err(|error| nonsense(&format!("no answer of reflection: {error}")))?);
    }
    Ok(answers)
}

fn broken(error: &hyper::Error) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Failure::Connection(format!(
        "the connection broke: {error}{}",
        cause.unwrap_or_default()
    ))
}
