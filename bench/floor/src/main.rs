//! The floor that bench/ measures gateways against: no JSON, no routing, no policy.
//!
//! A single-threaded hyper server that sends a fixed gRPC message for each path over one `h2` connection to the backend, waits for its answer and trailers, and answers fixed JSON of the right size. What it costs is the network
//! with these libraries.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use floor::fixed::{Calls, Fixed};
use h2::client::SendRequest;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers counter requests with fixed JSON after one fixed gRPC call.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen, HTTP/1.1 and h2c.
    #[arg(long, default_value = "127.0.0.1:10003")]
    listen: SocketAddr,
    /// Where the counter service is.
    #[arg(long, default_value = "127.0.0.1:50051")]
    backend: SocketAddr,
    /// Where `fixed-backend` is.
    #[arg(long, default_value = "127.0.0.1:10004")]
    fixed: SocketAddr,
    /// The resource id in the fixed messages.
    #[arg(long, default_value = "floor")]
    id: String,
    /// How many counters the fixed batch has.
    #[arg(long, default_value_t = 50)]
    items: usize,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(Arguments::parse()))
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let floor = Rc::new(Floor::connect(&arguments).await?);
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("floor ready: http {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let floor = floor.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| answer(floor.clone(), request));
            let server = hyper_util::server::conn::auto::Builder::new(floor::Local);
            // A client that goes away is no matter.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

struct Floor {
    calls: Calls,
    counter: SendRequest<Bytes>,
    fixed: SendRequest<Bytes>,
}

impl Floor {
    async fn connect(arguments: &Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            calls: Calls::new(&arguments.id, arguments.items)?,
            counter: connect(arguments.backend).await?,
            fixed: connect(arguments.fixed).await?,
        })
    }

    fn streams(&self, call: &Fixed) -> SendRequest<Bytes> {
        match call.answers.is_empty() {
            true => self.counter.clone(),
            false => self.fixed.clone(),
        }
    }
}

async fn connect(backend: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(backend)
        .await
        .with_context(|| format!("no backend at {backend}"))?;
    stream.set_nodelay(true)?;
    // One read brings more small messages than the default lets wait.
    let mut builder = h2::client::Builder::new();
    let builder = builder.data_frame_budget(64 << 20);
    let (streams, connection) = builder.handshake(stream).await?;
    tokio::task::spawn_local(connection);
    Ok(streams)
}

async fn answer(
    floor: Rc<Floor>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    // Read to its end as a gateway must, and thrown away.
    let read = body.collect().await;
    let fixed = floor.calls.of_path(head.uri.path());
    let called = match read {
        Ok(_) => call(floor.streams(fixed), fixed).await,
        Err(why) => Err(why.into()),
    };
    let mut response = Response::new(Full::new(fixed.json.clone()));
    response.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    if called.is_err() {
        *response.status_mut() = StatusCode::BAD_GATEWAY;
    }
    Ok(response)
}

/// One call, its answer read to the trailers.
async fn call(streams: SendRequest<Bytes>, fixed: &Fixed) -> anyhow::Result<()> {
    let mut streams = streams.ready().await?;
    let head = Request::post(format!("http://backend{}", fixed.method))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut sending) = streams.send_request(head, false)?;
    sending.send_data(fixed.request.clone(), true)?;
    let mut receiving = answer.await?.into_body();
    while let Some(piece) = receiving.data().await {
        let length = piece?.len();
        receiving.flow_control().release_capacity(length)?;
    }
    let trailers = receiving.trailers().await?.context("no trailers")?;
    anyhow::ensure!(
        trailers.get("grpc-status").is_some_and(|code| code == "0"),
        "{trailers:?}"
    );
    Ok(())
}
