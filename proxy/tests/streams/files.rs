//! `google.api.HttpBody`: bodies of any type, whole and streamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use testkit::stream_backend::{Cancelled, StreamCall};
use testkit::{Http1, eventually};
use tokio::sync::Semaphore;

use super::setup::{number, streams};

const SECONDS: Duration = Duration::from_secs(10);

/// A `HttpBody` on the wire.
fn body(content_type: &str, data: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (tag, bytes) in [(0x0a, content_type.as_bytes()), (0x12, data)] {
        if !bytes.is_empty() {
            wire.push(tag);
            let mut length = bytes.len();
            while length > 0x7f {
                wire.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            wire.push(length as u8);
            wire.extend_from_slice(bytes);
        }
    }
    wire
}

async fn read(mut call: StreamCall) -> Result<(), Cancelled> {
    call.message().await?;
    call.send(&body("image/png", b"\x89PNG\xff")).await?;
    call.finish(0, "")
}

#[tokio::test]
async fn an_answer_is_what_the_backend_says() {
    let streams = streams(("", ""), read).await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    for path in ["/v1/file/1", "/v1/download/1"] {
        let answer = client
            .request("GET", path, &[("accept", "text/event-stream")], None)
            .await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("image/png")),
            "{path}"
        );
        assert_eq!(answer.body, b"\x89PNG\xff", "{path}");
    }
}

#[tokio::test]
async fn an_empty_answer_has_a_type_too() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        call.message().await?;
        call.send(b"").await?;
        call.finish(0, "")
    })
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    for path in ["/v1/file/1", "/v1/download/1"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/octet-stream"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_request_is_taken_as_it_is() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        let message = call.message().await?.unwrap();
        let mut expected = vec![0x12, 0];
        let inner = body("text/csv; charset=utf-8", b"a,b\n{\xff");
        expected[1] = inner.len() as u8;
        expected.extend_from_slice(&inner);
        expected.extend_from_slice(b"\x0a\x01n");
        assert_eq!(message, expected);
        assert_eq!(call.message().await?, None);
        call.send(&number(1)).await?;
        call.finish(0, "")
    })
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    for (method, path) in [("PUT", "/v1/file/n"), ("POST", "/v1/upload/n")] {
        let kind = [("content-type", "text/csv; charset=utf-8")];
        let answer = client
            .request(method, path, &kind, Some(b"a,b\n{\xff"))
            .await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, "{\"value\":1}".to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn uploads_and_downloads_of_any_size_go_through_in_pieces() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    // The route takes messages of 4 MiB; this is more.
    const SIZE: usize = 24 * 1024 * 1024;
    let streams = streams(("", ""), move |mut call: StreamCall| {
        let seen = Arc::clone(&seen);
        async move {
            let mut first = true;
            while let Some(piece) = call.message().await? {
                seen.fetch_max(piece.len(), SeqCst);
                assert_eq!(piece.starts_with(b"\x0a\x09"), first);
                first = false;
                call.send(&piece).await?;
            }
            call.finish(0, "")
        }
    })
    .await;
    let client = testkit::h2c::H2c::connect(streams.gateway().http()).await;
    let mut call = client
        .open("POST", "/v1/convert", &[("content-type", "video/mp4")])
        .await;
    let data: Vec<u8> = (0..SIZE).map(|at| (at % 253) as u8).collect();
    call.send(&data, true);
    let head = call.head().await;
    assert_eq!(
        (head.status.as_u16(), &head.headers["content-type"]),
        (200, &"video/mp4".parse().unwrap())
    );
    let mut back = Vec::new();
    while let Some(piece) = call.piece().await {
        back.extend_from_slice(&piece);
    }
    assert!(back == data, "{} bytes came back", back.len());
    assert!(
        most.load(SeqCst) < 1 << 20,
        "a piece of {} bytes",
        most.load(SeqCst)
    );
}

#[tokio::test]
async fn a_failure_in_the_middle_breaks_the_body_off() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let streams = streams(("", ""), move |mut call: StreamCall| {
        let gate = Arc::clone(&waits);
        async move {
            call.message().await?;
            call.send(&body("text/plain", b"half")).await?;
            gate.acquire().await.unwrap().forget();
            call.finish(13, "no more")
        }
    })
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    client
        .send(b"GET /v1/download/1 HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(client.chunk().await.as_deref(), Some("half"));
    gate.add_permits(1);
    client.expect_close().await;
    eventually("the call to be counted", SECONDS, || async {
        let metrics = testkit::Metrics::scrape(streams.gateway().admin()).await;
        match metrics.counter_value(
            "highgopress_grpc_requests_total",
            &[("status_code", "INTERNAL")],
        ) {
            1 => Ok(()),
            count => Err(format!("{count}")),
        }
    })
    .await;
    let http2 = testkit::h2c::H2c::connect(streams.gateway().http()).await;
    let mut call = http2.open("GET", "/v1/download/1", &[]).await;
    call.send(b"", true);
    call.head().await;
    assert_eq!(call.piece().await.as_deref(), Some(&b"half"[..]));
    gate.add_permits(1);
    let last = call.try_piece().await;
    assert!(matches!(last, Some(Err(_))), "{last:?}");
}
