//! Answers and requests in content codings.

use std::io::{Read, Write};

use flate2::read::GzDecoder;
use testkit::mesh::Gateway;
use testkit::stream_backend::{StreamBackend, StreamCall};
use testkit::{Http1, Response};

use super::setup::{echo, gzip, transcoding};

const PATH: &str = "/counter.CounterService/GetCounter";

async fn gateway((options, further): (&str, &str)) -> (Gateway, StreamBackend) {
    let backend = StreamBackend::start(echo).await;
    let options = format!(", unannotated: true{options}");
    let gateway = transcoding("counter.CounterService", (&options, further), &backend).await;
    (gateway, backend)
}

async fn ask(gateway: &Gateway, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut client = Http1::connect(gateway.http()).await;
    client.request("POST", PATH, headers, Some(body)).await
}

fn counter(length: usize) -> String {
    format!("{{\"resourceId\":\"{}\"}}", "a".repeat(length))
}

fn brotli(body: &[u8]) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 20);
    encoder.write_all(body).unwrap();
    encoder.into_inner()
}

fn decoded(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    let read = match coding {
        "gzip" => GzDecoder::new(body).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        _ => zstd::Decoder::new(body).unwrap().read_to_string(&mut text),
    };
    read.unwrap();
    text
}

#[tokio::test]
async fn answers_that_are_worth_it_are_encoded_as_the_client_likes() {
    let (gateway, _backend) = gateway(("", "")).await;
    let long = counter(2000);
    for (accept, coding) in [
        ("gzip", "gzip"),
        ("gzip, br;q=0.9", "gzip"),
        ("gzip, deflate, br", "br"),
        ("zstd, br", "zstd"),
    ] {
        let answer = ask(&gateway, &[("accept-encoding", accept)], long.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (200, Some(coding)),
            "{accept}"
        );
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        assert_eq!(decoded(coding, &answer.body), long, "{accept}");
    }
    let plain = ask(&gateway, &[], long.as_bytes()).await;
    assert_eq!(
        (plain.header("content-encoding"), plain.text()),
        (None, long)
    );
    let short = ask(
        &gateway,
        &[("accept-encoding", "gzip")],
        counter(10).as_bytes(),
    )
    .await;
    assert_eq!(
        (short.header("content-encoding"), short.text()),
        (None, counter(10))
    );
}

#[tokio::test]
async fn a_route_may_do_without() {
    let (gateway, _backend) = gateway((", compression: false", "")).await;
    let long = counter(2000);
    let answer = ask(&gateway, &[("accept-encoding", "gzip")], long.as_bytes()).await;
    assert_eq!(
        (answer.header("content-encoding"), answer.text()),
        (None, long)
    );
}

#[tokio::test]
async fn requests_are_decoded_within_the_limit() {
    let (gateway, backend) = gateway((", max_body: 64KiB", "")).await;
    let body = counter(100);
    for (coding, bytes) in [
        ("gzip", gzip(body.as_bytes())),
        ("zstd", zstd::bulk::compress(body.as_bytes(), 3).unwrap()),
        ("br", brotli(body.as_bytes())),
        ("identity", body.clone().into_bytes()),
    ] {
        let answer = ask(&gateway, &[("content-encoding", coding)], &bytes).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, body.clone()),
            "{coding}"
        );
    }
    let calls = backend.calls();
    let long = counter(8 << 20);
    let bombs = [
        gzip(long.as_bytes()),
        brotli(long.as_bytes()),
        zstd::bulk::compress(long.as_bytes(), 3).unwrap(),
    ];
    for bomb in &bombs {
        assert!(bomb.len() < 64 << 10, "{} bytes", bomb.len());
    }
    for (coding, body, status, reason) in [
        ("gzip", &bombs[0][..], 413, "BODY_TOO_LARGE"),
        ("br", &bombs[1], 413, "BODY_TOO_LARGE"),
        ("zstd", &bombs[2], 413, "BODY_TOO_LARGE"),
        ("gzip", b"not gzip", 400, "INVALID_REQUEST"),
        ("deflate", b"x", 415, "UNKNOWN_CODING"),
        ("gzip, gzip", b"x", 415, "UNKNOWN_CODING"),
    ] {
        let answer = ask(&gateway, &[("content-encoding", coding)], body).await;
        assert_eq!(answer.status, status, "{coding}: {}", answer.text());
        assert!(
            answer.text().contains(reason),
            "{coding}: {}",
            answer.text()
        );
    }
    assert_eq!(backend.calls(), calls);
}

/// A message on the wire that says that it is compressed.
fn compressed(message: &[u8]) -> bytes::Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[1][..], &length.to_be_bytes(), message].concat().into()
}

#[tokio::test]
async fn backends_may_answer_in_what_they_like() {
    let long = format!("{{\"resourceId\":\"{}\"}}", "a".repeat(5000));
    let message = [&[10, 0x88, 0x27][..], &[b'a'; 5000]].concat();
    let bomb = gzip(&vec![0; 65 << 20]);
    for (coding, sent, status) in [
        ("gzip", gzip(&message), 200),
        ("zstd", zstd::bulk::compress(&message, 3).unwrap(), 200),
        ("snappy", gzip(&message), 500),
        ("gzip", b"no gzip".to_vec(), 500),
        ("gzip", bomb, 500),
    ] {
        let backend = StreamBackend::start(move |mut call: StreamCall| {
            let sent = compressed(&sent);
            async move {
                let accepted = call.headers["grpc-accept-encoding"].clone();
                assert_eq!(accepted, "gzip,zstd");
                call.message().await?;
                call.begin_with(&[("grpc-encoding", coding)])?;
                call.send_bytes(sent).await?;
                call.finish(0, "")
            }
        })
        .await;
        let options = (", unannotated: true", "");
        let gateway = transcoding("counter.CounterService", options, &backend).await;
        let answer = ask(&gateway, &[], b"{}").await;
        match status {
            200 => assert_eq!((answer.status, answer.text()), (200, long.clone())),
            _ => assert!(answer.status >= 500, "{coding}: {}", answer.text()),
        }
        assert_eq!(answer.header("grpc-encoding"), None);
    }
}

#[tokio::test]
async fn streams_of_backends_are_decoded_message_by_message() {
    let backend = StreamBackend::start(|mut call: StreamCall| async move {
        call.message().await?;
        call.begin_with(&[("grpc-encoding", "zstd")])?;
        for message in [&b"\x0a\x01a"[..], b"\x0a\x01b"] {
            let message = zstd::bulk::compress(message, 3).unwrap();
            call.send_bytes(compressed(&message)).await?;
            call.send(b"\x0a\x01c").await?;
        }
        call.finish(0, "")
    })
    .await;
    let gateway = transcoding("analytics.AnalyticsService", ("", ""), &backend).await;
    let mut client = Http1::connect(gateway.http()).await;
    let answer = client.get("/api/v1/analytics/live/like").await;
    let line = |text: &str| format!("{{\"counterType\":\"{text}\"}}\n");
    assert_eq!(answer.text(), ["a", "c", "b", "c"].map(line).concat());
}

#[tokio::test]
async fn a_cluster_may_get_messages_compressed() {
    for (coding, magic) in [
        ("gzip", &[0x1f, 0x8b][..]),
        ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ] {
        let backend = StreamBackend::start(move |mut call: StreamCall| async move {
            assert_eq!(call.headers["grpc-encoding"], coding);
            let message = call.message().await?.expect("a message");
            let is_encoded = message.starts_with(magic);
            call.send(&[24, u8::from(is_encoded)]).await?;
            call.finish(0, "")
        })
        .await;
        let further = format!(", compression: {coding}");
        let options = (", unannotated: true", further.as_str());
        let gateway = transcoding("counter.CounterService", options, &backend).await;
        for (length, told) in [(5000, "{\"currentValue\":\"1\"}"), (10, "{}")] {
            let answer = ask(&gateway, &[], counter(length).as_bytes()).await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, told),
                "{coding}"
            );
        }
    }
}

#[tokio::test]
async fn streams_are_encoded_and_each_message_can_be_read_at_once() {
    for coding in ["gzip", "br", "zstd"] {
        let backend = StreamBackend::start(|mut call: StreamCall| async move {
            call.message().await?;
            for text in [&b"\x0a\x01a"[..], b"\x0a\x01b"] {
                call.send(text).await?;
            }
            call.finish(0, "")
        })
        .await;
        let gateway = transcoding("analytics.AnalyticsService", ("", ""), &backend).await;
        let mut client = Http1::connect(gateway.http()).await;
        let headers = [("accept-encoding", coding)];
        let path = "/api/v1/analytics/live/like";
        let answer = client.request("GET", path, &headers, None).await;
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(
            decoded(coding, &answer.body),
            "{\"counterType\":\"a\"}\n{\"counterType\":\"b\"}\n"
        );
    }
}
