//! Retries: what is tried again, where, when, how often, and what never is.

use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use http::HeaderMap;
use parking_lot::Mutex;
use testkit::backend::{Answer, Backend};
use testkit::wait::{PATIENCE, eventually};
use tokio::time::Instant;

use super::scripted::{Mesh, READ, always, ok, status, unavailable};

/// As much as anybody wants, so that a test sees what it is about.
const PLENTY: &str = "retry_budget: { ratio: 100%, min_per_second: 1000 }";
const SOON: &str = "backoff: { base: 1ms, max: 2ms }";

#[tokio::test]
async fn what_failed_at_one_endpoint_is_tried_at_another() {
    let (failing, working) = (always(unavailable()).await, always(ok()).await);
    let mesh = Mesh::start(
        &[&failing, &working],
        PLENTY,
        &format!("retry: {{ {SOON} }}"),
    )
    .await;
    assert_eq!(mesh.reads(20).await, [200; 20]);
    assert_eq!((failing.calls(), working.calls()), (10, 20));
    let retried = mesh.counted(
        "highpress_upstream_retries_total",
        ("reason", "unavailable"),
    );
    assert_eq!(retried.await, 10);
}

#[tokio::test]
async fn attempts_count_the_first_and_go_round_when_all_have_failed() {
    let backends = [always(unavailable()).await, always(unavailable()).await];
    let route = format!("retry: {{ attempts: 5, {SOON} }}");
    let mesh = Mesh::start(&[&backends[0], &backends[1]], PLENTY, &route).await;
    assert_eq!(mesh.reads(1).await, [503]);
    let mut calls = [backends[0].calls(), backends[1].calls()];
    calls.sort_unstable();
    assert_eq!(calls[0] + calls[1], 5);
    assert!(calls[0] >= 1, "the other one was never tried: {calls:?}");
}

#[tokio::test]
async fn without_a_policy_nothing_that_was_answered_is_tried_again() {
    let backends = [always(unavailable()).await, always(unavailable()).await];
    let mesh = Mesh::start(&[&backends[0], &backends[1]], PLENTY, "").await;
    assert_eq!(mesh.reads(4).await, [503; 4]);
    assert_eq!(backends[0].calls() + backends[1].calls(), 4);
}

#[tokio::test]
async fn a_failing_backend_sees_no_more_than_the_budget_allows() {
    const READS: usize = 300;
    let failing = always(unavailable()).await;
    let budget = "retry_budget: { ratio: 20%, min_per_second: 5 }";
    let route = format!("retry: {{ attempts: 10, {SOON} }}");
    let mesh = Mesh::start(&[&failing], budget, &route).await;
    let began = Instant::now();
    assert!(mesh.reads(READS).await.iter().all(|status| *status == 503));
    let seconds = began.elapsed().as_secs() as usize + 1;
    assert!(
        seconds < 10,
        "too slow to count: first tries fall out of the window"
    );
    let most = READS + READS / 5 + 5 * (seconds + 1);
    let calls = failing.calls();
    assert!(calls <= most, "{calls} calls, {most} allowed in {seconds}s");
    // Not because nothing was retried.
    assert!(calls >= READS + READS / 5 - 1, "{calls} calls");
    let exhausted = mesh.counted("highpress_retry_budget_exhausted_total", ("cluster", "c"));
    assert!(exhausted.await > 0);
    let answer = mesh.client().await.get(READ).await.json();
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        message.ends_with("not tried again: the retry budget of cluster `c` is spent"),
        "{answer}"
    );
    mesh.gateway
        .program
        .line_with("retry budget is exhausted")
        .await;
}

#[tokio::test]
async fn no_more_retries_are_under_way_than_the_limit_says() {
    let failing = always(unavailable()).await;
    let cluster = format!("{PLENTY}, limits: {{ retries: 0 }}");
    let mesh = Mesh::start(&[&failing], &cluster, &format!("retry: {{ {SOON} }}")).await;
    assert_eq!(mesh.reads(3).await, [503; 3]);
    assert_eq!(failing.calls(), 3);
    let limited = mesh.counted("highpress_retry_limit_reached_total", ("cluster", "c"));
    assert_eq!(limited.await, 3);
}

#[tokio::test]
async fn what_is_not_safe_to_repeat_is_sent_once() {
    let everything =
        "on: [connect, reset, timeout, refused_stream, unavailable, internal, unknown, \"503\"]";
    for answer in [
        unavailable(),
        status("13"),
        Answer::Reset(Reason::INTERNAL_ERROR),
        Answer::Hang,
        Answer::http(503, "text/plain", "busy"),
    ] {
        let backends = [always(answer.clone()).await, always(answer.clone()).await];
        let both = [&backends[0], &backends[1]];
        let retry = format!("{everything}, per_try_timeout: 200ms, {SOON}");
        let mesh = Mesh::start(&both, PLENTY, &format!("retry: {{ {retry} }}")).await;
        let failed = mesh.create().await;
        assert!(failed.status >= 500, "{answer:?}: {}", failed.text());
        assert_eq!(backends[0].calls() + backends[1].calls(), 1, "{answer:?}");
        let lifted = format!("retry: {{ {retry}, unsafe: true }}");
        let mesh = Mesh::start(&both, PLENTY, &lifted).await;
        mesh.create().await;
        assert_eq!(backends[0].calls() + backends[1].calls(), 4, "{answer:?}");
    }
}

#[tokio::test]
async fn refused_streams_go_elsewhere_whatever_they_are() {
    let refusing = always(Answer::Reset(Reason::REFUSED_STREAM)).await;
    let working = always(ok()).await;
    let none = "retry_budget: { ratio: 0%, min_per_second: 0 }";
    let mesh = Mesh::start(&[&refusing, &working], none, "").await;
    for _ in 0..6 {
        assert_eq!(mesh.create().await.status, 200);
    }
    assert_eq!((refusing.calls(), working.calls()), (3, 6));
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_stream_is_asked_as_often_as_the_policy_says() {
    let refusing = always(Answer::Reset(Reason::REFUSED_STREAM)).await;
    let mesh = Mesh::start(
        &[&refusing],
        PLENTY,
        &format!("retry: {{ attempts: 4, {SOON} }}"),
    )
    .await;
    assert_eq!(mesh.create().await.status, 503);
    assert_eq!(refusing.calls(), 4);
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_cancelled_and_made_elsewhere() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hanging = Backend::start({
        let seen = seen.clone();
        move |call| {
            seen.lock().push(timeout(&call.headers));
            Answer::Hang
        }
    })
    .await;
    let working = always(ok()).await;
    let retry = format!("retry: {{ on: [timeout], per_try_timeout: 150ms, {SOON} }}");
    let mesh = Mesh::start(&[&hanging, &working], PLENTY, &retry).await;
    let began = Instant::now();
    assert_eq!(mesh.reads(4).await, [200; 4]);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(hanging.calls(), 2);
    eventually("both tries to be cancelled", PATIENCE, || async {
        (hanging.cancelled() == 2)
            .then_some(())
            .ok_or(hanging.cancelled())
    })
    .await;
    let seen = seen.lock();
    assert!(
        seen.iter().all(|left| *left <= Duration::from_millis(150)),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_try_that_takes_too_long_fails_where_that_is_no_reason() {
    let hanging = always(Answer::Hang).await;
    let retry = format!("retry: {{ per_try_timeout: 150ms, {SOON} }}");
    let mesh = Mesh::start(&[&hanging], PLENTY, &retry).await;
    let began = Instant::now();
    assert_eq!(mesh.reads(1).await, [504]);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(hanging.calls(), 1);
}

#[tokio::test]
async fn resets_are_a_reason_only_before_there_is_an_answer() {
    let early = always(Answer::Reset(Reason::INTERNAL_ERROR)).await;
    let retry = |on: &str| format!("retry: {{ attempts: 2, on: [{on}], {SOON} }}");
    Mesh::start(&[&early], PLENTY, &retry("reset"))
        .await
        .reads(1)
        .await;
    assert_eq!(early.calls(), 2);
    Mesh::start(&[&early], PLENTY, &retry("unavailable, internal, \"503\""))
        .await
        .reads(1)
        .await;
    assert_eq!(early.calls(), 3);
    let midway = always(Answer::ResetMidway(Reason::INTERNAL_ERROR)).await;
    Mesh::start(&[&midway], PLENTY, &retry("reset"))
        .await
        .reads(1)
        .await;
    assert_eq!(midway.calls(), 1);
}

#[tokio::test]
async fn an_http_status_means_the_codes_that_map_to_it() {
    for (on, code, calls) in [
        ("\"429\"", "8", 2),
        ("\"500\"", "13", 2),
        ("\"500\"", "2", 2),
        ("\"500\"", "14", 1),
        ("resource_exhausted", "8", 2),
        ("aborted", "10", 2),
        ("\"409\"", "10", 2),
        ("\"503\"", "8", 1),
    ] {
        let failing = always(status(code)).await;
        let retry = format!("retry: {{ attempts: 2, on: [{on}], {SOON} }}");
        Mesh::start(&[&failing], PLENTY, &retry)
            .await
            .reads(1)
            .await;
        assert_eq!(failing.calls(), calls, "on: [{on}], grpc-status {code}");
    }
}

#[tokio::test]
async fn a_backend_says_when_to_come_again() {
    let pushing = |wait: &'static str| {
        Backend::start(move |seen| match seen.number {
            0 => Answer::chunks(
                vec![],
                &[("grpc-status", "14"), ("grpc-retry-pushback-ms", wait)],
            ),
            _ => ok(),
        })
    };
    for (wait, status, calls) in [("300", 200, 2), ("-1", 503, 1), ("60000", 503, 1)] {
        let backend = pushing(wait).await;
        let mesh = Mesh::start(&[&backend], PLENTY, &format!("retry: {{ {SOON} }}")).await;
        let began = Instant::now();
        assert_eq!(mesh.reads(1).await, [status], "{wait}");
        assert_eq!(backend.calls(), calls, "{wait}");
        let least = if calls == 2 { 300 } else { 0 };
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(least) && took < Duration::from_secs(3),
            "{wait}: {took:?}"
        );
    }
}

#[tokio::test]
async fn a_backend_that_is_known_to_be_down_is_waited_for() {
    let mut backend = always(ok()).await;
    let none = "retry_budget: { ratio: 0%, min_per_second: 0 }";
    let waits = "attempts: 10, backoff: { base: 800ms, max: 800ms }";
    let route = format!("retry: {{ {waits} }}");
    let mesh = Mesh::start(&[&backend], none, &route).await;
    assert_eq!(mesh.reads(1).await, [200]);
    backend.stop().await;
    eventually("the endpoint to be out of reach", PATIENCE, || async {
        let endpoint = mesh.endpoint(0).await;
        (endpoint["usable"] == false).then_some(()).ok_or(endpoint)
    })
    .await;
    let back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        backend.restart().await;
    };
    let (statuses, ()) = tokio::join!(mesh.reads(1), back);
    assert_eq!((statuses, backend.calls()), (vec![200], 2));

    backend.stop().await;
    mesh.configure(none, "retry: { on: [reset] }");
    eventually("a quick refusal", PATIENCE, || async {
        let began = Instant::now();
        let statuses = mesh.reads(1).await;
        let quick = began.elapsed() < Duration::from_millis(50);
        (quick && statuses == [503])
            .then_some(())
            .ok_or(format!("{statuses:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_proxy_in_between_may_say_it_with_retry_after() {
    let busy = |seconds: &'static str| Answer::Http {
        status: 503,
        headers: vec![("retry-after", seconds.to_owned())],
        chunks: Vec::new(),
        trailers: None,
    };
    for (seconds, status, calls) in [("1", 200, 2), ("60", 503, 1)] {
        let backend = Backend::start(move |seen| match seen.number {
            0 => busy(seconds),
            _ => ok(),
        })
        .await;
        let mesh = Mesh::start(&[&backend], PLENTY, &format!("retry: {{ {SOON} }}")).await;
        let began = Instant::now();
        assert_eq!(mesh.reads(1).await, [status], "{seconds}");
        assert_eq!(backend.calls(), calls, "{seconds}");
        let (took, all) = (
            began.elapsed(),
            Duration::from_secs(seconds.parse().unwrap()),
        );
        assert_eq!(took >= all, calls == 2, "{seconds}: {took:?}");
    }
}

#[tokio::test]
async fn no_try_is_made_when_its_wait_would_not_end_before_the_deadline() {
    let failing = always(unavailable()).await;
    let route = "retry: { attempts: 10, backoff: { base: 4s, max: 4s } }";
    let mesh = Mesh::start(&[&failing], PLENTY, route).await;
    let mut client = mesh.client().await;
    let began = Instant::now();
    for _ in 0..5 {
        let soon = [("x-request-timeout", "40ms")];
        let answer = client
            .request("GET", super::scripted::READ, &soon, None)
            .await;
        assert!(matches!(answer.status, 503 | 504), "{}", answer.text());
    }
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_increment_has_the_same_key_on_every_try() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let failing = Backend::start({
        let keys = keys.clone();
        move |seen| {
            keys.lock().push(key_and_origin(&seen.headers));
            unavailable()
        }
    })
    .await;
    let mesh = Mesh::start(&[&failing], PLENTY, &format!("retry: {{ {SOON} }}")).await;
    for _ in 0..2 {
        assert_eq!(mesh.increment(&[]).await.status, 503);
    }
    let made: Vec<_> = std::mem::take(&mut *keys.lock());
    assert_eq!(made.len(), 6, "{made:?}");
    assert!(
        made.iter()
            .all(|(key, origin)| !key.is_empty() && origin == "gateway"),
        "{made:?}"
    );
    assert!(
        made[..3].iter().all(|key| *key == made[0]) && made[3..].iter().all(|key| *key == made[3])
    );
    assert_ne!(made[0], made[3], "two requests have one key");

    mesh.increment(&[("idempotency-key", "mine")]).await;
    let sent = keys.lock().clone();
    assert_eq!(sent, vec![("mine".to_owned(), String::new()); 3]);
}

#[tokio::test]
async fn an_increment_that_is_sent_once_gets_no_key() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let failing = Backend::start({
        let keys = keys.clone();
        move |seen| {
            keys.lock().push(key_and_origin(&seen.headers));
            unavailable()
        }
    })
    .await;
    let mesh = Mesh::start(&[&failing], PLENTY, "").await;
    mesh.increment(&[]).await;
    assert_eq!(*keys.lock(), [(String::new(), String::new())]);
}

#[tokio::test]
async fn a_counter_that_hangs_under_an_increment_counts_it_once() {
    let counter = testkit::mesh::counter("memory").await;
    let route = "retry: { attempts: 10, on: [connect, timeout, reset], per_try_timeout: 200ms }";
    let mesh = Mesh::at(vec![counter.address("grpc")], PLENTY, route).await;
    // The same client meets the same worker, whose connection is there.
    let mut client = mesh.client().await;
    assert_eq!(client.get(super::scripted::READ).await.status, 200);
    counter.freeze().await;
    let body = r#"{"resourceId": "a", "counterType": "like"}"#;
    let answered = client.post_text(super::scripted::INCREMENT, body);
    let thawed = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        counter.thaw();
    };
    let (answer, ()) = tokio::join!(answered, thawed);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["currentValue"], "1", "{}", answer.text());
    let retried = mesh.counted("highpress_upstream_retries_total", ("reason", "timeout"));
    assert!(retried.await >= 2);
    let read = mesh.client().await.get(super::scripted::READ).await;
    assert_eq!(read.json()["currentValue"], "1", "{}", read.text());
}

fn key_and_origin(headers: &HeaderMap) -> (String, String) {
    let text = |name: &str| {
        let value = headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        value.unwrap_or_default().to_owned()
    };
    (text("idempotency-key"), text("idempotency-key-origin"))
}

fn timeout(headers: &HeaderMap) -> Duration {
    let text = headers["grpc-timeout"].to_str().unwrap();
    let (digits, unit) = text.split_at(text.len() - 1);
    let value: u64 = digits.parse().unwrap();
    match unit {
        "n" => Duration::from_nanos(value),
        "u" => Duration::from_micros(value),
        _ => Duration::from_millis(value),
    }
}
