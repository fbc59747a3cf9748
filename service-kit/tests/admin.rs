//! The admin port from outside: what scrapers, probes and people see.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use service_kit::{Admin, AdminServer, Readiness, Response, metrics};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn serve(readiness: &Readiness) -> AdminServer {
    let mut registry = metrics::registry("counter", "1.2.3");
    let counter: Counter = Counter::default();
    counter.inc_by(7);
    registry.register("highpress_things", "Things", counter);
    Admin::new("counter", "1.2.3", registry, readiness.clone())
        .status(|| serde_json::json!({"store": "memory"}))
        .page("/echo", |request| {
            Response::text(format!(
                "{} {:?} {}",
                request.method,
                request.query,
                request.wants_json()
            ))
        })
        .action("/do", |asked| async move { Response::json(&asked) })
        .own_action("/own", |asked| async move { Response::json(&asked) })
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap()
}

/// Sends `request` and reads until the server closes the connection.
async fn exchange(server: &AdminServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.local_address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    timeout(Duration::from_secs(10), read)
        .await
        .expect("the answer within 10 s")
        .unwrap();
    answer
}

async fn get(server: &AdminServer, path: &str) -> (String, String) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nconnection: close\r\n\r\n"
    );
    let answer = exchange(server, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn readiness_is_told_by_status_and_names() {
    let readiness = Readiness::new();
    let store = readiness.guard("store");
    let snapshot = readiness.guard("first snapshot");
    let server = serve(&readiness).await;

    let (head, body) = get(&server, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "waiting for: store, first snapshot\n");
    let (head, body) = get(&server, "/health").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(body.contains(r#""status":"unhealthy""#), "{body}");
    assert!(get(&server, "/livez").await.0.starts_with("HTTP/1.1 200 "));

    drop((store, snapshot));
    let (head, body) = get(&server, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "ready\n");
}

#[tokio::test]
async fn status_has_the_common_keys_and_the_programs_own() {
    let server = serve(&Readiness::new()).await;
    let (head, body) = get(&server, "/status").await;
    assert!(
        head.contains("content-type: application/json; charset=utf-8"),
        "{head}"
    );
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "service": "counter", "version": "1.2.3", "ready": true, "waiting_for": [], "store": "memory",
    });
    assert_eq!(status, expected);
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let server = serve(&Readiness::new()).await;
    let (head, body) = get(&server, "/metrics").await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.contains("\nhighpress_things_total 7\n"), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn an_unknown_path_lists_what_there_is() {
    let server = serve(&Readiness::new()).await;
    let (head, body) = get(&server, "/nothing").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    for path in [
        "/livez", "/readyz", "/health", "/metrics", "/status", "/echo",
    ] {
        assert!(
            body.lines().any(|line| line == path),
            "{path} is missing in {body}"
        );
    }
}

#[tokio::test]
async fn only_get_and_head() {
    let server = serve(&Readiness::new()).await;
    let posted = exchange(
        &server,
        "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
    )
    .await;
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    assert!(posted.contains("allow: GET, HEAD\r\n"), "{posted}");
    let head = exchange(
        &server,
        "HEAD /echo?a=b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("content-length: 22\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(get(&server, "/echo?a=b").await.1, r#"GET Some("a=b") true"#);
}

#[tokio::test]
async fn an_action_takes_json_and_nothing_that_a_browser_may_be_made_to_send() {
    let server = serve(&Readiness::new()).await;
    let post = async |path: &str, headers: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        exchange(&server, &request).await
    };
    const JSON: &str = "content-type: application/json; charset=utf-8\r\n";
    let done = post("/do", JSON, "{\"a\":1}").await;
    assert!(
        done.starts_with("HTTP/1.1 200 ") && done.ends_with("{\"a\":1}"),
        "{done}"
    );
    let large = format!("\"{}\"", "x".repeat(70_000));
    for (path, headers, body, status) in [
        ("/do", String::new(), "{}", 415),
        ("/do", "content-type: text/plain\r\n".to_owned(), "{}", 415),
        ("/do", format!("{JSON}origin: http://x\r\n"), "{}", 403),
        ("/do", format!("{JSON}sec-fetch-site: none\r\n"), "{}", 403),
        ("/do", JSON.to_owned(), "{", 400),
        ("/do", JSON.to_owned(), &large, 400),
        ("/echo", JSON.to_owned(), "{}", 405),
        ("/none", JSON.to_owned(), "{}", 405),
    ] {
        let refused = post(path, &headers, body).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(
            refused.starts_with(&expected),
            "{path} {headers}: {refused}"
        );
    }
    let unasked = exchange(
        &server,
        "PUT /do HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(unasked.contains("allow: GET, HEAD, POST\r\n"), "{unasked}");
}

#[tokio::test]
async fn a_connection_takes_several_requests_until_the_server_stops() {
    let server = serve(&Readiness::new()).await;
    let mut stream = TcpStream::connect(server.local_address()).await.unwrap();
    let mut buffer = vec![0; 4096];
    for _ in 0..3 {
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let read = timeout(Duration::from_secs(10), stream.read(&mut buffer))
            .await
            .expect("an answer within 10 s")
            .unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200 "));
    }
    timeout(Duration::from_secs(10), server.stop())
        .await
        .expect("the idle connection does not hold the server");
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_header_over_the_limit_is_refused() {
    let server = serve(&Readiness::new()).await;
    let answer = exchange(
        &server,
        &format!(
            "GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n",
            "x".repeat(100_000)
        ),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn an_action_for_own_pages_is_for_no_others() {
    let server = serve(&Readiness::new()).await;
    let post = async |host: &str, headers: &str| {
        let request = format!(
            "POST /own HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 2\r\ncontent-type: application/json\r\n{headers}\r\n{{}}"
        );
        let answer = exchange(&server, &request).await;
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let same = "sec-fetch-site: same-origin\r\n";
    for (host, headers, status) in [
        ("127.0.0.1:1", String::new(), "200"),
        (
            "127.0.0.1:1",
            format!("origin: http://127.0.0.1:1\r\n{same}"),
            "200",
        ),
        (
            "localhost:1",
            "origin: http://localhost:1\r\n".to_owned(),
            "200",
        ),
        (
            "127.0.0.1:1",
            "origin: http://127.0.0.1:2\r\n".to_owned(),
            "403",
        ),
        ("127.0.0.1:1", "origin: null\r\n".to_owned(), "403"),
        (
            "127.0.0.1:1",
            "origin: http://127.0.0.1:1\r\nsec-fetch-site: cross-site\r\n".to_owned(),
            "403",
        ),
        // A name that its owner has made to point here.
        (
            "evil.example:1",
            format!("origin: http://evil.example:1\r\n{same}"),
            "403",
        ),
    ] {
        assert_eq!(post(host, &headers).await, status, "{host} {headers}");
    }
}
