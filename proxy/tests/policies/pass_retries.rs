//! Tries of requests that are passed through: when there is another one, and how many at most.

use std::time::Duration;

use testkit::http_backend::{HttpBackend, Received, Step, answer};
use testkit::{Http1, Metrics};
use tokio::time::Instant;

use super::pass_setup::{AMPLE, failing_first, get, http1, send, unwell};
use super::setup::{MS, counted};

#[tokio::test]
async fn a_status_is_tried_again_elsewhere_and_the_caller_sees_only_the_answer() {
    let (bad, good) = (
        HttpBackend::start(|_| unwell()).await,
        failing_first(0, vec![]).await,
    );
    let gateway = http1(&[&bad, &good], AMPLE, ", retry: { on: [\"503\"] }").await;
    for _ in 0..6 {
        let got = get(&gateway).await;
        assert_eq!((got.status, got.text().as_str()), (200, "done"));
    }
    assert_eq!(good.requests(), 6);
    assert!((1..=6).contains(&bad.requests()), "{}", bad.requests());
    let retries = [("cluster", "old"), ("reason", "503")];
    let tried_again = bad.requests() as u64;
    counted(
        &gateway,
        "highpress_upstream_retries_total",
        &retries,
        tried_again,
    )
    .await;
}

#[tokio::test]
async fn without_the_map_or_with_another_status_there_is_one_try() {
    for route in ["", ", retry: { on: [\"502\", reset] }"] {
        let backend = HttpBackend::start(|_| unwell()).await;
        let gateway = http1(&[&backend], "", route).await;
        let got = get(&gateway).await;
        assert_eq!((got.status, got.text().as_str()), (503, "unwell"));
        assert_eq!(backend.requests(), 1);
    }
}

#[tokio::test]
async fn attempts_count_the_first_try_and_the_last_failure_is_the_answer() {
    let backend = HttpBackend::start(|request: &Received| {
        answer(503, &[("x-try", &request.number.to_string())], "unwell")
    })
    .await;
    let gateway = http1(&[&backend], "", ", retry: { attempts: 3 }").await;
    let got = get(&gateway).await;
    assert_eq!(
        (got.status, got.header("x-try"), got.text().as_str()),
        (503, Some("2"), "unwell")
    );
    assert_eq!(backend.requests(), 3);
}

#[tokio::test]
async fn retry_after_is_waited_for_unless_the_time_is_too_short() {
    let wait = answer(503, &[("retry-after", "1")], "unwell");
    let backend = failing_first(1, wait).await;
    let gateway = http1(&[&backend], "", ", retry: {}").await;
    let began = Instant::now();
    assert_eq!(get(&gateway).await.status, 200);
    assert!(began.elapsed() >= 1000 * MS, "{:?}", began.elapsed());

    let long = answer(503, &[("retry-after", "5")], "unwell");
    let backend = failing_first(1, long).await;
    let gateway = http1(&[&backend], "", ", retry: {}").await;
    let began = Instant::now();
    let hurried = [("x-request-timeout", "4s")];
    assert_eq!(send(&gateway, "GET", &hurried, b"").await.text(), "unwell");
    assert!(began.elapsed() < 4000 * MS, "{:?}", began.elapsed());
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_head_is_tried_again_if_the_route_says_so() {
    let half_a_head = b"HTTP/1.1 200 OK\r\ncontent-le".to_vec();
    for failure in [
        vec![Step::Reset],
        vec![Step::Close],
        vec![Step::Write(half_a_head), Step::Close],
    ] {
        let backend = failing_first(1, failure.clone()).await;
        let gateway = http1(&[&backend], "", ", retry: { on: [reset] }").await;
        assert_eq!(get(&gateway).await.status, 200, "{failure:?}");
        assert_eq!(backend.requests(), 2);

        let backend = failing_first(1, failure).await;
        let gateway = http1(&[&backend], "", ", retry: { on: [\"503\"] }").await;
        let got = get(&gateway).await;
        assert_eq!(got.status, 502, "{}", got.text());
        assert_eq!(
            got.json()["details"][0]["reason"],
            "UPSTREAM_CONNECTION_LOST"
        );
        assert_eq!(backend.requests(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_502_and_says_so() {
    let garbage = vec![
        Step::Write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()),
        Step::Close,
    ];
    let backend = failing_first(1, garbage.clone()).await;
    let gateway = http1(&[&backend], "", "").await;
    let got = get(&gateway).await;
    assert_eq!(got.status, 502, "{}", got.text());
    assert_eq!(
        got.json()["details"][0]["reason"],
        "MALFORMED_UPSTREAM_RESPONSE"
    );
    let malformed = [("cluster", "old"), ("outcome", "malformed")];
    counted(&gateway, "highpress_upstream_attempts_total", &malformed, 1).await;

    let backend = failing_first(1, garbage).await;
    let gateway = http1(&[&backend], "", ", retry: { on: [\"502\"] }").await;
    assert_eq!(get(&gateway).await.status, 200);
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_given_up_at_once_for_another() {
    let (slow, good) = (
        HttpBackend::start(|_| vec![Step::Hang]).await,
        failing_first(0, vec![]).await,
    );
    let retry = ", retry: { on: [timeout], per_try_timeout: 200ms }";
    let gateway = http1(&[&slow, &good], AMPLE, retry).await;
    for _ in 0..4 {
        let began = Instant::now();
        assert_eq!(get(&gateway).await.status, 200);
        assert!(began.elapsed() < 1500 * MS, "{:?}", began.elapsed());
    }
    assert!(slow.requests() >= 1);
    testkit::eventually(
        "the slow one to be left",
        Duration::from_secs(5),
        || async {
            match slow.abandoned() == slow.requests() && slow.in_flight().0 == 0 {
                true => Ok(()),
                false => Err(format!("{} of {}", slow.abandoned(), slow.requests())),
            }
        },
    )
    .await;
    let late = [("cluster", "old"), ("outcome", "timeout")];
    counted(
        &gateway,
        "highpress_upstream_attempts_total",
        &late,
        slow.requests() as u64,
    )
    .await;
}

#[tokio::test]
async fn a_try_s_time_ends_the_request_where_timeouts_are_not_tried_again() {
    let backend = HttpBackend::start(|_| vec![Step::Hang]).await;
    let retry = ", retry: { on: [\"503\"], per_try_timeout: 200ms }";
    let gateway = http1(&[&backend], "", retry).await;
    let began = Instant::now();
    let got = get(&gateway).await;
    assert_eq!(got.status, 504, "{}", got.text());
    assert!(
        (200 * MS..2000 * MS).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn no_try_goes_beyond_the_deadline_of_the_whole() {
    let backend = HttpBackend::start(|_| vec![Step::Hang]).await;
    let retry = ", retry: { on: [timeout], attempts: 10, per_try_timeout: 150ms }";
    let gateway = http1(&[&backend], "", retry).await;
    let began = Instant::now();
    let got = send(&gateway, "GET", &[("x-request-timeout", "500ms")], b"").await;
    assert_eq!(got.status, 504, "{}", got.text());
    assert!(began.elapsed() < 1400 * MS, "{:?}", began.elapsed());
    assert!(
        (2..=4).contains(&backend.requests()),
        "{}",
        backend.requests()
    );
}

#[tokio::test]
async fn what_may_have_been_executed_is_repeated_only_if_that_is_safe() {
    for (method, route, requests) in [
        ("POST", "", 1),
        ("PATCH", "", 1),
        ("PUT", "", 2),
        ("DELETE", "", 2),
        ("POST", ", unsafe: true", 2),
    ] {
        for failure in [unwell(), vec![Step::Reset]] {
            let backend = failing_first(1, failure).await;
            let retry = format!(", retry: {{ on: [reset, \"503\"]{route} }}");
            let gateway = http1(&[&backend], "", &retry).await;
            let got = send(&gateway, method, &[], b"a body").await;
            assert_eq!(
                backend.requests(),
                requests,
                "{method}{route}: {}",
                got.text()
            );
            assert_eq!(got.status == 200, requests == 2);
            let received = backend.received();
            assert!(received.iter().all(|request| request.body == b"a body"));
            assert!(
                received
                    .iter()
                    .all(|request| request.header("idempotency-key").is_none())
            );
        }
    }
}

#[tokio::test]
async fn a_request_whose_backend_dedupes_has_one_key_at_every_try() {
    let retry = ", retry: { on: [reset], dedupe: idempotency-key }";
    for own in [None, Some("mine")] {
        let backend = failing_first(2, vec![Step::Reset]).await;
        let gateway = http1(&[&backend], "", retry).await;
        let headers: Vec<_> = own.iter().map(|key| ("idempotency-key", *key)).collect();
        assert_eq!(send(&gateway, "POST", &headers, b"x").await.status, 200);
        let received = backend.received();
        let keys: Vec<_> = received
            .iter()
            .map(|request| request.header("idempotency-key"))
            .collect();
        assert_eq!(keys.len(), 3);
        assert!(
            keys.iter().all(|key| *key == keys[0] && key.is_some()),
            "{keys:?}"
        );
        assert_eq!(keys[0] == own, own.is_some());
    }
    // Each request has a key of its own.
    let backend = failing_first(0, vec![]).await;
    let gateway = http1(&[&backend], "", retry).await;
    for _ in 0..2 {
        send(&gateway, "POST", &[], b"x").await;
    }
    let received = backend.received();
    let keys: Vec<_> = received
        .iter()
        .map(|request| request.header("idempotency-key"))
        .collect();
    assert!(keys[0].is_some() && keys[0] != keys[1], "{keys:?}");
}

#[tokio::test]
async fn a_body_is_sent_again_whole_or_not_at_all() {
    for (size, requests) in [(60_000, 2), (200_000, 1)] {
        let backend = failing_first(1, vec![Step::Reset]).await;
        let gateway = http1(&[&backend], "", ", retry: { on: [reset] }").await;
        let body: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        let got = send(&gateway, "PUT", &[], &body).await;
        assert_eq!(got.status == 200, requests == 2, "{size}: {}", got.text());
        let received = backend.received();
        assert_eq!(received.len(), requests);
        assert!(
            received.iter().all(|request| request.body == body),
            "{size}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_replaced() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec();
    let backend =
        HttpBackend::start(move |_: &_| vec![Step::Write(half.clone()), Step::Close]).await;
    let retry = ", retry: { on: [reset, \"502\", \"503\"] }";
    let gateway = http1(&[&backend], "", retry).await;
    let mut client = Http1::connect(gateway.http()).await;
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = client.try_response(true).await.expect("the head came");
    assert_eq!(
        (head.status, client.read(4).await.as_slice()),
        (200, &b"half"[..])
    );
    client.expect_close().await;
    assert_eq!(backend.requests(), 1);
    let broken = [("cluster", "old"), ("outcome", "reset")];
    counted(&gateway, "highpress_upstream_attempts_total", &broken, 1).await;
}

#[tokio::test]
async fn a_cluster_that_fails_altogether_sees_no_more_than_the_budget_allows() {
    let backend = HttpBackend::start(|_| unwell()).await;
    let retry = ", retry: { attempts: 5, backoff: { base: 1ms, max: 2ms } }";
    let more = ", retry_budget: { ratio: 20%, min_per_second: 0 }";
    let gateway = http1(&[&backend], more, retry).await;
    let mut client = Http1::connect(gateway.http()).await;
    for _ in 0..200 {
        assert_eq!(client.get("/").await.status, 503);
    }
    let requests = backend.requests();
    assert!((230..=240).contains(&requests), "{requests}");
    let metrics = Metrics::scrape(gateway.admin()).await;
    let name = "highpress_retry_budget_exhausted_total";
    assert!(metrics.counter_value(name, &[("cluster", "old")]) > 100);
}

#[tokio::test]
async fn no_retry_is_made_where_none_may_be_in_flight() {
    let backend = HttpBackend::start(|_| unwell()).await;
    let gateway = http1(&[&backend], ", limits: { retries: 0 }", ", retry: {}").await;
    assert_eq!(get(&gateway).await.status, 503);
    assert_eq!(backend.requests(), 1);
}
