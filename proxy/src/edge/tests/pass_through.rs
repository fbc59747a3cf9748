//! Requests that go through pingora, in between requests that do not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use http::Request;
use tokio::time::timeout;

use super::http2;
use super::support::{PATIENCE, read_answers, read_until_quiet, start, start_before, wait_for};
use crate::edge::EdgeLimits;

/// A backend that takes one connection, reports what it reads and answers each piece with `answer`.
fn scripted_backend(answer: &'static [u8]) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, receiver) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            seen.send(String::from_utf8_lossy(&piece[..count]).into_owned())
                .ok();
            stream.write_all(answer).unwrap();
        }
    });
    (address, receiver)
}

fn ask(client: &mut TcpStream, request: &str) -> (u16, String) {
    client.write_all(request.as_bytes()).unwrap();
    read_answers(client, 1).remove(0)
}

#[test]
fn lanes_take_turns_on_one_connection() {
    let backend = start(EdgeLimits::default());
    let edge = start_before(backend.address, EdgeLimits::default());
    let mut client = edge.connect();
    for _ in 0..3 {
        let passed = ask(&mut client, "GET /pass/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(passed, (200, "called /pass/x".to_owned()));
        let own = ask(&mut client, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(own, (200, "called /hello".to_owned()));
    }
    assert_eq!(edge.running.stats().accepted(), 1);
}

#[test]
fn bodies_pass_whole_and_in_pieces() {
    let backend = start(EdgeLimits::default());
    let edge = start_before(backend.address, EdgeLimits::default());
    let mut client = edge.connect();
    let whole = "POST /pass HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let next = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    client
        .write_all(format!("{whole}{next}{whole}").as_bytes())
        .unwrap();
    let answers: Vec<_> = read_answers(&mut client, 3)
        .into_iter()
        .map(|(_, body)| body)
        .collect();
    assert_eq!(answers, ["called /pass", "called /hello", "called /pass"]);
    client
        .write_all(b"POST /pass HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")
        .unwrap();
    std::thread::sleep(Duration::from_millis(20));
    client.write_all(b"llo\r\n0\r\n\r\n").unwrap();
    assert_eq!(
        read_answers(&mut client, 1),
        [(200, "called /pass".to_owned())]
    );
}

#[test]
fn a_request_arrives_as_it_was_sent() {
    let (address, seen) = scripted_backend(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let edge = start_before(address, EdgeLimits::default());
    let mut client = edge.connect();
    let request = "GET /pass/../%2e?a HTTP/1.1\r\nHost: Example\r\nX-MiXed: A b\r\n\r\n";
    assert_eq!(ask(&mut client, request).0, 200);
    let arrived = seen.recv_timeout(PATIENCE).unwrap();
    assert!(
        arrived.starts_with("GET /pass/../%2e?a HTTP/1.1\r\n"),
        "{arrived}"
    );
    assert!(arrived.contains("X-MiXed: A b\r\n"), "{arrived}");
    assert!(arrived.contains("Host: Example\r\n"), "{arrived}");
}

#[test]
fn a_target_in_absolute_form_arrives_as_a_path() {
    let (address, seen) = scripted_backend(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let edge = start_before(address, EdgeLimits::default());
    let request = "GET http://Example:80/pass?a HTTP/1.1\r\nHost: example:80\r\nX: y\r\n\r\n";
    assert_eq!(ask(&mut edge.connect(), request).0, 200);
    let arrived = seen.recv_timeout(PATIENCE).unwrap();
    assert!(
        arrived.starts_with("GET /pass?a HTTP/1.1\r\nHost: example:80\r\n"),
        "{arrived}"
    );
}

#[test]
fn websockets_pass_and_other_upgrades_do_not() {
    let (address, seen) = scripted_backend(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    );
    let edge = start_before(address, EdgeLimits::default());
    let mut client = edge.connect();
    let upgrade =
        "GET /pass HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    client.write_all(upgrade.as_bytes()).unwrap();
    let (answer, _) = read_until_quiet(&mut client, Duration::from_millis(300));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        seen.recv_timeout(PATIENCE)
            .unwrap()
            .to_lowercase()
            .contains("upgrade: websocket\r\n")
    );
    client.write_all(b"frames").unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "frames");

    let (address, seen) = scripted_backend(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let edge = start_before(address, EdgeLimits::default());
    let h2c = "GET /pass HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX: y\r\n\r\n";
    assert_eq!(ask(&mut edge.connect(), h2c).0, 200);
    let arrived = seen.recv_timeout(PATIENCE).unwrap().to_lowercase();
    assert!(
        !arrived.contains("upgrade") && !arrived.contains("http2-settings"),
        "{arrived}"
    );
    assert!(arrived.contains("x: y\r\n"), "{arrived}");
}

#[test]
fn a_client_that_goes_away_ends_the_request_behind() {
    let backend = start(EdgeLimits::default());
    let edge = start_before(backend.address, EdgeLimits::default());
    let mut client = edge.connect();
    client
        .write_all(b"GET /pass/never HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_for("the call to run", || {
        backend.service.running.load(Ordering::SeqCst) == 1
    });
    drop(client);
    wait_for("the call to be dropped", || {
        backend.service.dropped.load(Ordering::SeqCst) == 1
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_http2_pass() {
    let backend = start(EdgeLimits::default());
    let edge = start_before(backend.address, EdgeLimits::default());
    let mut client = http2::connect(&edge).await;
    assert_eq!(
        client.get("/pass/x").await,
        (http::StatusCode::OK, "called /pass/x".to_owned())
    );
    assert_eq!(client.get("/hello").await.1, "called /hello");
    let request = Request::post("http://a/pass/echo").body(()).unwrap();
    let (status, body) = client.ask(request, &[b'x'; 900]).await.unwrap();
    assert_eq!((status.as_u16(), body.len()), (200, 900));
    assert_eq!(client.get("/pass/big").await.1.len(), 3_000_000);
    let request = Request::get("http://example:80/pass/head")
        .header("cookie", "a=1")
        .header("cookie", "b=2");
    let (_, seen) = client.ask(request.body(()).unwrap(), b"").await.unwrap();
    let seen = String::from_utf8(seen).unwrap();
    assert!(
        seen.contains("\nhost=example:80\n") && seen.contains("\ncookie=a=1; b=2\n"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_ends_the_request_behind() {
    let backend = start(EdgeLimits::default());
    let edge = start_before(backend.address, EdgeLimits::default());
    let mut client = http2::connect(&edge).await;
    let request = Request::get("http://a/pass/never").body(()).unwrap();
    let never = timeout(Duration::from_millis(200), client.ask(request, b"")).await;
    assert!(never.is_err());
    http2::until("the call to be dropped", || {
        backend.service.dropped.load(Ordering::SeqCst) == 1
    })
    .await;
}

#[test]
fn a_drain_does_not_wait_for_kept_connections() {
    let backend = start(EdgeLimits::default());
    let edge = start_before(backend.address, EdgeLimits::default());
    let mut client = edge.connect();
    assert_eq!(
        ask(&mut client, "GET /pass HTTP/1.1\r\nHost: a\r\n\r\n").0,
        200
    );
    edge.drain.send(true).unwrap();
    assert_eq!(
        read_until_quiet(&mut client, PATIENCE),
        (String::new(), true)
    );
}
