//! One request that the page tries out: sent to a listener of this gateway, its answer told as JSON.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use service_kit::Response;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// So much of an answer is shown.
const MOST: usize = 1 << 20;
/// A stream is cut after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `{"method", "path", "headers", "body"}` to a listener.
pub(super) async fn attempt(listener: Option<SocketAddr>, asked: Value) -> Response {
    let refused = |why: String| Response::json(&json!({ "error": why })).with_status(400);
    let Some(listener) = listener else {
        return refused("there is no listener".to_owned());
    };
    let request = match request(listener, &asked) {
        Ok(request) => request,
        Err(why) => return refused(why),
    };
    match timeout(PATIENCE, exchange(reachable(listener), request)).await {
        Ok(Ok(answer)) => Response::json(&answer),
        Ok(Err(why)) => refused(why).with_status(502),
        Err(_) => refused(format!("no whole answer within {PATIENCE:?}")).with_status(504),
    }
}

fn request(listener: SocketAddr, asked: &Value) -> Result<Request<Full<Bytes>>, String> {
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let path = text("path");
    if !path.starts_with('/') {
        return Err("`path` has to start with a slash".to_owned());
    }
    let mut request = Request::builder().method(text("method").as_str()).uri(path);
    let mut host = false;
    for (name, value) in asked["headers"].as_object().into_iter().flatten() {
        host |= name.eq_ignore_ascii_case("host");
        request = request.header(name, value.as_str().unwrap_or_default());
    }
    if !host {
        request = request.header("host", listener.to_string());
    }
    let body = Full::new(Bytes::from(text("body")));
    request
        .body(body)
        .map_err(|error| format!("not a request: {error}"))
}

/// A wildcard is reached by the loopback.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

async fn exchange(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Value, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(to)
        .await
        .map_err(|error| failed(&error))?;
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| failed(&error))?;
    // It ends with the sender.
    tokio::spawn(async move { drop(connection.await) });
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MOST).collect().await;
    let body = body.map_err(|error| failed(&error))?.to_bytes();
    let headers: Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            )
        })
        .collect();
    Ok(json!({
        "status": head.status.as_u16(), "headers": headers, "body": String::from_utf8_lossy(&body),
    }))
}
