//! Streams of the client, and of both.

use testkit::Http1;
use testkit::stream_backend::{Cancelled, StreamCall};

use super::setup::{number, streams, value_of};

/// Adds up, or answers each number with its double.
async fn serve(mut call: StreamCall) -> Result<(), Cancelled> {
    if call.path.ends_with("/Chat") {
        while let Some(message) = call.message().await? {
            let (value, text) = value_of(&message);
            let answer = [
                &number(2 * value)[..],
                &[18, u8::try_from(text.len()).unwrap()],
                text.as_bytes(),
            ];
            call.send(&answer.concat()).await?;
        }
        return call.finish(0, "");
    }
    let mut sum = 0;
    while let Some(message) = call.message().await? {
        sum += value_of(&message).0;
    }
    call.send(&number(sum)).await?;
    call.finish(0, "")
}

#[tokio::test]
async fn messages_of_the_client_may_be_lines_or_a_list() {
    let streams = streams(("", ""), serve).await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    for (kind, body, sum) in [
        (
            "application/json",
            "[{\"value\":1},{\"value\":2}, {\"value\":3}]",
            6,
        ),
        ("application/x-ndjson", "{\"value\":4}\n{\"value\":5}\n", 9),
        ("application/json", "{\"value\":7}", 7),
    ] {
        let answer = client
            .request(
                "POST",
                "/v1/sum",
                &[("content-type", kind)],
                Some(body.as_bytes()),
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json()["value"], sum);
    }
    let none = client.request("POST", "/v1/sum", &[], Some(b"[]")).await;
    assert_eq!(none.text(), "{}", "the sum of nothing");
}

#[tokio::test]
async fn a_message_that_is_none_is_the_clients_fault_wherever_it_stands() {
    let streams = streams(("", ""), serve).await;
    for body in [
        "[{\"value\":1},{\"valeu\":2}]",
        "[{\"valeu\":2}]",
        "[{\"value\":1} {\"value\":2}]",
        "[{\"value\":1},",
        "nonsense",
    ] {
        let mut client = Http1::connect(streams.gateway().http()).await;
        let answer = client.post_text("/v1/sum", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn both_sides_may_stream_in_turns() {
    let streams = streams(("", ""), serve).await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    client
        .send(b"POST /v1/chat/hello HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.send_chunk("{\"value\":1}\n").await;
    let head = client
        .head()
        .await
        .expect("an answer while the request goes on");
    assert_eq!(head.status, 200);
    // The path binds in the first message.
    let first = client.chunk().await;
    assert_eq!(first.as_deref(), Some("{\"value\":2,\"text\":\"hello\"}\n"));
    for value in [5, 6] {
        client.send_chunk(&format!("{{\"value\":{value}}}\n")).await;
        let answer = client.chunk().await;
        assert_eq!(answer, Some(format!("{{\"value\":{}}}\n", 2 * value)));
    }
    client.send_chunk("").await;
    assert_eq!(client.chunk().await, None);
    let again = client
        .request("POST", "/v1/sum", &[], Some(b"{\"value\":3}"))
        .await;
    assert_eq!(again.json()["value"], 3);
}

#[tokio::test]
async fn a_fault_in_the_middle_of_both_is_told_in_the_stream() {
    let streams = streams(("", ""), serve).await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    client
        .send(b"POST /v1/chat/hello HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.send_chunk("{\"value\":1}\n").await;
    assert_eq!(client.head().await.map(|head| head.status), Some(200));
    client.chunk().await.expect("the answer to the first");
    client.send_chunk("{\"value\":}\n").await;
    let error = client.chunk().await.expect("the error");
    assert!(error.starts_with("{\"error\":{\"code\":3,"), "{error}");
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn streams_that_are_encoded_are_refused_by_name() {
    let streams = streams(
        ("", ""),
        |call: StreamCall| async move { call.finish(0, "") },
    )
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    let headers = [("content-encoding", "gzip")];
    let answer = client
        .request("POST", "/v1/sum", &headers, Some(b"\x1f\x8b"))
        .await;
    assert_eq!(answer.status, 415, "{}", answer.text());
}
