//! Faults that a route injects: by share and header, in both lanes, in the route's shape, and counted.

use testkit::Http1;
use testkit::http_backend::{HttpBackend, ok};
use testkit::mesh::{self, Gateway};
use tokio::time::Instant;

use super::setup::{MS, cluster, counted, gateway};

/// A gateway whose two routes, one passed through and one transcoded, have this fault.
async fn harming(fault: &str) -> (Gateway, HttpBackend, testkit::Running) {
    let backend = HttpBackend::start(|_| ok("done")).await;
    let counter = mesh::counter("memory").await;
    let clusters = [
        cluster("old", "http1", &[backend.address()], ""),
        cluster("counter", "grpc", &[counter.address("grpc")], ""),
    ];
    let routes = [
        format!(
            "{{ name: rest, match: {{ path_prefix: / }}, to: old, timeout: 2s, fault: {fault} }}"
        ),
        format!(
            "{{ name: counters, match: {{ path_prefix: /api/v1/counter/ }}, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: counter, timeout: 2s, fault: {fault} }}"
        ),
    ];
    (gateway(&clusters, &routes).await, backend, counter)
}

const LANES: [(&str, &str); 2] = [("/x", "rest"), ("/api/v1/counter/a/like", "counters")];

#[tokio::test]
async fn an_abort_is_answered_in_the_route_s_shape_and_no_backend_is_asked() {
    let (gateway, backend, _counter) = harming("{ abort: { status: 429 } }").await;
    let mut client = Http1::connect(gateway.http()).await;
    for _ in 0..3 {
        for (path, _) in LANES {
            let got = client.get(path).await;
            assert_eq!(got.status, 429, "{}", got.text());
            match path {
                "/x" => assert_eq!(got.json()["details"][0]["reason"], "FAULT_INJECTED"),
                _ => assert_eq!(got.json()["status"], "error", "{}", got.text()),
            }
        }
    }
    assert_eq!(backend.requests(), 0);
    for (_, route) in LANES {
        let labels = |kind| [("route", route), ("kind", kind)];
        counted(
            &gateway,
            "highpress_faults_injected_total",
            &labels("abort"),
            3,
        )
        .await;
        counted(
            &gateway,
            "highpress_faults_injected_total",
            &labels("delay"),
            0,
        )
        .await;
    }
}

#[tokio::test]
async fn a_delay_makes_requests_wait_before_anything_else_but_never_beyond_their_time() {
    let (gateway, backend, _counter) = harming("{ delay: { duration: 1s } }").await;
    for (path, route) in LANES {
        let mut client = Http1::connect(gateway.http()).await;
        let began = Instant::now();
        assert_eq!(client.get(path).await.status, 200);
        assert!(began.elapsed() >= 1000 * MS, "{:?}", began.elapsed());
        let hurried = [("x-request-timeout", "100ms")];
        let began = Instant::now();
        let late = client.request("GET", path, &hurried, None).await;
        assert!(matches!(late.status, 503 | 504), "{}", late.text());
        assert!(
            (100 * MS..990 * MS).contains(&began.elapsed()),
            "{:?}",
            began.elapsed()
        );
        let delays = [("route", route), ("kind", "delay")];
        counted(&gateway, "highpress_faults_injected_total", &delays, 2).await;
    }
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn only_requests_with_the_header_are_harmed() {
    let fault = "{ abort: { status: 500 }, header: x-chaos }";
    let (gateway, backend, _counter) = harming(fault).await;
    let mut client = Http1::connect(gateway.http()).await;
    for (path, _) in LANES {
        assert_eq!(client.get(path).await.status, 200);
        let chaos = [("X-Chaos", "")];
        assert_eq!(client.request("GET", path, &chaos, None).await.status, 500);
    }
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn about_so_many_requests_are_harmed_as_the_share_says() {
    let (gateway, backend, _counter) = harming("{ abort: { status: 500, share: 20% } }").await;
    let mut client = Http1::connect(gateway.http()).await;
    let mut aborted = 0;
    for _ in 0..500 {
        aborted += usize::from(client.get("/x").await.status == 500);
    }
    // More than six standard deviations around a hundred.
    assert!((40..160).contains(&aborted), "{aborted}");
    assert_eq!(backend.requests(), 500 - aborted);
    let aborts = [("route", "rest"), ("kind", "abort")];
    counted(
        &gateway,
        "highpress_faults_injected_total",
        &aborts,
        aborted as u64,
    )
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_during_a_delay_costs_no_backend_a_request() {
    let (gateway, backend, _counter) = harming("{ delay: { duration: 500ms } }").await;
    let mut client = Http1::connect(gateway.http()).await;
    client.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let delays = [("route", "rest"), ("kind", "delay")];
    counted(&gateway, "highpress_faults_injected_total", &delays, 1).await;
    drop(client);
    let gone = [("endpoint", "/**"), ("status_code", "499")];
    counted(&gateway, "highgopress_http_requests_total", &gone, 1).await;
    assert_eq!(backend.requests(), 0);
}
