//! A scripted gRPC backend: an HTTP/2 server on a free port that answers each call as the test says, well or
//! badly, and counts what it saw. Stopping it closes every connection at once, as a killed process would; it
//! can be started again on the same port. What HTTP/2 libraries refuse to do is for [`crate::raw_backend`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What a backend has seen of one call.
#[derive(Debug, Clone)]
pub struct Seen {
    /// 0 for the first call to this backend.
    pub number: usize,
    /// `/package.Service/Method`.
    pub path: String,
    /// Request headers.
    pub headers: HeaderMap,
    /// The request body: prefix and message.
    pub body: Bytes,
}

/// What the backend does with a call.
#[derive(Debug, Clone)]
pub enum Answer {
    /// HTTP status, headers, chunks of body, trailers if any.
    Http {
        /// HTTP status.
        status: u16,
        /// Response headers.
        headers: Vec<(&'static str, String)>,
        /// The body, one DATA frame for each.
        chunks: Vec<Bytes>,
        /// What follows the body.
        trailers: Option<Vec<(&'static str, String)>>,
    },
    /// `RST_STREAM`.
    Reset(Reason),
    /// The headers and the first half of a message, then `RST_STREAM`.
    ResetMidway(Reason),
    /// Nothing, for ever.
    Hang,
    /// As the other one says, after a while.
    After(Duration, Box<Answer>),
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

/// The running backend; dropping it stops it.
pub struct Backend {
    address: SocketAddr,
    script: Arc<Script>,
    counts: Arc<Counts>,
    settings: Settings,
    running: Option<JoinHandle<()>>,
}

/// What the server announces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`, if any.
    pub max_streams: Option<u32>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    open_connections: AtomicUsize,
    calls: AtomicUsize,
    cancelled: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

// === impl Answer ===

impl Answer {
    /// OK with this message, in headers, one chunk and trailers.
    #[must_use]
    pub fn message(message: &[u8]) -> Self {
        Self::chunks(vec![framed(message)], &[("grpc-status", "0")])
    }

    /// gRPC headers, these chunks of body, these trailers.
    #[must_use]
    pub fn chunks(chunks: Vec<Bytes>, trailers: &[(&'static str, &str)]) -> Self {
        Self::Http {
            status: 200,
            headers: vec![("content-type", "application/grpc".to_owned())],
            chunks,
            trailers: Some(owned(trailers)),
        }
    }

    /// A status without a message: everything in the headers.
    #[must_use]
    pub fn trailers_only(entries: &[(&'static str, &str)]) -> Self {
        let mut headers = vec![("content-type", "application/grpc".to_owned())];
        headers.extend(owned(entries));
        Self::Http {
            status: 200,
            headers,
            chunks: Vec::new(),
            trailers: None,
        }
    }

    /// Plain HTTP.
    #[must_use]
    pub fn http(status: u16, content_type: &str, body: &'static str) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self::Http {
            status,
            headers,
            chunks: vec![Bytes::from_static(body.as_bytes())],
            trailers: None,
        }
    }

    /// This answer, later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }
}

/// A message with its prefix.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

fn owned(entries: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    entries
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect()
}

// === impl Backend ===

impl Backend {
    /// Starts a backend that follows `script`.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(Settings::default(), script).await
    }

    /// The same with settings.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start_with(
        settings: Settings,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let mut backend = Self {
            address,
            script: Arc::new(script),
            counts: Arc::default(),
            settings,
            running: None,
        };
        backend.serve(listener);
        backend
    }

    /// A backend that always answers with this message.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn replying(message: &'static [u8]) -> Self {
        Self::start(move |_| Answer::message(message)).await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts.connections.load(SeqCst)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.counts.open_connections.load(SeqCst)
    }

    /// Calls received so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.counts.calls.load(SeqCst)
    }

    /// Calls that were reset before they were answered.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.counts.cancelled.load(SeqCst)
    }

    /// The most calls that were under way at once.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.counts.most_in_flight.load(SeqCst)
    }

    /// Closes the port and every connection, at once.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
    }

    /// Listens again where it listened before.
    ///
    /// # Panics
    /// If somebody has taken the port.
    pub async fn restart(&mut self) {
        self.stop().await;
        let listener = TcpListener::bind(self.address)
            .await
            .expect("the same port again");
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let (script, counts, settings) = (
            Arc::clone(&self.script),
            Arc::clone(&self.counts),
            self.settings,
        );
        self.running = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counts.connections.fetch_add(1, SeqCst);
                connections.spawn(connection(
                    stream,
                    Arc::clone(&script),
                    Arc::clone(&counts),
                    settings,
                ));
                while connections.try_join_next().is_some() {}
            }
        }));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

async fn connection(
    stream: TcpStream,
    script: Arc<Script>,
    counts: Arc<Counts>,
    settings: Settings,
) {
    let _open = Gauge::up(&counts.open_connections);
    let _ = stream.set_nodelay(true);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20);
    if let Some(most) = settings.max_streams {
        builder.max_concurrent_streams(most);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        calls.spawn(serve_call(
            request,
            respond,
            Arc::clone(&script),
            Arc::clone(&counts),
        ));
        while calls.try_join_next().is_some() {}
    }
}

async fn serve_call(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    script: Arc<Script>,
    counts: Arc<Counts>,
) {
    let under_way = Gauge::up(&counts.in_flight);
    counts.most_in_flight.fetch_max(under_way.1, SeqCst);
    let number = counts.calls.fetch_add(1, SeqCst);
    let (head, mut body) = request.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    let seen = Seen {
        number,
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: bytes.freeze(),
    };
    if answer(script(&seen), respond).await.is_none() {
        counts.cancelled.fetch_add(1, SeqCst);
    }
}

/// `None` if the caller reset the stream meanwhile.
async fn answer(mut answer: Answer, mut respond: SendResponse<Bytes>) -> Option<()> {
    while let Answer::After(time, next) = answer {
        tokio::select! {
            () = tokio::time::sleep(time) => answer = *next,
            _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return None,
        }
    }
    match answer {
        Answer::Http {
            status,
            headers,
            chunks,
            trailers,
        } => {
            let mut response = Response::new(());
            *response.status_mut() = http::StatusCode::from_u16(status).ok()?;
            *response.headers_mut() = header_map(headers);
            let ends = chunks.is_empty() && trailers.is_none();
            let mut stream = respond.send_response(response, ends).ok()?;
            let last = chunks.len();
            for (index, chunk) in chunks.into_iter().enumerate() {
                stream
                    .send_data(chunk, index + 1 == last && trailers.is_none())
                    .ok()?;
                // So that each chunk is a frame of its own, written before the next one.
                tokio::task::yield_now().await;
            }
            if let Some(trailers) = trailers {
                stream.send_trailers(header_map(trailers)).ok()?;
            }
        }
        Answer::Reset(reason) => respond.send_reset(reason),
        Answer::ResetMidway(reason) => {
            let mut response = Response::new(());
            response
                .headers_mut()
                .insert("content-type", HeaderValue::from_static("application/grpc"));
            let mut stream = respond.send_response(response, false).ok()?;
            stream
                .send_data(Bytes::from_static(&[0, 0, 0, 0, 9, 1]), false)
                .ok()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.send_reset(reason);
        }
        Answer::Hang | Answer::After(..) => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            return None;
        }
    }
    Some(())
}

fn header_map(entries: Vec<(&'static str, String)>) -> HeaderMap {
    entries
        .into_iter()
        .filter_map(|(name, value)| {
            Some((
                HeaderName::from_static(name),
                HeaderValue::from_str(&value).ok()?,
            ))
        })
        .collect()
}

/// Counts what exists: up now, down on drop. The number is the count after going up.
struct Gauge<'a>(&'a AtomicUsize, usize);

impl<'a> Gauge<'a> {
    fn up(count: &'a AtomicUsize) -> Self {
        Self(count, count.fetch_add(1, SeqCst) + 1)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
