//! Answers with messages that are always the same: `bench.Bench` over gRPC, and over HTTP/1.1 the JSON of every call of
//! the bench, for proxies that do not transcode. One thread; refuses gRPC methods of other services.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use clap::Parser;
use floor::fixed::{Calls, Fixed};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A backend with fixed answers, HTTP/1.1 and gRPC on one port.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:10004")]
    listen: SocketAddr,
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
    let calls = Rc::new(Calls::new("seed", arguments.items)?);
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("fixed-backend ready: http {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let calls = calls.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| answer(calls.clone(), request));
            let server = hyper_util::server::conn::auto::Builder::new(floor::Local);
            // A client that goes away is no matter.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    calls: Rc<Calls>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    // Read to its end and thrown away; a client that breaks off gets no answer anyway.
    let _ = body.collect().await;
    Ok(match head.version {
        Version::HTTP_2 => grpc(calls.of_method(head.uri.path())),
        _ => json(calls.of_path(head.uri.path())),
    })
}

fn json(call: &Fixed) -> Response<Body> {
    let mut response = Response::new(Full::new(call.json.clone()).boxed_unsync());
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert("content-type", kind);
    response
}

/// A message in a DATA frame of its own, as most gRPC servers send them.
fn grpc(call: Option<&Fixed>) -> Response<Body> {
    let (answers, status) = match call {
        Some(call) => (call.answers.clone(), "0"),
        None => (Vec::new(), "12"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let frames = answers.into_iter().map(Frame::data);
    let frames = frames.chain([Frame::trailers(trailers)]).map(Ok);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut response = Response::new(body.boxed_unsync());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}
