//! One message each way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use parking_lot::Mutex;
use testkit::h2c::frame;
use testkit::stream_backend::StreamCall;

use super::setup::{echo, mesh};

const GET: &str = "/library.v1.Library/Get";

#[tokio::test]
async fn messages_metadata_and_trailers_cross() {
    let mesh = mesh("", echo).await;
    let client = mesh.client().await;
    let reply = client.grpc(GET, &[("x-tenant", "blue")], b"hello").await;
    assert_eq!((reply.code, &reply.body[..]), (0, &b"hello"[..]));
    assert_eq!(reply.headers["x-method"], GET);
    assert_eq!(reply.headers["x-bin"], "AAEC");
    assert_eq!(reply.headers["content-type"], "application/grpc");
    assert_eq!(reply.trailers["x-trailer"], "late");
    assert!(
        !reply.headers.contains_key("grpc-status"),
        "{:?}",
        reply.headers
    );
}

#[tokio::test]
async fn the_backend_sees_the_callers_own_head() {
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let mesh = mesh(", timeout: 5s", move |mut call: StreamCall| {
        *keep.lock() = Some(call.headers.clone());
        async move {
            call.message().await?;
            call.send(b"").await?;
            call.finish(0, "")
        }
    })
    .await;
    let client = mesh.client().await;
    let own = [
        ("user-agent", "grpc-test/1"),
        ("x-token-bin", "AAECAw"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("authorization", "Bearer a"),
        ("grpc-accept-encoding", "gzip"),
        ("grpc-timeout", "2S"),
        ("idempotency-key-origin", "gateway"),
    ];
    let mut call = client
        .open(
            "POST",
            GET,
            &[
                &own[..],
                &[
                    ("content-type", "application/grpc+proto"),
                    ("te", "trailers"),
                ],
            ]
            .concat(),
        )
        .await;
    call.message(b"", true);
    let head = call.head().await;
    assert_eq!(head.headers["content-type"], "application/grpc+proto");
    let seen = seen.lock().take().unwrap();
    assert_eq!(seen["content-type"], "application/grpc+proto");
    assert_eq!(seen["user-agent"], "grpc-test/1");
    assert_eq!(seen["x-token-bin"], "AAECAw");
    assert_eq!(seen["authorization"], "Bearer a");
    assert_eq!(seen["grpc-accept-encoding"], "gzip");
    assert_eq!(seen["te"], "trailers");
    let twice: Vec<_> = seen.get_all("x-twice").iter().collect();
    assert_eq!(twice, ["1", "2"]);
    assert!(!seen.contains_key("idempotency-key-origin"));
    let left = seen["grpc-timeout"].to_str().unwrap();
    let left: u64 = left
        .trim_end_matches('u')
        .parse()
        .unwrap_or_else(|_| panic!("{left}"));
    assert!(
        (1_000_000..=2_000_000).contains(&left),
        "{left} us of the caller's 2 s"
    );
}

#[tokio::test]
async fn what_is_compressed_stays_so() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        assert_eq!(call.headers["grpc-encoding"], "gzip");
        let message = call.message().await?.unwrap();
        call.begin_with(&[("grpc-encoding", "gzip")])?;
        call.send_bytes(Bytes::from([&[1, 0, 0, 0, 3][..], &message].concat()))
            .await?;
        call.finish(0, "")
    })
    .await;
    let client = mesh.client().await;
    let kind = [
        ("content-type", "application/grpc"),
        ("grpc-encoding", "gzip"),
    ];
    let mut call = client.open("POST", GET, &kind).await;
    call.send(b"\x01\0\0\0\x03abc", true);
    assert_eq!(call.head().await.headers["grpc-encoding"], "gzip");
    assert_eq!(call.piece().await.unwrap(), &b"\x01\0\0\0\x03abc"[..]);
}

#[tokio::test]
async fn a_status_alone_stays_one_head() {
    let mesh = mesh("", |call: StreamCall| async move {
        call.finish_with(
            5,
            "no such book: 50%25",
            &[("x-why", "gone"), ("grpc-status-details-bin", "CAU")],
        )
    })
    .await;
    let client = mesh.client().await;
    let mut call = client
        .open("POST", GET, &[("content-type", "application/grpc")])
        .await;
    call.message(b"", true);
    let head = call.head().await;
    assert_eq!(
        (head.status.as_u16(), &head.headers["grpc-status"]),
        (200, &"5".parse().unwrap())
    );
    assert_eq!(head.headers["grpc-message"], "no such book: 50%25");
    assert_eq!(head.headers["grpc-status-details-bin"], "CAU");
    assert_eq!(head.headers["x-why"], "gone");
    assert_eq!(call.piece().await, None);
    assert!(call.trailers().await.is_empty());
}

#[tokio::test]
async fn a_large_message_passes() {
    let mesh = mesh("", echo).await;
    let client = mesh.client().await;
    let message: Vec<u8> = (0..9_000_000u32).map(|at| (at % 251) as u8).collect();
    let mut call = client
        .open("POST", GET, &[("content-type", "application/grpc")])
        .await;
    call.message(&message, true);
    call.head().await;
    let mut body = Vec::new();
    while let Some(piece) = call.piece().await {
        body.extend_from_slice(&piece);
    }
    assert_eq!(body.len(), 5 + message.len());
    assert!(body == frame(&message)[..], "the message is another one");
    assert_eq!(call.trailers().await["grpc-status"], "0");
}

#[tokio::test]
async fn calls_are_tried_again_as_the_route_says() {
    let retry = ", retry: { attempts: 3, on: [unavailable], unsafe: true, backoff: { base: 1ms, max: 2ms } }";
    // Of the first nothing is known, of the second that it does not stream.
    for path in [GET, "/counter.CounterService/GetCounter"] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let mesh = mesh(retry, move |mut call: StreamCall| {
            let count = counted.fetch_add(1, SeqCst);
            async move {
                match count {
                    2 => {
                        let message = call.message().await?.unwrap();
                        call.send(&message).await?;
                        call.finish(0, "")
                    }
                    _ => call.finish(14, "not now"),
                }
            }
        })
        .await;
        let reply = mesh.client().await.grpc(path, &[], b"x").await;
        assert_eq!((reply.code, &reply.body[..]), (0, &b"x"[..]), "{path}");
        assert_eq!(calls.load(SeqCst), 3, "{path}");
    }
}

#[tokio::test]
async fn an_increment_gets_a_key_of_the_gateways_own() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&keys);
    let retry = ", retry: { attempts: 2, on: [unavailable], backoff: { base: 1ms, max: 2ms } }";
    let mesh = mesh(retry, move |mut call: StreamCall| {
        let key = call.headers.get("idempotency-key").cloned();
        let count = {
            let mut keys = kept.lock();
            keys.push(key);
            keys.len()
        };
        async move {
            call.message().await?;
            if count == 1 {
                return call.finish(14, "");
            }
            call.send(b"").await?;
            call.finish(0, "")
        }
    })
    .await;
    let client = mesh.client().await;
    let reply = client
        .grpc("/counter.CounterService/IncrementCounter", &[], b"")
        .await;
    assert_eq!(reply.code, 0, "{}", reply.message);
    let keys = keys.lock().clone();
    assert!(
        keys.len() == 2 && keys[0].is_some() && keys[0] == keys[1],
        "{keys:?}"
    );
}

#[tokio::test]
async fn calls_are_counted_by_method_where_it_is_known() {
    let mesh = mesh("", echo).await;
    let client = mesh.client().await;
    client
        .grpc("/counter.CounterService/GetCounter", &[], b"")
        .await;
    client.grpc(GET, &[], b"").await;
    let metrics = testkit::Metrics::scrape(mesh.gateway.admin()).await;
    let known = metrics.counter_value(
        "highgopress_grpc_requests_total",
        &[
            ("service", "counter.CounterService"),
            ("method", "GetCounter"),
            ("status_code", "OK"),
        ],
    );
    assert_eq!(known, 1);
    let unknown = metrics.counter_value(
        "highgopress_http_requests_total",
        &[
            ("endpoint", "/library.v1.Library/**"),
            ("status_code", "200"),
        ],
    );
    assert_eq!(unknown, 1);
}
