//! A gRPC backend that streams as the test's handler says: it takes and gives messages one by one, within the caller's
//! windows, and sees when the caller gives up. What is counted is what the caller's side let through.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use crate::accept::accept;
use crate::backend::framed;

/// The caller has reset the stream, or its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// One call, for the handler to run.
pub struct StreamCall {
    /// `/package.Service/Method`.
    pub path: String,
    /// Request headers.
    pub headers: HeaderMap,
    body: RecvStream,
    buffer: BytesMut,
    respond: SendResponse<Bytes>,
    sender: Option<SendStream<Bytes>>,
    counts: Arc<Counts>,
}

type Handler =
    dyn Fn(StreamCall) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>> + Send>> + Send + Sync;

/// The running backend; dropping it stops it.
pub struct StreamBackend {
    address: SocketAddr,
    counts: Arc<Counts>,
    running: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicUsize,
    sent: AtomicUsize,
    cancelled: AtomicUsize,
}

// === impl StreamBackend ===

impl StreamBackend {
    /// Starts a backend that runs each call by `handler`.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start<F>(handler: impl Fn(StreamCall) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Cancelled>> + Send + 'static,
    {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let counts = Arc::<Counts>::default();
        let handler: Arc<Handler> = Arc::new(move |call| Box::pin(handler(call)));
        let shared = Arc::clone(&counts);
        let serve = move |stream| connection(stream, Arc::clone(&handler), Arc::clone(&shared));
        let (address, running) = accept(any, serve).await;
        Self {
            address,
            counts,
            running,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls received so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.counts.calls.load(SeqCst)
    }

    /// Messages that the callers' windows had room for.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.counts.sent.load(SeqCst)
    }

    /// Calls whose handler was told that the caller gave up.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.counts.cancelled.load(SeqCst)
    }
}

impl Drop for StreamBackend {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn connection(stream: TcpStream, handler: Arc<Handler>, counts: Arc<Counts>) {
    let _ = stream.set_nodelay(true);
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        counts.calls.fetch_add(1, SeqCst);
        let (head, body) = request.into_parts();
        let call = StreamCall {
            path: head.uri.path().to_owned(),
            headers: head.headers,
            body,
            buffer: BytesMut::new(),
            respond,
            sender: None,
            counts: Arc::clone(&counts),
        };
        let (running, counts) = (handler(call), Arc::clone(&counts));
        calls.spawn(async move {
            if running.await.is_err() {
                counts.cancelled.fetch_add(1, SeqCst);
            }
        });
        while calls.try_join_next().is_some() {}
    }
}

// === impl StreamCall ===

impl StreamCall {
    /// The next message of the caller, without its prefix; `None` at the end.
    ///
    /// # Errors
    /// If the caller gives up.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Cancelled> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<5>() {
                let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
                let length = length as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            match self.body.data().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Cancelled),
                Some(Ok(piece)) => {
                    let _ = self.body.flow_control().release_capacity(piece.len());
                    self.buffer.extend_from_slice(&piece);
                }
            }
        }
    }

    /// Sends the response headers, unless they have been sent.
    ///
    /// # Errors
    /// If the caller has given up.
    pub fn begin(&mut self) -> Result<(), Cancelled> {
        self.begin_with(&[])
    }

    /// The same, with metadata.
    ///
    /// # Errors
    /// If the caller has given up.
    pub fn begin_with(&mut self, metadata: &[(&'static str, &str)]) -> Result<(), Cancelled> {
        if self.sender.is_none() {
            let mut head = head();
            add(metadata, head.headers_mut());
            let sent = self.respond.send_response(head, false);
            self.sender = Some(sent.map_err(|_| Cancelled)?);
        }
        Ok(())
    }

    /// Sends a message once the caller has room for it.
    ///
    /// # Errors
    /// If the caller gives up.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Cancelled> {
        self.send_bytes(framed(message)).await?;
        self.counts.sent.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Sends bytes that need not be messages once the caller has room for them.
    ///
    /// # Errors
    /// If the caller gives up.
    pub async fn send_bytes(&mut self, mut bytes: Bytes) -> Result<(), Cancelled> {
        self.begin()?;
        let sender = self.sender.as_mut().ok_or(Cancelled)?;
        while !bytes.is_empty() {
            sender.reserve_capacity(bytes.len());
            let capacity = poll_fn(|cx| {
                if sender.poll_reset(cx).is_ready() {
                    return std::task::Poll::Ready(None);
                }
                sender.poll_capacity(cx)
            });
            let room = capacity.await.and_then(Result::ok).ok_or(Cancelled)?;
            let piece = bytes.split_to(room.min(bytes.len()));
            sender.send_data(piece, false).map_err(|_| Cancelled)?;
        }
        Ok(())
    }

    /// Ends the call with a gRPC status.
    ///
    /// # Errors
    /// If the caller has given up.
    pub fn finish(self, code: u32, message: &str) -> Result<(), Cancelled> {
        self.finish_with(code, message, &[])
    }

    /// The same, with metadata.
    ///
    /// # Errors
    /// If the caller has given up.
    pub fn finish_with(
        mut self,
        code: u32,
        message: &str,
        metadata: &[(&'static str, &str)],
    ) -> Result<(), Cancelled> {
        let mut trailers = HeaderMap::new();
        add(metadata, &mut trailers);
        trailers.insert("grpc-status", HeaderValue::from(code));
        if let Ok(message) = HeaderValue::from_str(message) {
            trailers.insert("grpc-message", message);
        }
        match &mut self.sender {
            Some(sender) => sender.send_trailers(trailers).map_err(|_| Cancelled),
            None => {
                let mut head = head();
                head.headers_mut().extend(trailers);
                let sent = self.respond.send_response(head, true);
                sent.map(drop).map_err(|_| Cancelled)
            }
        }
    }

    /// Resets the stream.
    pub fn reset(mut self, reason: Reason) {
        match &mut self.sender {
            Some(sender) => sender.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Waits for the caller to give up.
    pub async fn cancelled(&mut self) -> Cancelled {
        match &mut self.sender {
            Some(sender) => drop(poll_fn(|cx| sender.poll_reset(cx)).await),
            None => drop(poll_fn(|cx| self.respond.poll_reset(cx)).await),
        }
        Cancelled
    }
}

fn add(metadata: &[(&'static str, &str)], headers: &mut HeaderMap) {
    for (name, value) in metadata {
        let value = HeaderValue::from_str(value).expect("a test's metadata is well-formed");
        headers.append(*name, value);
    }
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}
