//! Streams in both directions at once.

use std::sync::Arc;
use std::time::Duration;

use testkit::eventually;
use testkit::h2c::frame;
use testkit::stream_backend::{Cancelled, StreamCall};
use tokio::sync::Notify;

use super::setup::{echo, mesh};

const CHAT: &str = "/library.v1.Library/Chat";
const GRPC: [(&str, &str); 1] = [("content-type", "application/grpc")];
const SECONDS: Duration = Duration::from_secs(10);

#[tokio::test]
async fn both_sides_take_turns() {
    let mesh = mesh("", echo).await;
    let mut call = mesh.client().await.open("POST", CHAT, &GRPC).await;
    call.message(b"one", false);
    call.head().await;
    assert_eq!(call.piece().await.unwrap(), frame(b"one"));
    for text in ["two", "three"] {
        call.message(text.as_bytes(), false);
        assert_eq!(call.piece().await.unwrap(), frame(text.as_bytes()));
    }
    call.send(b"", true);
    assert_eq!(call.piece().await, None);
    let trailers = call.trailers().await;
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-trailer"]),
        (&"0".parse().unwrap(), &"late".parse().unwrap())
    );
}

#[tokio::test]
async fn the_server_may_speak_first() {
    // A route that would try again waits a little for the end of the request, and then no more.
    for route in [
        "",
        ", retry: { attempts: 2, on: [unavailable], unsafe: true }",
    ] {
        let mesh = mesh(route, |mut call: StreamCall| async move {
            call.begin_with(&[("x-first", "1")])?;
            call.send(b"welcome").await?;
            let said = call.message().await?;
            assert_eq!(said.as_deref(), Some(&b"thanks"[..]));
            call.finish(0, "")
        })
        .await;
        let mut call = mesh.client().await.open("POST", CHAT, &GRPC).await;
        assert_eq!(call.head().await.headers["x-first"], "1");
        assert_eq!(call.piece().await.unwrap(), frame(b"welcome"));
        call.message(b"thanks", true);
        assert_eq!(call.piece().await, None);
        assert_eq!(call.trailers().await["grpc-status"], "0");
    }
}

#[tokio::test]
async fn many_small_messages_wait_for_a_slow_backend() {
    const MESSAGES: usize = 10_000;
    let open = Arc::new(Notify::new());
    let gate = open.clone();
    let mesh = mesh("", move |mut call: StreamCall| {
        let gate = gate.clone();
        async move {
            call.begin()?;
            gate.notified().await;
            let mut count = 0;
            while call.message().await?.is_some() {
                count += 1;
            }
            call.send(format!("{count}").as_bytes()).await?;
            call.finish(0, "")
        }
    })
    .await;
    let client = mesh.client().await;
    let mut call = client.open("POST", CHAT, &GRPC).await;
    for _ in 0..MESSAGES {
        call.message(b"eleven byte", false);
    }
    call.send(b"", true);
    call.head().await;
    // Their turns let what was written before them arrive.
    for _ in 0..20 {
        let refused = client.request("GET", "/nowhere", &[], b"").await;
        assert_eq!(refused.status, 404);
    }
    open.notify_one();
    assert_eq!(
        call.piece().await.unwrap(),
        frame(MESSAGES.to_string().as_bytes())
    );
}

#[tokio::test]
async fn a_head_arrives_before_there_is_a_message() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        call.begin_with(&[("x-first", "1")])?;
        Err(call.cancelled().await)
    })
    .await;
    let mut call = mesh.client().await.open("POST", CHAT, &GRPC).await;
    call.message(b"", true);
    assert_eq!(call.head().await.headers["x-first"], "1");
}

#[tokio::test]
async fn a_client_that_goes_takes_the_call_with_it() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        call.send(b"x").await?;
        Err(call.cancelled().await)
    })
    .await;
    for more in [false, true] {
        let before = mesh.backend.cancelled();
        let mut call = mesh.client().await.open("POST", CHAT, &GRPC).await;
        call.message(b"", !more);
        call.head().await;
        drop(call);
        eventually("the backend to be told", SECONDS, || async {
            match mesh.backend.cancelled() > before {
                true => Ok(()),
                false => Err("not yet"),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_ends_early_ends_the_call() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        call.message().await?;
        call.finish(9, "enough")
    })
    .await;
    let mut call = mesh.client().await.open("POST", CHAT, &GRPC).await;
    call.message(b"", false);
    assert_eq!(call.head().await.headers["grpc-status"], "9");
    assert_eq!(call.piece().await, None);
}

#[tokio::test]
async fn a_reader_that_stops_costs_a_constant() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        loop {
            call.send(&[b'x'; 1000]).await?;
        }
        #[expect(unreachable_code, reason = "what a handler gives")]
        Err::<(), _>(Cancelled)
    })
    .await;
    let mut call = mesh.client().await.open("POST", CHAT, &GRPC).await;
    call.message(b"", true);
    call.head().await;
    let mut before = usize::MAX;
    eventually("the backend to be held up", 2 * SECONDS, || {
        let sent = mesh.backend.sent();
        let stands = std::mem::replace(&mut before, sent) == sent;
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            match stands {
                true => Ok(()),
                false => Err(format!("{sent} messages have been sent")),
            }
        }
    })
    .await;
    assert!(
        mesh.backend.sent() < 2_000,
        "{} KB on the way",
        mesh.backend.sent()
    );
}
