//! Where requests that are passed through go when an endpoint or a cluster does not take them: to another
//! endpoint, past a breaker or an ejected one, to a fallback.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http_backend::{HttpBackend, Received, Step, ok};
use testkit::mesh::Gateway;
use testkit::raw_backend::{RawBackend, Reaction, frame, goaway};
use testkit::{Http1, Metrics};
use tokio::net::TcpListener;

use super::pass_setup::{AMPLE, before, failing_first, get, http1, send, unwell};
use super::setup::{cluster, gateway};

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
