//! Streams of the server: the forms, liveness, slow readers, clients that go.

use std::sync::Arc;
use std::time::Duration;

use testkit::stream_backend::StreamCall;
use testkit::{Http1, eventually};
use tokio::sync::Semaphore;

use super::setup::{count, number, streams};

const SECONDS: Duration = Duration::from_secs(10);

#[tokio::test]
async fn each_form_is_given_to_those_who_ask_for_it() {
    let streams = streams(("", ""), count).await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    for (accept, kind, body) in [
        (
            "*/*",
            "application/x-ndjson",
            "{\"value\":1}\n{\"value\":2}\n{\"value\":3}\n",
        ),
        (
            "application/json",
            "application/json",
            "[{\"value\":1},{\"value\":2},{\"value\":3}]",
        ),
        (
            "text/event-stream",
            "text/event-stream",
            "id: 1\ndata: {\"value\":1}\n\nid: 2\ndata: {\"value\":2}\n\nid: 3\ndata: {\"value\":3}\n\n",
        ),
        (
            "application/x-ndjson",
            "application/x-ndjson",
            "{\"value\":1}\n{\"value\":2}\n{\"value\":3}\n",
        ),
    ] {
        let answer = client
            .request("GET", "/v1/count/1?limit=3", &[("accept", accept)], None)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some(kind), "{accept}");
        assert_eq!(answer.text(), body, "{accept}");
    }
    assert_eq!(streams.backend.calls(), 4);
    let head = client
        .request("HEAD", "/v1/count/1?limit=3", &[], None)
        .await;
    assert_eq!(head.status, 200);
    assert_eq!(streams.backend.calls(), 4, "a HEAD asks nobody");
}

#[tokio::test]
async fn the_route_says_what_others_get() {
    let streams = streams(("", ", stream: array"), count).await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    let answer = client.get("/v1/count/5?limit=1").await;
    assert_eq!(answer.text(), "[{\"value\":5}]");
    let none = client.get("/v1/count/5?limit=0").await;
    assert_eq!((none.status, none.text()), (200, "[]".to_owned()));
}

#[tokio::test]
async fn a_message_arrives_before_the_next_is_sent() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let streams = streams(("", ""), move |mut call: StreamCall| {
        let gate = Arc::clone(&waits);
        async move {
            for value in 1..=3 {
                call.send(&number(value)).await?;
                gate.acquire().await.unwrap().forget();
            }
            call.finish(0, "")
        }
    })
    .await;
    let (mut client, head) = streams.open("").await;
    assert_eq!(head.status, 200);
    for value in 1..=3 {
        assert_eq!(
            client.chunk().await,
            Some(format!("{{\"value\":{value}}}\n"))
        );
        gate.add_permits(1);
    }
    assert_eq!(client.chunk().await, None);
    // The connection takes another request.
    let again = client.get("/v1/nowhere").await;
    assert_eq!(again.status, 404);
}

#[tokio::test]
async fn events_begin_before_the_first_message_and_continue_where_the_client_was() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let streams = streams(("", ""), move |mut call: StreamCall| {
        let gate = Arc::clone(&waits);
        async move {
            let last = call
                .headers
                .get("last-event-id")
                .map(|id| id.as_bytes().to_vec());
            assert_eq!(last.as_deref(), Some(&b"41"[..]));
            call.begin()?;
            gate.acquire().await.unwrap().forget();
            call.send(&number(7)).await?;
            call.finish(0, "")
        }
    })
    .await;
    let (mut client, head) = streams
        .open("accept: text/event-stream\r\nlast-event-id: 41\r\n")
        .await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("cache-control"), Some("no-cache"));
    gate.add_permits(1);
    let event = client.chunk().await;
    assert_eq!(event.as_deref(), Some("id: 42\ndata: {\"value\":7}\n\n"));
    assert_eq!(client.chunk().await, None);
}

async fn endless(mut call: StreamCall) -> Result<(), testkit::stream_backend::Cancelled> {
    let message = [&[18, 0xe8, 0x07][..], &[b'x'; 1000]].concat();
    loop {
        call.send(&message).await?;
    }
}

#[tokio::test]
async fn a_reader_that_stops_costs_a_constant_and_is_not_forgotten() {
    let streams = streams(("", ""), endless).await;
    let (mut client, head) = streams.open("").await;
    assert_eq!(head.status, 200);
    // What windows and sockets hold is reached, and then nothing moves.
    let mut before = usize::MAX;
    eventually("the backend to be held up", 2 * SECONDS, || {
        let sent = streams.backend.sent();
        let stands = std::mem::replace(&mut before, sent) == sent;
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if stands {
                Ok(())
            } else {
                Err(format!("{sent} messages have been sent"))
            }
        }
    })
    .await;
    assert!(
        streams.backend.sent() < 16_000,
        "{} KB on the way",
        streams.backend.sent()
    );
    let held = streams.backend.sent();
    for _ in 0..held {
        client.chunk().await.expect("there is more");
    }
    eventually("the stream to go on", SECONDS, || async {
        let sent = streams.backend.sent();
        if sent > held {
            Ok(())
        } else {
            Err(format!("still {sent}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_takes_the_call_with_it() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        call.send(&number(1)).await?;
        Err(call.cancelled().await)
    })
    .await;
    for accept in ["", "accept: text/event-stream\r\n"] {
        let before = streams.backend.cancelled();
        let (mut client, _) = streams.open(accept).await;
        client.chunk().await.expect("a message");
        drop(client);
        eventually("the backend to be told", SECONDS, || async {
            if streams.backend.cancelled() > before {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_goes_before_the_first_message_does_too() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        call.begin()?;
        Err(call.cancelled().await)
    })
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    client
        .send(b"GET /v1/count/1 HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    eventually("the call to arrive", SECONDS, || async {
        if streams.backend.calls() == 1 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    drop(client);
    eventually("the backend to be told", SECONDS, || async {
        if streams.backend.cancelled() == 1 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
}

#[tokio::test]
async fn streams_go_over_http2_and_to_http10_too() {
    let streams = streams(("", ""), count).await;
    let client = testkit::h2c::H2c::connect(streams.gateway().http()).await;
    let answer = client
        .request(
            "GET",
            "/v1/count/1?limit=2",
            &[("accept", "application/json")],
            b"",
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "[{\"value\":1},{\"value\":2}]");
    let mut old = Http1::connect(streams.gateway().http()).await;
    old.send(b"GET /v1/count/1?limit=2 HTTP/1.0\r\nhost: a\r\n\r\n")
        .await;
    let answer = old.response(false).await;
    assert_eq!(answer.text(), "{\"value\":1}\n{\"value\":2}\n");
    assert_eq!(answer.header("transfer-encoding"), None);
}

#[tokio::test]
async fn metadata_becomes_headers_and_trailers() {
    let streams = streams(
        ("", ", request_metadata: [x-tenant]"),
        |mut call: StreamCall| async move {
            assert_eq!(call.headers["x-tenant"], "blue");
            assert_eq!(call.headers["x-own"], "1");
            assert!(!call.headers.contains_key("x-other"));
            call.begin_with(&[("x-first", "1"), ("grpc-encoding", "identity")])?;
            call.send(&number(1)).await?;
            call.finish_with(0, "", &[("x-last", "2")])
        },
    )
    .await;
    let sent = "x-tenant: blue\r\nx-other: 1\r\ngrpc-metadata-x-own: 1\r\nte: trailers\r\n";
    let (mut client, head) = streams.open(sent).await;
    assert_eq!((head.status, head.header("x-first")), (200, Some("1")));
    assert_eq!(head.header("grpc-encoding"), None);
    client.chunk().await.expect("a message");
    let trailers = client.read(b"0\r\nx-last: 2\r\n\r\n".len()).await;
    assert_eq!(trailers, b"0\r\nx-last: 2\r\n\r\n");
}
