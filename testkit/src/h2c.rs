//! A small HTTP/2 client without TLS (prior knowledge), with unary gRPC on top.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;

use crate::http1::Response;
use crate::wait::{PATIENCE, within};

/// One connection; clones share it.
#[derive(Debug, Clone)]
pub struct H2c {
    streams: SendRequest<Bytes>,
    address: SocketAddr,
}

/// The outcome of a unary gRPC call.
#[derive(Debug, Clone)]
pub struct GrpcReply {
    /// `grpc-status`.
    pub code: u32,
    /// `grpc-message`, as sent.
    pub message: String,
    /// Response headers.
    pub headers: HeaderMap,
    /// Trailers; the headers again if that was all there was.
    pub trailers: HeaderMap,
    /// The message, without its prefix; empty if there was none.
    pub body: Bytes,
}

impl H2c {
    /// Opens a connection.
    ///
    /// # Panics
    /// When it is refused, or the peer does not speak HTTP/2.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .unwrap_or_else(|why| panic!("cannot connect to {address}: {why}"));
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        let shaken = within(
            &format!("HTTP/2 of {address}"),
            PATIENCE,
            h2::client::handshake(stream),
        )
        .await;
        let (streams, connection) =
            shaken.unwrap_or_else(|why| panic!("no HTTP/2 at {address}: {why}"));
        tokio::spawn(connection);
        Self { streams, address }
    }

    /// One request, its answer read to the end (trailers are added to the headers).
    ///
    /// # Panics
    /// When there is no complete answer in time.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let answer = within(
            &format!("{method} {path}"),
            PATIENCE,
            self.exchange(method, path, headers, body),
        )
        .await;
        let (head, body, trailers) = answer.unwrap_or_else(|why| panic!("{method} {path}: {why}"));
        let fields = head.headers.iter().chain(&trailers);
        let headers = fields.map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        Response {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: body.to_vec(),
        }
    }

    /// A unary gRPC call: `path` is `/package.Service/Method`, `message` the encoded request.
    ///
    /// # Panics
    /// When there is no complete answer in time, or it is not gRPC.
    pub async fn grpc(&self, path: &str, metadata: &[(&str, &str)], message: &[u8]) -> GrpcReply {
        let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
        headers.extend(metadata);
        let answer = within(
            path,
            PATIENCE,
            self.exchange("POST", path, &headers, &frame(message)),
        )
        .await;
        let (head, body, mut trailers) = answer.unwrap_or_else(|why| panic!("{path}: {why}"));
        if trailers.is_empty() {
            trailers.clone_from(&head.headers);
        }
        let field = |name| {
            trailers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let code = field("grpc-status")
            .parse()
            .unwrap_or_else(|_| panic!("{path}: no grpc-status in {head:?} {trailers:?}"));
        let message = field("grpc-message").to_owned();
        let body = if body.is_empty() {
            body
        } else {
            unframe(&body)
        };
        GrpcReply {
            code,
            message,
            headers: head.headers,
            trailers,
            body,
        }
    }

    /// Begins a request whose body goes piece by piece, and whose answer comes so.
    ///
    /// # Panics
    /// When the connection takes no request.
    pub async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> H2Call {
        let ready = within("a stream", PATIENCE, self.streams.clone().ready()).await;
        let mut streams = ready.expect("the connection takes a request");
        let begun = streams.send_request(self.head(method, path, headers), false);
        let (answer, sending) = begun.expect("the connection takes a request");
        H2Call {
            answer: Some(answer),
            sending,
            receiving: None,
        }
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a test's request is well-formed")
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(http::response::Parts, Bytes, HeaderMap), h2::Error> {
        let request = self.head(method, path, headers);
        let mut streams = self.streams.clone().ready().await?;
        let (answer, mut sending) = streams.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            sending.send_data(Bytes::copy_from_slice(body), true)?;
        }
        let (head, mut receiving) = answer.await?.into_parts();
        let mut received = BytesMut::new();
        while let Some(piece) = receiving.data().await {
            let piece = piece?;
            receiving.flow_control().release_capacity(piece.len())?;
            received.extend_from_slice(&piece);
        }
        let trailers = receiving.trailers().await?.unwrap_or_default();
        Ok((head, received.freeze(), trailers))
    }
}

/// A request under way. Dropped, it is cancelled.
#[derive(Debug)]
pub struct H2Call {
    answer: Option<ResponseFuture>,
    sending: SendStream<Bytes>,
    receiving: Option<RecvStream>,
}

impl H2Call {
    /// Sends a piece of the body.
    ///
    /// # Panics
    /// When the stream is over.
    pub fn send(&mut self, piece: &[u8], end: bool) {
        let sent = self.sending.send_data(Bytes::copy_from_slice(piece), end);
        sent.expect("the stream takes data");
    }

    /// Sends a message of gRPC.
    pub fn message(&mut self, message: &[u8], end: bool) {
        self.send(&frame(message), end);
    }

    /// Waits for the head of the answer.
    ///
    /// # Panics
    /// When there is none in time, or it has been waited for.
    pub async fn head(&mut self) -> http::response::Parts {
        let answer = self.answer.take().expect("an answer has one head");
        let answer = within("the head of an answer", PATIENCE, answer).await;
        let (head, receiving) = answer.expect("an answer").into_parts();
        self.receiving = Some(receiving);
        head
    }

    /// The next piece of the answer's body; `None` at its end.
    ///
    /// # Panics
    /// When nothing comes in time, or the stream breaks.
    pub async fn piece(&mut self) -> Option<Bytes> {
        let piece = self.try_piece().await?;
        Some(piece.unwrap_or_else(|reason| panic!("the stream broke: {reason:?}")))
    }

    /// The same, or why the stream has broken.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub async fn try_piece(&mut self) -> Option<Result<Bytes, Option<Reason>>> {
        let receiving = self.receiving.as_mut().expect("the head comes first");
        let piece = within("a piece of an answer", PATIENCE, receiving.data()).await?;
        if let Ok(piece) = &piece {
            let _ = receiving.flow_control().release_capacity(piece.len());
        }
        Some(piece.map_err(|error| error.reason()))
    }

    /// The trailers, after the last piece; empty if there are none.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn trailers(&mut self) -> HeaderMap {
        let receiving = self.receiving.as_mut().expect("the head comes first");
        let trailers = within("trailers", PATIENCE, receiving.trailers()).await;
        trailers.expect("an end").unwrap_or_default()
    }
}

/// A message with gRPC's five-byte prefix.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("a test's message is below 4 GiB"));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The only message of a unary body.
pub(crate) fn unframe(body: &[u8]) -> Bytes {
    let (prefix, message) = body
        .split_at_checked(5)
        .unwrap_or_else(|| panic!("no gRPC prefix in {body:?}"));
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    assert_eq!(
        (prefix[0], length),
        (0, message.len()),
        "not one uncompressed message"
    );
    Bytes::copy_from_slice(message)
}
