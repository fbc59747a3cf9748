//! The admin port's HTTP/1.1 server, on hyper, with limits fit for a handful of scrapers and people.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{Action, Admin, By, RequestView, Response};

/// Connections at a time; the next one waits in the listen queue.
const MAX_CONNECTIONS: usize = 128;
/// Time for a request's header, and for the next request on an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is closed at its next pause after this long, and at once a little later.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
const CLOSE_GRACE: Duration = Duration::from_secs(5);
const MAX_BUFFER: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// The body of an action is a few words of JSON, and comes at once.
const MAX_BODY: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// What browsers send with every request that a page makes them send, and nobody else does.
const FROM_A_PAGE: [&str; 2] = ["origin", "sec-fetch-site"];

/// A bound, serving admin port. It stops when this is dropped.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl AdminServer {
    pub(super) fn start(admin: Arc<Admin>, listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(accept(admin, listener, stop.subscribe()));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// The address that was really bound.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets answers that are under way go out, closes all connections.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // An error means that the task was cancelled with its runtime: stopped as well.
        let _ = (&mut self.task).await;
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(admin: Arc<Admin>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = permits.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(admin.clone(), stream, stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back instead of spinning.
                tracing::warn!(%error, "admin port cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    while connections.join_next().await.is_some() {}
}

async fn serve(admin: Arc<Admin>, stream: TcpStream, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(respond(&admin, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // An error is the client's: it went away, or sent what is not HTTP.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(CONNECTION_LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(CLOSE_GRACE, connection).await;
}

async fn respond(admin: &Admin, request: hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
    let action = admin
        .actions
        .iter()
        .find(|(path, ..)| *path == request.uri().path());
    if let (Some((_, action, by)), &Method::POST) = (action, request.method()) {
        return build(act(action, *by, request).await);
    }
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        let allow = match action {
            Some(_) => "GET, HEAD, POST",
            None => "GET, HEAD",
        };
        let mut refused = build(Response::text(format!("only {allow}\n")).with_status(405));
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allow));
        return refused;
    }
    if let (Some(refresh), "/status" | "/metrics") = (&admin.refresh, request.uri().path()) {
        refresh().await;
    }
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    build(admin.answer(&RequestView {
        path: request.uri().path(),
        query: request.uri().query(),
        accept,
        method: request.method().as_str(),
    }))
}

/// Whether a page of this port asks, by an address. A page whose name was made to point here has that name as its host.
fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").unwrap_or_default();
    let by_address = host.parse::<SocketAddr>().is_ok()
        || host
            .strip_prefix("localhost:")
            .is_some_and(|port| port.parse::<u16>().is_ok());
    let from_here = text("origin") == Some(format!("http://{host}").as_str());
    by_address && from_here && text("sec-fetch-site").is_none_or(|site| site == "same-origin")
}

/// Runs an action, unless a browser may have been made to ask for it. A page elsewhere cannot send JSON without being
/// allowed to first, and one whose name was made to point here cannot leave out that it is a page.
async fn act(action: &Action, by: By, request: hyper::Request<Incoming>) -> Response {
    let headers = request.headers();
    let page = FROM_A_PAGE.iter().any(|name| headers.contains_key(*name));
    if page && !(by == By::OwnPages && is_own_page(headers)) {
        return Response::text("not for web pages\n").with_status(403);
    }
    let json = headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().split(|byte| *byte == b';').next();
        kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/json"))
    });
    if !json {
        return Response::text("send content-type: application/json\n").with_status(415);
    }
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, body).await else {
        return Response::text("no body, or too large, or too slow\n").with_status(400);
    };
    match serde_json::from_slice(&body.to_bytes()) {
        Ok(value) => action(value).await,
        Err(error) => Response::text(format!("not JSON: {error}\n")).with_status(400),
    }
}

fn build(answer: Response) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
