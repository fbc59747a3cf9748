//! Shedding: who is turned away when the gateway has too much to do, what they are told, and that it ends.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use testkit::http_backend::ok;
use testkit::mesh::Gateway;
use testkit::wait::PATIENCE;
use testkit::{Http1, HttpBackend, Metrics, eventually, mesh};
use tokio::net::TcpStream;
use tokio::time::Instant;

const MOST: usize = 20;

fn yaml(backend: SocketAddr, counter: SocketAddr, overload: &str) -> String {
    let routes: String = ["low", "normal", "high"]
        .map(|priority| {
            format!("  - {{ name: {priority}, match: {{ path_prefix: /{priority} }}, to: old, priority: {priority} }}\n")
        })
        .concat();
    format!(
        r#"
listeners: [{{ address: 127.0.0.1:0, limits: {{ max_connections: {MOST} }} }}]
admin: {{ address: 127.0.0.1:0 }}
descriptors: [builtin]
{overload}
clusters:
  - {{ name: old, protocol: http1, endpoints: {{ static: ["{backend}"] }} }}
  - {{ name: counter, protocol: grpc, endpoints: {{ static: ["{counter}"] }} }}
routes:
{routes}
  - {{ name: counters, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: counter }}
"#
    )
}

async fn overload(gateway: &Gateway) -> Value {
    let mut admin = Http1::connect(gateway.admin()).await;
    admin.get("/status").await.json()["overload"].clone()
}

async fn until_it_sheds(gateway: &Gateway, what: &str) {
    eventually(&format!("shedding {what}"), PATIENCE, async || {
        let now = overload(gateway).await;
        (now["shedding"] == what).then_some(()).ok_or(now)
    })
    .await;
}

#[tokio::test]
async fn connections_shed_the_least_important_first_and_all_come_back() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let counter = mesh::counter("memory").await;
    let overload = "overload: { connections: 50% }";
    let gateway = Gateway::start(&yaml(backend.address(), counter.address("grpc"), overload)).await;
    let mut client = Http1::connect(gateway.http()).await;
    let mut idle = Vec::new();
    // The client is one; low from 10 of 20, normal from 13.4, high from 16.7.
    for (connections, sheds, statuses) in [
        (9, "nothing", [200, 200, 200]),
        (10, "low", [503, 200, 200]),
        (14, "low and normal", [503, 503, 200]),
        (17, "low, normal and high", [503, 503, 503]),
    ] {
        while idle.len() + 1 < connections {
            idle.push(TcpStream::connect(gateway.http()).await.unwrap());
        }
        until_it_sheds(&gateway, sheds).await;
        for (priority, expected) in ["low", "normal", "high"].into_iter().zip(statuses) {
            let answer = client.get(&format!("/{priority}/x")).await;
            assert_eq!(answer.status, expected, "{priority} with {connections}");
            if expected == 503 {
                assert_eq!(answer.header("retry-after"), Some("1"));
                let detail = &answer.json()["details"][0];
                assert_eq!(
                    (&detail["reason"], &detail["domain"]),
                    (&"OVERLOADED".into(), &"highpress".into())
                );
            }
        }
        let health = client.get("/api/v1/health").await;
        assert_eq!(health.status, 200, "health is never shed");
    }
    let answer = client.get("/api/v1/counter/a/like").await;
    assert_eq!(answer.status, 503, "in the shape of the route");
    assert_eq!(answer.json()["error"], "Counter service unavailable");
    assert_eq!(backend.requests(), 6, "what is shed goes nowhere");
    let metrics = Metrics::scrape(gateway.admin()).await;
    let shed = |priority| {
        metrics.counter_value("highpress_shed_requests_total", &[("priority", priority)])
    };
    assert_eq!((shed("low"), shed("normal"), shed("high")), (3, 3, 1));
    assert_eq!(metrics.value("highpress_overload_level", &[]), Some(3.0));
    drop(idle);
    until_it_sheds(&gateway, "nothing").await;
    assert_eq!(client.get("/low/x").await.status, 200);
    let logs = gateway.program.logs();
    let told = |text| logs.lines().filter(|line| line.contains(text)).count();
    assert_eq!(
        (
            told("shedding: overloaded: "),
            told("shedding: less overloaded: ")
        ),
        (3, 3),
        "{logs}"
    );
}

#[tokio::test]
async fn memory_beyond_its_bound_sheds_everybody_but_the_gateways_own_pages() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let counter = mesh::counter("memory").await;
    let yaml = |overload| yaml(backend.address(), counter.address("grpc"), overload);
    let gateway = Gateway::start(&yaml("overload: { memory: 1MiB, loop_lag: 1h }")).await;
    until_it_sheds(&gateway, "low, normal and high").await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(client.get("/high/x").await.status, 503);
    assert_eq!(client.get("/api/v1/health").await.status, 200);
    let mut admin = Http1::connect(gateway.admin()).await;
    assert_eq!(admin.get("/readyz").await.status, 200);
    let explained = admin.get("/explain?method=GET&path=/high/x").await.text();
    for line in [
        "priority   high under overload",
        "overload   requests of these priorities are turned away now: low, normal and high",
    ] {
        assert!(explained.contains(line), "{explained}");
    }
    gateway.configure(&yaml("overload: { memory: 64GiB }"));
    gateway.program.reload();
    until_it_sheds(&gateway, "nothing").await;
    assert_eq!(client.get("/low/x").await.status, 200);
}

#[tokio::test]
async fn an_event_loop_that_is_late_sheds_and_lets_the_important_in_first() {
    let backend = HttpBackend::start(|_| ok("")).await;
    let counter = mesh::counter("memory").await;
    let bound = "overload: { loop_lag: 500ms }";
    let gateway = Gateway::start(&yaml(backend.address(), counter.address("grpc"), bound)).await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(client.get("/low/x").await.status, 200);
    // Nothing makes a loop later than a process that does not run: more than four times the bound.
    gateway.program.freeze().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    gateway.program.thaw();
    let thawed = Instant::now();
    let shed = loop {
        let answer = client.get("/high/x").await;
        if answer.status == 503 {
            break answer;
        }
        assert!(thawed.elapsed() < PATIENCE, "nobody is turned away");
    };
    assert_eq!(shed.header("retry-after"), Some("1"));
    assert_eq!(shed.json()["details"][0]["reason"], "OVERLOADED");
    // It tells of the counter, which may have seemed to be away for as long; but it tells.
    let health = client.get("/api/v1/health").await.text();
    assert!(!health.contains("OVERLOADED"), "{health}");
    let line = gateway.program.line_with("shedding: overloaded: ").await;
    assert!(line.contains("short_of=\"event loop lag\""), "{line}");
    let mut let_in = Vec::new();
    while let_in != [true; 3] {
        assert!(thawed.elapsed() < PATIENCE, "let in: {let_in:?}");
        let_in.clear();
        for priority in ["low", "normal", "high"] {
            let_in.push(client.get(&format!("/{priority}/x")).await.status == 200);
        }
        assert!(let_in.is_sorted(), "the least important last: {let_in:?}");
    }
    let metrics = Metrics::scrape(gateway.admin()).await;
    let shed = |priority| {
        metrics.counter_value("highpress_shed_requests_total", &[("priority", priority)])
    };
    assert!(shed("low") > 0 && shed("high") > 0);
    assert_eq!(metrics.value("highpress_overload_level", &[]), Some(0.0));
}
