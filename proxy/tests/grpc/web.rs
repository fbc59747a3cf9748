//! Browsers: gRPC-Web, binary and as text, over HTTP/1.1 and HTTP/2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use testkit::h2c::frame;
use testkit::stream_backend::StreamCall;
use testkit::{Http1, Response};

use super::setup::{echo, mesh};

const GET: &str = "/library.v1.Library/Get";

/// The messages of a body, and its trailers.
fn frames(mut body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let mut messages = Vec::new();
    loop {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        let (frame, rest) = body.split_at(5 + length);
        if frame[0] == 0x80 {
            assert!(rest.is_empty(), "{rest:?} behind the trailers");
            return (messages, String::from_utf8(frame[5..].to_vec()).unwrap());
        }
        messages.push(frame[5..].to_vec());
        body = rest;
    }
}

async fn ask(client: &mut Http1, kind: &str, body: &[u8]) -> Response {
    client
        .request(
            "POST",
            GET,
            &[("content-type", kind), ("x-grpc-web", "1")],
            Some(body),
        )
        .await
}

#[tokio::test]
async fn the_trailers_are_the_last_frame() {
    let mesh = mesh("", echo).await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    for kind in ["application/grpc-web", "application/grpc-web+proto"] {
        let answer = ask(&mut client, kind, &frame(b"hello")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-type"),
            Some("application/grpc-web+proto")
        );
        assert_eq!(answer.header("x-method"), Some(GET));
        let (messages, trailers) = frames(&answer.body);
        assert_eq!(messages, [b"hello"]);
        assert!(
            trailers.contains("grpc-status:0\r\n") && trailers.contains("x-trailer:late\r\n"),
            "{trailers}"
        );
    }
    let http2 = mesh.client().await;
    let answer = http2
        .request(
            "POST",
            GET,
            &[("content-type", "application/grpc-web")],
            &frame(b"2"),
        )
        .await;
    assert_eq!(frames(&answer.body).0, [b"2"]);
}

#[tokio::test]
async fn text_is_base64_both_ways() {
    let mesh = mesh("", echo).await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let text = STANDARD.encode(frame(b"hello!"));
    let answer = ask(&mut client, "application/grpc-web-text", text.as_bytes()).await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/grpc-web-text+proto")
    );
    let mut body = Vec::new();
    for part in answer
        .text()
        .split_inclusive('=')
        .filter(|part| *part != "=")
    {
        let part = part.trim_end_matches('=');
        body.extend(
            base64::engine::general_purpose::STANDARD_NO_PAD
                .decode(part)
                .unwrap(),
        );
    }
    let (messages, trailers) = frames(&body);
    assert_eq!(messages, [b"hello!"]);
    assert!(trailers.contains("grpc-status:0\r\n"), "{trailers}");
    let broken = ask(&mut client, "application/grpc-web-text", b"!!!!").await;
    assert_eq!(broken.header("grpc-status"), Some("3"));
}

#[tokio::test]
async fn one_message_as_text_is_one_run_of_base64() {
    let mesh = mesh("", echo).await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let text = STANDARD.encode(frame(b"ab"));
    let kind = [("content-type", "application/grpc-web-text")];
    let path = "/counter.CounterService/GetCounter";
    let answer = client
        .request("POST", path, &kind, Some(text.as_bytes()))
        .await;
    let body = STANDARD.decode(answer.text()).expect("one run");
    assert_eq!(frames(&body).0, [b"ab"]);
}

#[tokio::test]
async fn a_stream_comes_frame_by_frame() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        call.message().await?;
        call.send(b"1").await?;
        call.send(b"2").await?;
        call.finish(11, "no more")
    })
    .await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let answer = ask(&mut client, "application/grpc-web", &frame(b"")).await;
    let (messages, trailers) = frames(&answer.body);
    assert_eq!(messages, [b"1", b"2"]);
    assert_eq!(trailers, "grpc-status:11\r\ngrpc-message:no more\r\n");
}

#[tokio::test]
async fn failures_are_told_in_head_and_body() {
    let mesh = mesh("", |call: StreamCall| async move { call.finish(5, "gone") }).await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let answer = ask(&mut client, "application/grpc-web+proto", &frame(b"")).await;
    assert_eq!(
        (answer.status, answer.header("grpc-status")),
        (200, Some("5"))
    );
    let (messages, trailers) = frames(&answer.body);
    assert!(
        messages.is_empty() && trailers.contains("grpc-status:5\r\n"),
        "{trailers}"
    );
    let path = "/nobody.v1.Here/Get";
    let kind = [("content-type", "application/grpc-web+proto")];
    let answer = client.request("POST", path, &kind, Some(&frame(b""))).await;
    assert_eq!(answer.header("grpc-status"), Some("12"));
    assert!(frames(&answer.body).1.contains("grpc-status:12\r\n"));
}
