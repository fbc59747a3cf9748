//! How streams end that do not end well, and what time has to do with it.

use std::time::Duration;

use serde_json::Value;
use testkit::stream_backend::StreamCall;
use testkit::{Http1, Metrics};

use super::setup::{Streams, number, streams};

#[tokio::test]
async fn a_failure_before_the_first_message_is_one_like_any_other() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        call.message().await?;
        call.finish(5, "no such number")
    })
    .await;
    for accept in ["*/*", "text/event-stream", "application/json"] {
        let mut client = Http1::connect(streams.gateway().http()).await;
        let answer = client
            .request("GET", "/v1/count/1", &[("accept", accept)], None)
            .await;
        assert_eq!(answer.status, 404, "{accept}");
        assert_eq!(answer.json()["message"], "no such number");
    }
}

#[tokio::test]
async fn a_failure_in_the_middle_is_told_in_the_form_of_the_stream() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        call.message().await?;
        call.send(&number(1)).await?;
        call.finish(9, "not today")
    })
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    let mut ask = async |accept: &str| {
        let headers = [("accept", accept)];
        let answer = client.request("GET", "/v1/count/1", &headers, None).await;
        assert_eq!(answer.status, 200);
        answer.text()
    };
    let lines = ask("*/*").await;
    let (first, last) = lines.trim_end().split_once('\n').unwrap();
    assert_eq!(first, "{\"value\":1}");
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["code"], 9);
    assert_eq!(last["error"]["message"], "not today");
    let list: Value = serde_json::from_str(&ask("application/json").await).unwrap();
    assert_eq!(list[0]["value"], 1);
    assert_eq!(list[1]["error"]["code"], 9);
    let events = ask("text/event-stream").await;
    let (_, error) = events.split_once("event: error\ndata: ").unwrap();
    let error: Value = serde_json::from_str(error.trim_end()).unwrap();
    assert_eq!(error["message"], "not today");
}

#[tokio::test]
async fn a_stream_that_is_reset_says_so() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        call.message().await?;
        call.send(&number(1)).await?;
        // The message leaves before the reset does.
        tokio::time::sleep(Duration::from_millis(50)).await;
        call.reset(h2::Reason::INTERNAL_ERROR);
        Ok(())
    })
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    let answer = client.get("/v1/count/1").await;
    let text = answer.text();
    let last: Value = serde_json::from_str(text.trim_end().rsplit('\n').next().unwrap()).unwrap();
    assert_eq!(
        last["error"]["details"][0]["reason"], "UPSTREAM_RESET",
        "{text}"
    );
}

#[tokio::test]
async fn the_first_message_is_waited_for_as_long_as_the_route_says_and_the_stream_for_longer() {
    let streams = streams((", timeout: 1s", ""), |mut call: StreamCall| async move {
        let request = call.message().await?.unwrap_or_default();
        if request == [8u8, 1][..] {
            call.begin()?;
            return Err(call.cancelled().await);
        }
        assert_eq!(
            call.headers.get("grpc-timeout"),
            None,
            "it would end the stream"
        );
        for value in 1..=3 {
            call.send(&number(value)).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        call.finish(0, "")
    })
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    let late = client.get("/v1/count/1").await;
    assert_eq!(late.status, 504, "{}", late.text());
    let long = client.get("/v1/count/2").await;
    assert_eq!(long.text().lines().count(), 3, "{}", long.text());
}

#[tokio::test]
async fn the_next_message_is_waited_for_as_long_as_idle_timeout_says() {
    let streams = streams(
        (", idle_timeout: 300ms", ""),
        |mut call: StreamCall| async move {
            call.message().await?;
            call.send(&number(1)).await?;
            Err(call.cancelled().await)
        },
    )
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    let answer = client.get("/v1/count/1").await;
    let text = answer.text();
    assert!(text.starts_with("{\"value\":1}\n{\"error\":"), "{text}");
    assert!(text.contains("DEADLINE_EXCEEDED"), "{text}");
}

#[tokio::test]
async fn what_the_caller_has_time_for_holds_for_all_of_it() {
    let streams = streams(("", ""), |mut call: StreamCall| async move {
        assert!(call.headers.contains_key("grpc-timeout"));
        call.message().await?;
        loop {
            call.send(&number(1)).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let mut client = Http1::connect(streams.gateway().http()).await;
    let headers = [("x-request-timeout", "400ms")];
    let answer = client.request("GET", "/v1/count/1", &headers, None).await;
    assert!(
        answer.text().contains("DEADLINE_EXCEEDED"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn nobody_to_ask_is_told_at_once() {
    let streams = streams(("", ""), super::setup::count).await;
    let Streams { backend, described } = streams;
    drop(backend);
    let gateway = described.gateway;
    let mut client = Http1::connect(gateway.http()).await;
    let answer = client.get("/v1/count/1?limit=1").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let metrics = Metrics::scrape(gateway.admin()).await;
    let labels = [("endpoint", "/v1/count/{from}"), ("status_code", "503")];
    assert_eq!(
        metrics.counter_value("highgopress_http_requests_total", &labels),
        1
    );
}
