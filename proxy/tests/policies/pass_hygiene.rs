//! What is not passed through: bodies beyond the listeners' bound, framing that cannot be read, and lines that are
//! about the connection to the backend.

use testkit::Http1;
use testkit::http_backend::{HttpBackend, Received, Step, ok};
use testkit::mesh::Gateway;

/// A gateway that takes bodies of 100 KiB, before one backend.
async fn small_bodies(backend: &HttpBackend) -> Gateway {
    Gateway::start(&format!(
        "listeners: [{{ address: 127.0.0.1:0, limits: {{ max_body: 100KiB }} }}]\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         clusters: [{{ name: old, protocol: http1, endpoints: {{ static: [\"{}\"] }} }}]\n\
         routes: [{{ name: rest, match: {{ path_prefix: / }}, to: old }}]\n",
        backend.address()
    ))
    .await
}

async fn doing_well() -> HttpBackend {
    HttpBackend::start(|_: &Received| ok("done")).await
}

#[tokio::test]
async fn a_body_beyond_the_listeners_bound_is_413_and_the_backend_is_not_asked() {
    let backend = doing_well().await;
    let gateway = small_bodies(&backend).await;
    for (size, status, requests) in [(102_400, 200, 1), (102_401, 413, 1)] {
        let mut client = Http1::connect(gateway.http()).await;
        let got = client
            .request("POST", "/", &[], Some(&vec![b'x'; size]))
            .await;
        assert_eq!(got.status, status, "{size}: {}", got.text());
        assert_eq!(backend.requests(), requests);
        if status == 413 {
            assert_eq!(got.json()["details"][0]["reason"], "BODY_TOO_LARGE");
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_at_the_listeners_bound() {
    let backend = doing_well().await;
    let gateway = small_bodies(&backend).await;
    let mut client = Http1::connect(gateway.http()).await;
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let mut chunk = b"8000\r\n".to_vec();
    chunk.extend_from_slice(&[b'x'; 0x8000]);
    chunk.extend_from_slice(b"\r\n");
    for _ in 0..4 {
        client.send(&chunk).await;
    }
    let got = client.response(false).await;
    assert_eq!(got.status, 413, "{}", got.text());
    client.expect_close().await;
    let received = backend.received();
    assert!(received.iter().all(|request| request.body.len() <= 102_400));
}

#[tokio::test]
async fn a_chunked_body_that_cannot_be_read_is_400() {
    let backend = doing_well().await;
    let gateway = small_bodies(&backend).await;
    for first in ["", "3\r\nabc\r\n"] {
        let mut client = Http1::connect(gateway.http()).await;
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        client
            .send(format!("{head}{first}zz\r\nabc\r\n").as_bytes())
            .await;
        let got = client.response(false).await;
        assert_eq!(got.status, 400, "{}", got.text());
        assert_eq!(got.json()["message"], "the chunked body is malformed");
        client.expect_close().await;
    }
}

#[tokio::test]
async fn what_is_about_the_connection_to_the_backend_stays_there() {
    let head = b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop, content-length\r\nkeep-alive: timeout=3\r\n\
        proxy-connection: keep-alive\r\nx-hop: 1\r\nx-end: 2\r\ncontent-length: 4\r\n\r\ndone";
    let backend = HttpBackend::start(move |_: &Received| vec![Step::Write(head.to_vec())]).await;
    let gateway = small_bodies(&backend).await;
    let got = Http1::connect(gateway.http()).await.get("/").await;
    assert_eq!((got.status, got.text().as_str()), (200, "done"));
    assert_eq!(got.header("x-end"), Some("2"));
    for name in ["keep-alive", "proxy-connection", "x-hop"] {
        assert_eq!(got.header(name), None, "{name}");
    }
}
