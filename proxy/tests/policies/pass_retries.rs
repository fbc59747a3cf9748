//! Tries of requests that are passed through: when there is another one, where, and how many at most.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http_backend::{HttpBackend, Received, Step, answer, ok};
use testkit::mesh::Gateway;
use testkit::raw_backend::{RawBackend, Reaction, frame, goaway};
use testkit::{Http1, Metrics, Response};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::setup::{MS, cluster, counted, gateway};

/// For tests of something else than the budget.
const AMPLE: &str = ", retry_budget: { min_per_second: 100 }";

/// A gateway before these endpoints, asked in turn, with further keys of the cluster and of the route.
async fn before(protocol: &str, at: &[SocketAddr], more: &str, route: &str) -> Gateway {
    let in_turn = format!(", load_balancing: {{ policy: round_robin }}{more}");
    let clusters = [cluster("old", protocol, at, &in_turn)];
    let routes = [format!(
        "{{ name: rest, match: {{ path_prefix: / }}, to: old, timeout: 4s{route} }}"
    )];
    gateway(&clusters, &routes).await
}

async fn http1(backends: &[&HttpBackend], more: &str, route: &str) -> Gateway {
    let at: Vec<_> = backends.iter().map(|backend| backend.address()).collect();
    before("http1", &at, more, route).await
}

async fn get(gateway: &Gateway) -> Response {
    Http1::connect(gateway.http()).await.get("/").await
}

async fn send(gateway: &Gateway, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut client = Http1::connect(gateway.http()).await;
    client.request(method, "/", headers, Some(body)).await
}

/// Fails the first `failures` requests, whoever sends them.
async fn failing_first(failures: usize, failure: Vec<Step>) -> HttpBackend {
    HttpBackend::start(move |request: &Received| match request.number < failures {
        true => failure.clone(),
        false => ok("done"),
    })
    .await
}

fn unwell() -> Vec<Step> {
    answer(503, &[], "unwell")
}

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
    let backend = failing_first(1, wait.clone()).await;
    let gateway = http1(&[&backend], "", ", retry: {}").await;
    let began = Instant::now();
    assert_eq!(get(&gateway).await.status, 200);
    assert!(began.elapsed() >= 1000 * MS, "{:?}", began.elapsed());

    let backend = failing_first(1, wait).await;
    let gateway = http1(&[&backend], "", ", retry: {}").await;
    let began = Instant::now();
    let hurried = [("x-request-timeout", "600ms")];
    assert_eq!(send(&gateway, "GET", &hurried, b"").await.text(), "unwell");
    assert!(began.elapsed() < 600 * MS, "{:?}", began.elapsed());
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
    assert!(began.elapsed() < 900 * MS, "{:?}", began.elapsed());
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

#[tokio::test]
async fn an_endpoint_is_not_asked_again_while_another_has_not_been() {
    let all = [
        HttpBackend::start(|_| unwell()).await,
        HttpBackend::start(|_| unwell()).await,
        HttpBackend::start(|_| unwell()).await,
    ];
    let backends: Vec<_> = all.iter().collect();
    let gateway = http1(&backends, AMPLE, ", retry: { attempts: 3 }").await;
    for round in 1..=4 {
        assert_eq!(get(&gateway).await.status, 503);
        let requests: Vec<_> = all.iter().map(HttpBackend::requests).collect();
        assert_eq!(requests, [round; 3]);
    }
}

#[tokio::test]
async fn endpoints_that_refuse_connections_cost_no_try_and_no_budget() {
    let refusing = || async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let backend = failing_first(0, vec![]).await;
    let at = [refusing().await, refusing().await, backend.address()];
    let more = ", retry_budget: { ratio: 0%, min_per_second: 0 }";
    let gateway = before("http1", &at, more, "").await;
    for _ in 0..5 {
        assert_eq!(send(&gateway, "POST", &[], b"x").await.status, 200);
    }
    assert_eq!(backend.requests(), 5);
}

#[tokio::test]
async fn a_refused_stream_goes_elsewhere_whatever_its_method() {
    const OK: [u8; 1] = [0x88];
    type Frames = fn(u32) -> Vec<u8>;
    let turning_away: [(&str, Frames); 2] = [
        ("refused", |stream| frame(3, 0, stream, &7u32.to_be_bytes())),
        ("gone away", |_| goaway(0, 0)),
    ];
    for (what, reaction) in turning_away {
        let bad = RawBackend::start(move |frame| match frame.kind {
            1 => Reaction::Write(reaction(frame.stream)),
            _ => Reaction::Ignore,
        })
        .await;
        let good = RawBackend::start(|seen| match (seen.kind, seen.flags & 1) {
            (0 | 1, 1) => Reaction::Write(frame(1, 5, seen.stream, &OK)),
            _ => Reaction::Ignore,
        })
        .await;
        let gateway = before("http2", &[bad.address(), good.address()], "", "").await;
        for _ in 0..4 {
            let got = send(&gateway, "POST", &[], b"a body").await;
            assert_eq!(got.status, 200, "{what}: {}", got.text());
        }
        assert!(bad.connections() > 0, "{what}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_for_what_may_be_repeated() {
    // Answers, and closes as soon as the next request has come.
    let backend = HttpBackend::start(|request: &Received| match request.number % 2 {
        0 => ok("done"),
        _ => vec![Step::Close],
    })
    .await;
    let gateway = http1(&[&backend], "", "").await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(backend.requests(), 3);
    let got = client.post_text("/", "x").await;
    assert_eq!(got.status, 502, "{}", got.text());
    assert_eq!(backend.requests(), 4);
}

#[tokio::test]
async fn a_breaker_keeps_requests_from_a_backend_that_fails() {
    for failure in [
        unwell(),
        vec![Step::Reset],
        vec![
            Step::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_vec()),
            Step::Close,
        ],
    ] {
        let backend = HttpBackend::start(move |_: &_| failure.clone()).await;
        let more = ", breaker: { min_requests: 4, hold: 30s }, panic_threshold: 0%";
        let gateway = http1(&[&backend], more, "").await;
        for _ in 0..4 {
            let mut client = Http1::connect(gateway.http()).await;
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            client.try_response(true).await.expect("an answer");
        }
        let rejecting = [("cluster", "old")];
        testkit::eventually("the breaker to reject", Duration::from_secs(5), || async {
            let metrics = Metrics::scrape(gateway.admin()).await;
            match metrics.value("highpress_breaker_state", &rejecting) {
                Some(2.0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let got = get(&gateway).await;
        assert_eq!(got.status, 503, "{}", got.text());
        assert_eq!(got.json()["details"][0]["reason"], "CIRCUIT_OPEN");
        assert_eq!(backend.requests(), 4);
    }
}

#[tokio::test]
async fn failures_in_a_row_eject_an_endpoint_from_requests_that_are_passed_through() {
    let (bad, good) = (
        HttpBackend::start(|_| unwell()).await,
        failing_first(0, vec![]).await,
    );
    let more = ", outlier_detection: { consecutive_failures: 3, base_ejection: 30s }";
    let gateway = http1(&[&bad, &good], more, "").await;
    let mut client = Http1::connect(gateway.http()).await;
    for _ in 0..20 {
        client.get("/").await;
    }
    assert_eq!(bad.requests(), 3);
    let json = [("accept", "application/json")];
    let mut admin = Http1::connect(gateway.admin()).await;
    let page = admin.request("GET", "/clusters", &json, None).await.json();
    let reason = page[0]["endpoints"][0]["reasons"][0]
        .as_str()
        .unwrap_or_default();
    assert!(
        reason.starts_with("ejected: 3 consecutive failures"),
        "{page}"
    );
}

/// A gateway whose one route goes to `old`, and to `spare` if that cannot take it.
async fn with_fallback(old: SocketAddr, spare: &HttpBackend, more: &str, route: &str) -> Gateway {
    let clusters = [
        cluster("old", "http1", &[old], more),
        cluster("spare", "http1", &[spare.address()], ""),
    ];
    let routes = [format!(
        "{{ name: rest, match: {{ path_prefix: / }}, to: old, fallback: [spare]{route} }}"
    )];
    gateway(&clusters, &routes).await
}

#[tokio::test]
async fn a_fallback_takes_what_no_backend_can_have_executed() {
    let refusing = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let spare = failing_first(0, vec![]).await;
    let gateway = with_fallback(refusing, &spare, "", "").await;
    for method in ["GET", "POST"] {
        let got = send(&gateway, method, &[], b"a body").await;
        assert_eq!((got.status, got.text().as_str()), (200, "done"));
    }
    assert_eq!(spare.received()[1].body, b"a body");

    // When the breaker rejects too, and not while it does not.
    let bad = HttpBackend::start(|_| unwell()).await;
    let breaker = ", breaker: { min_requests: 2, hold: 30s }, panic_threshold: 0%";
    let gateway = with_fallback(bad.address(), &spare, breaker, "").await;
    let mut client = Http1::connect(gateway.http()).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get("/").await.status);
    }
    assert_eq!((statuses, bad.requests()), (vec![503, 503, 200, 200], 2));
}

#[tokio::test]
async fn a_fallback_never_takes_what_may_have_been_executed() {
    for failure in [vec![Step::Reset], vec![Step::Hang], unwell()] {
        let old = HttpBackend::start(move |_: &_| failure.clone()).await;
        let spare = failing_first(0, vec![]).await;
        let route = ", timeout: 300ms, retry: { on: [reset, \"503\"], attempts: 2 }";
        let gateway = with_fallback(old.address(), &spare, "", route).await;
        assert!(get(&gateway).await.status >= 500);
        assert_eq!(spare.requests(), 0);
    }
}
