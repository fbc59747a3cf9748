//! The floor that bench/ measures gateways against: no JSON, no routing, no policy.
//!
//! A single-threaded hyper server that sends a fixed gRPC message for each path over one `h2` connection to the counter
//! service, waits for its answer and trailers, and answers fixed JSON of the right size. What it costs is the network
//! with these libraries.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context as _;
use bytes::{BufMut, Bytes, BytesMut};
use clap::Parser;
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
    let stream = TcpStream::connect(arguments.backend)
        .await
        .context("no counter service")?;
    stream.set_nodelay(true)?;
    let (streams, connection) = h2::client::handshake(stream).await?;
    tokio::task::spawn_local(connection);
    let floor = Rc::new(Floor::new(&arguments, streams)?);
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("floor ready: http {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let floor = floor.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| answer(floor.clone(), request));
            let server = hyper_util::server::conn::auto::Builder::new(Local);
            // A client that goes away is no matter.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Runs HTTP/2 streams on this thread, where everything is.
#[derive(Debug, Clone)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A call that is always the same.
struct Fixed {
    request: Request<()>,
    message: Bytes,
    json: Bytes,
}

struct Floor {
    streams: SendRequest<Bytes>,
    get: Fixed,
    increment: Fixed,
    batch: Fixed,
}

impl Floor {
    fn new(arguments: &Arguments, streams: SendRequest<Bytes>) -> anyhow::Result<Self> {
        let id = &arguments.id;
        let counter = message(&[(1, id.as_bytes()), (2, b"like")]);
        let mut increment = BytesMut::from(counter.as_ref());
        increment.extend_from_slice(&[3 << 3, 1]);
        let items: Vec<_> = (0..arguments.items)
            .map(|_| (1, counter.as_ref()))
            .collect();
        let result = format!(
            r#"{{"resource_id":"{id}","counter_type":"like","current_value":1000000,"updated_at":1700000000}}"#
        );
        let results = vec![result.as_str(); arguments.items].join(",");
        let incremented = format!(
            r#"{{"status":"success","data":{{"resource_id":"{id}","counter_type":"like","current_value":1000000,"success":true,"timestamp":1700000000}}}}"#
        );
        let fixed = |method: &str, message: &[u8], json: String| {
            let uri = format!(
                "http://{}/counter.CounterService/{method}",
                arguments.backend
            );
            let request = Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())?;
            anyhow::Ok(Fixed {
                request,
                message: framed(message)?,
                json: json.into(),
            })
        };
        Ok(Self {
            streams,
            get: fixed(
                "GetCounter",
                &counter,
                format!(r#"{{"status":"success","data":{result}}}"#),
            )?,
            increment: fixed("IncrementCounter", &increment, incremented)?,
            batch: fixed(
                "BatchGetCounters",
                &message(&items),
                format!(
                    r#"{{"status":"success","data":{{"results":[{results}],"total":{}}}}}"#,
                    arguments.items
                ),
            )?,
        })
    }

    fn fixed(&self, path: &str) -> &Fixed {
        match path {
            "/api/v1/counter/increment" => &self.increment,
            "/api/v1/counter/batch" => &self.batch,
            _ => &self.get,
        }
    }
}

/// Bytes fields, in the protobuf wire format, each shorter than 16 KiB.
fn message(fields: &[(u8, &[u8])]) -> Bytes {
    let mut wire = BytesMut::new();
    for (number, value) in fields {
        wire.put_u8(number << 3 | 2);
        let length = value.len();
        if length < 0x80 {
            wire.put_u8(length.to_le_bytes()[0]);
        } else {
            wire.put_u8((length & 0x7f | 0x80).to_le_bytes()[0]);
            wire.put_u8((length >> 7).to_le_bytes()[0]);
        }
        wire.extend_from_slice(value);
    }
    wire.freeze()
}

fn framed(message: &[u8]) -> anyhow::Result<Bytes> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.extend_from_slice(message);
    Ok(frame.freeze())
}

async fn answer(
    floor: Rc<Floor>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    // Read to its end as a gateway must, and thrown away.
    let read = body.collect().await;
    let fixed = floor.fixed(head.uri.path());
    let called = match read {
        Ok(_) => call(floor.streams.clone(), fixed).await,
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

/// One unary call, its answer read to the trailers.
async fn call(streams: SendRequest<Bytes>, fixed: &Fixed) -> anyhow::Result<()> {
    let mut streams = streams.ready().await?;
    let (answer, mut sending) = streams.send_request(fixed.request.clone(), false)?;
    sending.send_data(fixed.message.clone(), true)?;
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
