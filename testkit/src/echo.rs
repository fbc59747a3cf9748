//! A gRPC server for any service, from its `FileDescriptorSet` alone: what gives the gateway a service that neither of
//! them has code for. It decodes each request by the descriptor (so bad wire bytes fail), remembers it, and answers
//! what the test's handler makes of it; without a handler, the request itself.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::h2c::{frame, unframe};
use crate::reflection::{self, Reflection};

/// An error that a handler answers with.
#[derive(Debug, Clone, Default)]
pub struct Failure {
    /// The gRPC code.
    pub code: u32,
    /// The message, in ASCII.
    pub message: String,
    /// `grpc-status-details-bin`, already in base64.
    pub details: Option<String>,
}

/// What the backend received.
#[derive(Debug, Clone)]
pub struct Received {
    /// `/package.Service/Method`.
    pub path: String,
    /// The metadata.
    pub headers: HeaderMap,
    /// The request, decoded.
    pub message: DynamicMessage,
}

type Handler =
    dyn Fn(&MethodDescriptor, &Received) -> Result<DynamicMessage, Failure> + Send + Sync;

/// A running backend; it stops when dropped.
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    pool: Mutex<DescriptorPool>,
    /// What it says of itself, if it does.
    reflection: Mutex<Reflection>,
    handler: Box<Handler>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Echo {
    /// Answers every request with itself: for methods whose output is their input.
    pub async fn start(descriptor_set: &[u8]) -> Self {
        Self::with(descriptor_set, |method, request| {
            assert_eq!(
                method.input(),
                method.output(),
                "{} does not return what it takes",
                method.full_name()
            );
            Ok(request.message.clone())
        })
        .await
    }

    /// [`Echo::start`] at an address that something has just given up.
    ///
    /// # Panics
    /// When the address is taken again, or the descriptor set does not hold together.
    pub async fn at(address: SocketAddr, descriptor_set: &[u8]) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .expect("the address is free");
        Self::on(listener, descriptor_set, |_, request| {
            Ok(request.message.clone())
        })
    }

    /// Answers what `handler` says.
    ///
    /// # Panics
    /// When the descriptor set does not hold together.
    pub async fn with(
        descriptor_set: &[u8],
        handler: impl Fn(&MethodDescriptor, &Received) -> Result<DynamicMessage, Failure>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback has a free port");
        Self::on(listener, descriptor_set, handler)
    }

    fn on(
        listener: TcpListener,
        descriptor_set: &[u8],
        handler: impl Fn(&MethodDescriptor, &Received) -> Result<DynamicMessage, Failure>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let pool =
            DescriptorPool::decode(descriptor_set).expect("the descriptor set holds together");
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let shared = Arc::new(Shared {
            pool: Mutex::new(pool),
            reflection: Mutex::default(),
            handler: Box::new(handler),
            received: received.clone(),
        });
        let address = listener.local_addr().expect("a listener has an address");
        Self {
            address,
            received,
            shared: shared.clone(),
            accepting: tokio::spawn(accept(listener, shared)),
        }
    }

    /// Answers gRPC server reflection like this from now on.
    ///
    /// # Panics
    /// When a handler panicked before.
    pub fn reflect(&self, reflection: Reflection) {
        *self.shared.reflection.lock().expect("no handler panicked") = reflection;
    }

    /// Has another schema from now on, as after a deployment, and says so if it is asked.
    ///
    /// # Panics
    /// When the descriptor set does not hold together.
    pub fn change(&self, descriptor_set: &[u8]) {
        let pool =
            DescriptorPool::decode(descriptor_set).expect("the descriptor set holds together");
        *self.shared.pool.lock().expect("no handler panicked") = pool;
        let mut reflection = self.shared.reflection.lock().expect("no handler panicked");
        reflection.set = descriptor_set.to_vec();
    }

    /// Everything received so far, oldest first.
    ///
    /// # Panics
    /// When a handler panicked before.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no handler panicked").clone()
    }
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Echo")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let service = hyper::service::service_fn(move |request| answer(shared.clone(), request));
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
    }
}

type Frames =
    StreamBody<tokio_stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>>;

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Frames>, Infallible> {
    let (head, body) = request.into_parts();
    let outcome = match body.collect().await {
        Ok(body) => shared.call(head.uri.path(), head.headers, &body.to_bytes()),
        Err(why) => Err(Failure {
            code: 13,
            message: why.to_string(),
            details: None,
        }),
    };
    Ok(response(outcome))
}

impl Shared {
    fn call(&self, path: &str, headers: HeaderMap, body: &[u8]) -> Result<Bytes, Failure> {
        let reflection = self.reflection.lock().expect("no handler panicked").clone();
        if let Some(answers) = reflection::answers(&reflection, path, body) {
            return Ok(answers);
        }
        let method = self.method(path).ok_or_else(|| Failure {
            code: 12,
            message: format!("no {path}"),
            details: None,
        })?;
        let message = DynamicMessage::decode(method.input(), unframe(body));
        let message = message.map_err(|why| Failure {
            code: 13,
            message: why.to_string(),
            details: None,
        })?;
        let received = Received {
            path: path.to_owned(),
            headers,
            message,
        };
        self.received
            .lock()
            .expect("no handler panicked")
            .push(received.clone());
        let answer = (self.handler)(&method, &received)?;
        Ok(frame(&answer.encode_to_vec()))
    }

    fn method(&self, path: &str) -> Option<MethodDescriptor> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let pool = self.pool.lock().expect("no handler panicked");
        pool.get_service_by_name(service)?
            .methods()
            .find(|found| found.name() == method)
    }
}

fn response(outcome: Result<Bytes, Failure>) -> Response<Frames> {
    let mut trailers = HeaderMap::new();
    let body = outcome.unwrap_or_else(|failure| {
        trailers.insert("grpc-status", HeaderValue::from(failure.code));
        trailers.insert(
            "grpc-message",
            failure
                .message
                .try_into()
                .expect("a failure's message is ASCII"),
        );
        if let Some(details) = failure.details {
            trailers.insert(
                "grpc-status-details-bin",
                details.try_into().expect("base64 is ASCII"),
            );
        }
        Bytes::new()
    });
    trailers
        .entry("grpc-status")
        .or_insert(HeaderValue::from_static("0"));
    let body = tokio_stream::iter([Ok(Frame::data(body)), Ok(Frame::trailers(trailers))]);
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(body));
    response.expect("fixed parts")
}
