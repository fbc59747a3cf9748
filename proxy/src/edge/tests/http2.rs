//! HTTP/2 through the `h2` crate's client: answers, bodies, refusals, resets, drain.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::support::{PATIENCE, TestEdge, short_limits, start};
use crate::edge::EdgeLimits;

/// In place of a status: the stream is reset with PROTOCOL_ERROR.
const RESET: u16 = 0;

pub(super) struct Client {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

pub(super) async fn connect(edge: &TestEdge) -> Client {
    let tcp = TcpStream::connect(edge.address).await.unwrap();
    let (send, connection) = h2::client::handshake(tcp).await.unwrap();
    Client {
        send,
        connection: tokio::spawn(connection),
    }
}

impl Client {
    pub(super) async fn ask(
        &mut self,
        request: Request<()>,
        body: &[u8],
    ) -> Result<(StatusCode, Vec<u8>), h2::Error> {
        timeout(PATIENCE, async {
            poll_fn(|context| self.send.poll_ready(context)).await?;
            let (response, mut stream) = self.send.send_request(request, body.is_empty())?;
            if !body.is_empty() {
                stream.send_data(Bytes::copy_from_slice(body), true)?;
            }
            let mut response = response.await?;
            let mut whole = Vec::new();
            while let Some(piece) = response.body_mut().data().await {
                let piece = piece?;
                response
                    .body_mut()
                    .flow_control()
                    .release_capacity(piece.len())?;
                whole.extend_from_slice(&piece);
            }
            Ok((response.status(), whole))
        })
        .await
        .expect("an answer in time")
    }

    pub(super) async fn get(&mut self, path: &str) -> (StatusCode, String) {
        let request = Request::get(format!("http://a{path}")).body(()).unwrap();
        let (status, body) = self.ask(request, b"").await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

#[tokio::test]
async fn answers_streams() {
    let edge = start(EdgeLimits::default());
    let mut client = connect(&edge).await;
    assert_eq!(
        client.get("/hello?x").await,
        (StatusCode::OK, "called /hello".to_owned())
    );
    assert_eq!(
        client.get("/now").await,
        (StatusCode::NOT_FOUND, "now".to_owned())
    );
    assert_eq!(
        client.get("/empty").await,
        (StatusCode::NO_CONTENT, String::new())
    );
    assert_eq!(client.get("/big").await.1.len(), 3_000_000);
    let seen = "/head Some(\"q\") a\n".to_owned();
    assert_eq!(client.get("/head?q").await, (StatusCode::OK, seen));
    let echo = Request::post("http://a/echo").body(()).unwrap();
    assert_eq!(
        client.ask(echo, b"hello").await.unwrap(),
        (StatusCode::OK, b"hello".to_vec())
    );
    let head = Request::head("http://a/hello").body(()).unwrap();
    assert_eq!(
        client.ask(head, b"").await.unwrap(),
        (StatusCode::OK, Vec::new())
    );
}

#[tokio::test]
async fn many_streams_run_at_once() {
    let edge = start(EdgeLimits::default());
    let client = connect(&edge).await;
    let mut running = Vec::new();
    for _ in 0..50 {
        let mut client = Client {
            send: client.send.clone(),
            connection: tokio::spawn(async { Ok(()) }),
        };
        running.push(tokio::spawn(async move { client.get("/slow").await }));
    }
    let started = tokio::time::Instant::now();
    for answer in running {
        assert_eq!(answer.await.unwrap(), (StatusCode::OK, "slow".to_owned()));
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "50 streams of 200 ms ran one after another"
    );
}

#[tokio::test]
async fn refuses_what_is_ambiguous() {
    let edge = start(EdgeLimits::default());
    let mut client = connect(&edge).await;
    let cases = [
        (Request::get("http://a/x").header("host", "b"), 400),
        (Request::get("http://a/x").header("host", "A"), 200),
        (
            Request::get("http://a/x").header("content-length", "x"),
            RESET,
        ),
        (Request::get("http://a/x").header("expect", "more"), 417),
        (Request::get("http://a/x").header("padded", " x"), 400),
        (Request::get("http://u@a/x"), 400),
        (Request::get(format!("http://a/{}", "x".repeat(9000))), 414),
        (
            Request::post("http://a/echo").header("content-length", "2000"),
            413,
        ),
    ];
    for (request, expected) in cases {
        let request = request.body(()).unwrap();
        let told = format!("{request:?}");
        let body: &[u8] = if request.method() == http::Method::POST {
            &[b'x'; 2000]
        } else {
            b""
        };
        let status = match client.ask(request, body).await {
            Ok((status, _)) => status.as_u16(),
            Err(error) if error.reason() == Some(h2::Reason::PROTOCOL_ERROR) => RESET,
            Err(error) => panic!("{told}: {error}"),
        };
        assert_eq!(status, expected, "{told}");
    }
    let mut many = Request::get("http://a/x");
    for number in 0..101 {
        many = many.header("x-field", number);
    }
    assert_eq!(
        client.ask(many.body(()).unwrap(), b"").await.unwrap().0,
        431
    );
    let long = Request::post("http://a/echo").body(()).unwrap();
    assert_eq!(client.ask(long, &[b'x'; 1001]).await.unwrap().0, 413);
}

#[tokio::test]
async fn a_reset_drops_the_call() {
    let edge = start(EdgeLimits::default());
    let mut client = connect(&edge).await;
    let request = Request::get("http://a/never").body(()).unwrap();
    poll_fn(|context| client.send.poll_ready(context))
        .await
        .unwrap();
    let (response, mut stream) = client.send.send_request(request, true).unwrap();
    until("the call to run", || {
        edge.service.running.load(Ordering::SeqCst) == 1
    })
    .await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    until("the call to be dropped", || {
        edge.service.dropped.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(client.get("/hello").await.0, 200);
}

#[tokio::test]
async fn a_lost_connection_drops_its_calls() {
    let edge = start(EdgeLimits::default());
    let mut client = connect(&edge).await;
    let request = Request::get("http://a/never").body(()).unwrap();
    let _response = client.send.send_request(request, true).unwrap();
    until("the call to run", || {
        edge.service.running.load(Ordering::SeqCst) == 1
    })
    .await;
    client.connection.abort();
    until("the call to be dropped", || {
        edge.service.dropped.load(Ordering::SeqCst) == 1
    })
    .await;
}

#[tokio::test]
async fn resetting_streams_again_and_again_ends_the_connection() {
    let edge = start(EdgeLimits::default());
    let mut client = connect(&edge).await;
    let mut resets = 0;
    let ended = timeout(PATIENCE, async {
        while poll_fn(|context| client.send.poll_ready(context))
            .await
            .is_ok()
        {
            let request = Request::get("http://a/never").body(()).unwrap();
            let Ok((_response, mut stream)) = client.send.send_request(request, true) else {
                break;
            };
            let begun = edge.service.running.load(Ordering::SeqCst) > 0;
            if begun {
                tokio::task::yield_now().await;
            }
            stream.send_reset(h2::Reason::CANCEL);
            resets += 1;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    });
    ended.await.expect("the connection to be ended");
    assert!(resets < 5_000, "{resets} resets were taken");
    let error = client.connection.await.unwrap().expect_err("a GOAWAY");
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let edge = start(short_limits());
    let mut client = connect(&edge).await;
    let request = Request::post("http://a/echo").body(()).unwrap();
    let (response, _stream) = client.send.send_request(request, false).unwrap();
    let response = timeout(PATIENCE, response)
        .await
        .expect("an answer in time")
        .unwrap();
    assert_eq!(response.status(), 408);
}

#[tokio::test]
async fn an_idle_connection_is_ended() {
    let edge = start(short_limits());
    let mut client = connect(&edge).await;
    assert_eq!(client.get("/hello").await.0, 200);
    let ended = timeout(PATIENCE, client.connection)
        .await
        .expect("a GOAWAY in time");
    assert!(ended.unwrap().is_ok());
}

#[tokio::test]
async fn a_drain_lets_streams_end() {
    let edge = start(EdgeLimits::default());
    let mut client = connect(&edge).await;
    let request = Request::get("http://a/slow").body(()).unwrap();
    let (response, _) = client.send.send_request(request, true).unwrap();
    until("the call to run", || {
        edge.service.running.load(Ordering::SeqCst) == 1
    })
    .await;
    edge.drain.send(true).unwrap();
    let response = timeout(PATIENCE, response)
        .await
        .expect("an answer in time")
        .unwrap();
    assert_eq!(response.status(), 200);
    let cut = timeout(PATIENCE, edge.running.drained())
        .await
        .expect("the drain to end");
    assert_eq!(cut, 0);
}

pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}
