//! Methods that stream, over WebSockets: messages, method and token as grpc-websocket-proxy has them, endings both ways.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::stream_backend::{Cancelled, StreamCall};
use testkit::wait::PATIENCE;
use testkit::{Http1, eventually};

use super::setup::{Streams, count, number, streams, value_of};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// A client that writes its frames itself.
struct Socket(Http1);

impl Socket {
    /// Asks for a WebSocket, and says what the gateway's head has of the protocol.
    async fn open(streams: &Streams, target: &str, headers: &str) -> (Self, Option<String>) {
        let mut client = Http1::connect(streams.gateway().http()).await;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        client.send(request.as_bytes()).await;
        let head = client.head().await.expect("an answer");
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(
            head.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        let protocol = head.header("sec-websocket-protocol").map(str::to_owned);
        (Self(client), protocol)
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match u8::try_from(payload.len()) {
            Ok(short) if short < 126 => frame.push(0x80 | short),
            _ => {
                frame.push(0x80 | 126);
                let length = u16::try_from(payload.len()).expect("a test's message is short");
                frame.extend(length.to_be_bytes());
            }
        }
        // A mask that is not of zeros.
        let mask = [7, 1, 200, 99];
        frame.extend(mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.0.send(&frame).await;
    }

    async fn say(&mut self, message: &Value) {
        self.send(TEXT, message.to_string().as_bytes()).await;
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.0.read(2).await;
        assert_eq!(head[0] & 0xf0, 0x80, "whole frames without extensions");
        let length = match head[1] {
            126 => {
                let length = self.0.read(2).await;
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            short => usize::from(short),
        };
        (head[0] & 15, self.0.read(length).await)
    }

    async fn message(&mut self) -> Value {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, TEXT, "{}", payload.escape_ascii());
        serde_json::from_slice(&payload).unwrap()
    }

    /// The code of the frame that closes.
    async fn closed(&mut self) -> u16 {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, CLOSE, "{}", payload.escape_ascii());
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

/// Waits until so many calls were given up.
async fn cancelled(streams: &Streams, calls: usize) {
    let told = || async {
        let cancelled = streams.backend.cancelled();
        (cancelled == calls).then_some(()).ok_or(cancelled)
    };
    eventually("the backend to be told", PATIENCE, told).await;
}

/// Answers each number with the next one.
async fn next(mut call: StreamCall) -> Result<(), Cancelled> {
    while let Some(message) = call.message().await? {
        let (value, text) = value_of(&message);
        let mut answer = number(value + 1);
        if !text.is_empty() {
            answer.extend([18, u8::try_from(text.len()).unwrap()]);
            answer.extend(text.as_bytes());
        }
        call.send(&answer).await?;
    }
    call.finish(0, "")
}

#[tokio::test]
async fn both_sides_take_turns() {
    let streams = streams(("", ""), next).await;
    for target in ["/v1/chat/hello?method=POST", "/v1/chat/hello"] {
        let (mut socket, protocol) = Socket::open(&streams, target, "").await;
        assert_eq!(protocol, None);
        socket.say(&json!({ "value": 1 })).await;
        let first = json!({ "value": 2, "text": "hello" });
        assert_eq!(socket.message().await, first, "the path is of the first");
        socket.send(PING, b"?").await;
        assert_eq!(socket.frame().await, (10, b"?".to_vec()));
        socket.say(&json!({ "value": 2 })).await;
        assert_eq!(socket.message().await, json!({ "value": 3 }));
        socket.send(TEXT, b"").await;
        assert_eq!(
            socket.closed().await,
            1000,
            "the request is over, and so is the call"
        );
        socket.0.expect_close().await;
    }
}

#[tokio::test]
async fn a_token_stands_in_the_protocol() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        let token = call.headers.get("authorization").cloned();
        let token = token.map(|value| value.to_str().unwrap().to_owned());
        call.message().await?;
        call.finish(5, token.as_deref().unwrap_or("none"))
    })
    .await;
    let headers = "sec-websocket-protocol: Bearer, abc.def\r\nauthorization: Basic x\r\n";
    let (mut socket, protocol) = Socket::open(&streams, "/v1/chat/a", headers).await;
    assert_eq!(protocol.as_deref(), Some("Bearer"));
    socket.say(&json!({})).await;
    let told = socket.message().await;
    assert_eq!(
        (&told["error"]["code"], &told["error"]["message"]),
        (&json!(5), &json!("Bearer abc.def"))
    );
    assert_eq!(socket.closed().await, 1011);
}

#[tokio::test]
async fn server_streams_need_no_message_and_client_streams_end_by_an_empty_one() {
    let counting = streams(("", ""), count).await;
    let (mut socket, _) = Socket::open(&counting, "/v1/count/4?limit=2", "").await;
    assert_eq!(socket.message().await, json!({ "value": 4 }));
    assert_eq!(socket.message().await, json!({ "value": 5 }));
    assert_eq!(socket.closed().await, 1000);

    let summing = streams(("", ""), |mut call: StreamCall| async move {
        let mut sum = 0;
        while let Some(message) = call.message().await? {
            sum += value_of(&message).0;
        }
        call.send(&number(sum)).await?;
        call.finish(0, "")
    })
    .await;
    let (mut socket, _) = Socket::open(&summing, "/v1/sum", "").await;
    for value in [1, 2, 3] {
        socket.say(&json!({ "value": value })).await;
    }
    socket.send(TEXT, b"").await;
    assert_eq!(socket.message().await, json!({ "value": 6 }));
    assert_eq!(socket.closed().await, 1000);
}

#[tokio::test]
async fn failures_are_told_before_the_end() {
    let streams = streams(("", ", max_body: 1KiB"), next).await;
    let cases: [(u8, Vec<u8>, u16, &str); 4] = [
        (TEXT, b"{\"value\":".to_vec(), 1007, "INVALID_JSON"),
        (TEXT, b"{\"colour\":1}".to_vec(), 1007, "colour"),
        (TEXT, vec![b' '; 1025], 1009, "BODY_TOO_LARGE"),
        (11, b"".to_vec(), 1002, "BAD_REQUEST"),
    ];
    for (opcode, payload, code, word) in cases {
        let (mut socket, _) = Socket::open(&streams, "/v1/chat/a", "").await;
        socket.say(&json!({ "value": 1 })).await;
        socket.message().await;
        socket.send(opcode, &payload).await;
        let told = socket.message().await.to_string();
        assert!(told.starts_with("{\"error\":{"), "{told}");
        assert_eq!(socket.closed().await, code, "{word}: {told}");
    }
    let mut client = Http1::connect(streams.gateway().http()).await;
    let headers = [("connection", "upgrade"), ("upgrade", "websocket")];
    let head = client.request("GET", "/v1/chat/a", &headers, None).await;
    assert_eq!(
        (head.status, head.header("sec-websocket-version")),
        (426, Some("13"))
    );
}

#[tokio::test]
async fn either_side_ends_the_other_at_once() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        call.message().await?;
        call.send(&number(1)).await?;
        Err(call.cancelled().await)
    })
    .await;
    for (nth, close) in [(1, Some(1000_u16)), (2, None)] {
        let (mut socket, _) = Socket::open(&streams, "/v1/chat/a", "").await;
        socket.say(&json!({})).await;
        socket.message().await;
        match close {
            Some(code) => {
                socket.send(CLOSE, &code.to_be_bytes()).await;
                assert_eq!(socket.closed().await, code);
            }
            None => drop(socket),
        }
        cancelled(&streams, nth).await;
    }
}

#[tokio::test]
async fn bytes_are_messages_of_bytes() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        while let Some(message) = call.message().await? {
            call.send(&message).await?;
        }
        call.finish(0, "")
    })
    .await;
    let (mut socket, _) = Socket::open(&streams, "/v1/convert", "").await;
    socket.send(BINARY, b"\xff\x00").await;
    assert_eq!(socket.frame().await, (BINARY, b"\xff\x00".to_vec()));
}

#[tokio::test]
async fn a_slow_reader_costs_a_constant() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        let message = [&[18, 0xff, 0x07][..], &[b'x'; 1023]].concat();
        loop {
            call.send(&message).await?;
        }
    })
    .await;
    let (socket, _) = Socket::open(&streams, "/v1/count/1", "").await;
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = streams.backend.sent();
        if now > 0 && now == std::mem::replace(&mut before, now) {
            break;
        }
    }
    // The windows of both connections and what the kernel takes.
    assert!(before < 16_000, "{before} messages of 1 KiB");
    drop(socket);
    cancelled(&streams, 1).await;
}
