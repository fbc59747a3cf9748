//! Health checks over HTTP and TCP, of backends that answer well, badly, or with nonsense.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use testkit::http_backend::{HttpBackend, Received, Step, answer, ok};
use testkit::mesh::Gateway;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Metrics};
use tokio::time::Instant;

use super::pass_setup::{get, http1};
use super::setup::{MS, cluster, gateway};

const OFTEN: &str =
    ", health_check: { path: \"/health?deep=1\", host: h.example, interval: 50ms, timeout: 300ms }";

/// Answers requests well, and checks as it is told.
async fn told(steps: &Arc<Mutex<Vec<Step>>>) -> HttpBackend {
    let steps = Arc::clone(steps);
    HttpBackend::start(move |request: &Received| match request.target.as_str() {
        "/health?deep=1" => steps.lock().clone(),
        _ => ok("done"),
    })
    .await
}

async fn endpoint(gateway: &Gateway, index: usize) -> Value {
    let mut admin = Http1::connect(gateway.admin()).await;
    let json = [("accept", "application/json")];
    let page = admin.request("GET", "/clusters", &json, None).await;
    page.json()[0]["endpoints"][index].clone()
}

async fn until(gateway: &Gateway, usable: bool, why: &str) {
    let what = format!("usable {usable}, {why}");
    eventually(&what, PATIENCE, || async {
        let endpoint = endpoint(gateway, 0).await;
        let said = endpoint["reasons"].to_string();
        (endpoint["usable"] == usable && said.contains(why))
            .then_some(())
            .ok_or(endpoint)
    })
    .await;
}

#[tokio::test]
async fn what_is_no_good_answer_takes_out() {
    let steps = Arc::new(Mutex::new(answer(204, &[], "")));
    let backends = [
        told(&steps).await,
        HttpBackend::start(|_| ok("other")).await,
    ];
    let gateway = http1(&[&backends[0], &backends[1]], OFTEN, "").await;
    until(&gateway, true, "").await;
    let endless = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n".as_slice(),
        &[b'x'; 50],
    ]
    .concat();
    for (bad, why) in [
        (answer(500, &[], "ill"), "check: HTTP 500"),
        (answer(302, &[("location", "/")], ""), "check: HTTP 302"),
        (
            vec![
                Step::Write(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
                Step::Close,
            ],
            "check: no answer of HTTP",
        ),
        (vec![Step::Hang], "check: timeout after 300ms"),
        (
            vec![Step::Write(endless), Step::Hang],
            "check: timeout after 300ms",
        ),
        (
            vec![Step::Trickle(
                [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'y'; 1000]].concat(),
                5 * MS,
            )],
            "check: timeout after 300ms",
        ),
        (vec![Step::Reset], "check: the connection broke"),
        (vec![Step::Close], "check: the connection broke"),
    ] {
        *steps.lock() = bad;
        until(&gateway, false, why).await;
        assert_eq!(get(&gateway).await.text(), "other");
        *steps.lock() = answer(200, &[], "well");
        until(&gateway, true, "").await;
    }
    let check = backends[0]
        .received()
        .into_iter()
        .find(|one| one.target == "/health?deep=1");
    let check = check.unwrap();
    assert_eq!(
        (check.method.as_str(), check.header("host")),
        ("GET", Some("h.example"))
    );
}

/// A body that is longer than anybody wants to read says what its status says.
#[tokio::test]
async fn a_long_body_is_not_read_to_its_end() {
    let long = answer(200, &[], &"x".repeat(1 << 20));
    let steps = Arc::new(Mutex::new(long));
    let backend = told(&steps).await;
    let gateway = http1(&[&backend], OFTEN, "").await;
    eventually("checks to pass", PATIENCE, || async {
        let metrics = Metrics::scrape(gateway.admin()).await;
        let passed =
            metrics.counter_value("highpress_health_checks_total", &[("outcome", "passed")]);
        (passed > 5).then_some(()).ok_or(passed)
    })
    .await;
    assert_eq!(endpoint(&gateway, 0).await["usable"], true);
}

#[tokio::test]
async fn other_statuses_pass_where_they_are_wanted() {
    let steps = Arc::new(Mutex::new(answer(404, &[], "")));
    let backend = told(&steps).await;
    let rules = ", health_check: { path: \"/health?deep=1\", statuses: [\"404\", \"3xx\"], interval: 50ms }";
    let gateway = http1(&[&backend], rules, "").await;
    until(&gateway, true, "").await;
    *steps.lock() = answer(200, &[], "");
    until(&gateway, false, "check: HTTP 200").await;
    *steps.lock() = answer(304, &[], "");
    until(&gateway, true, "").await;
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let backend = HttpBackend::start(|_| ok("done")).await;
    let rules = ", health_check: { protocol: tcp, interval: 50ms }";
    let gateway = http1(&[&backend], rules, "").await;
    until(&gateway, true, "").await;
    let address = backend.address();
    drop(backend);
    until(&gateway, false, "check: cannot connect").await;
    let _again = HttpBackend::start_at(address, |_| ok("done")).await;
    until(&gateway, true, "").await;
    assert_eq!(get(&gateway).await.status, 200);
}

/// One listener behind a thousand addresses of the loopback network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_endpoints_are_not_checked_all_at_once() {
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = Arc::clone(&times);
    let any = "0.0.0.0:0".parse().unwrap();
    let backend = HttpBackend::start_at(any, move |_| {
        noted.lock().push(Instant::now());
        ok("well")
    })
    .await;
    let port = backend.address().port();
    let at: Vec<_> = (0..1000)
        .map(|one| {
            format!("127.1.{}.{}:{port}", one / 250, one % 250 + 1)
                .parse()
                .unwrap()
        })
        .collect();
    let rules = ", health_check: { interval: 2s, timeout: 2s }";
    let gateway = gateway(
        &[cluster("old", "http1", &at, rules)],
        &["{ name: rest, match: { path_prefix: / }, to: old }".to_owned()],
    )
    .await;
    eventually("three checks of each", PATIENCE, || async {
        let seen = backend.requests();
        (seen >= 3000).then_some(()).ok_or(seen)
    })
    .await;
    // 1,000 begin in a second at most. Who takes them may be late for the first, so a part of that is asked for.
    let times = times.lock().clone();
    let least = times.windows(1000).map(|some| some[999] - some[0]).min();
    assert!(least > Some(600 * MS), "1,000 checks within {least:?}");
    let metrics = Metrics::scrape(gateway.admin()).await;
    let usable = metrics.value(
        "highpress_endpoints",
        &[("cluster", "old"), ("state", "usable")],
    );
    assert_eq!(usable, Some(1000.0));
    let (connections, ..) = backend.connections();
    assert!(
        connections <= 2100,
        "{connections} connections to 1,000 endpoints"
    );
}
