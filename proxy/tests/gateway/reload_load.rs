//! Everything that a reload may change, changed many times while thousands of requests a second flow: nothing is
//! dropped, and what was learnt of clusters that stay is not forgotten.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::backend::{Answer, Backend};
use testkit::http_backend::{HttpBackend, ok};
use testkit::mesh::{self, Gateway};
use testkit::{Http1, Metrics, eventually};
use tokio::time::Instant;

use super::library::descriptors;

const PATIENCE: Duration = Duration::from_secs(30);
const ROUNDS: usize = 60;
/// Requests of all clients together at least; they go on while reloads do.
const REQUESTS: usize = 20_000;

/// What the configuration of each round stands on.
struct Backends {
    counters: [SocketAddr; 2],
    library: SocketAddr,
    http: SocketAddr,
    descriptors: tempfile::NamedTempFile,
}

impl Backends {
    /// Round by round other endpoints, clusters, routes, policies, descriptors, and a listener that has to wait.
    fn mesh(&self, round: usize) -> String {
        let [a, b] = self.counters;
        let both = format!("\"{a}\", \"{b}\"");
        let endpoints = [format!("\"{a}\""), both.clone(), format!("\"{b}\""), both];
        let policies = ["p2c", "round_robin", "random", "least_request"];
        let guards = [
            "breaker: {}, outlier_detection: {}",
            "health_check: { interval: 100ms }",
            "limits: { requests: 512 }, retry_budget: { ratio: 50% }",
            "adaptive_concurrency: { enabled: true, min: 256 }, health_check: { protocol: tcp }",
        ];
        let mut text = format!(
            r#"
listeners: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 2
descriptors: [builtin, {{ file: {file} }}]
clusters:
  - {{ name: counter, protocol: grpc, endpoints: {{ static: [{endpoints}] }}, load_balancing: {{ policy: {policy} }}, {guard} }}
  - {{ name: library, protocol: grpc, endpoints: {{ static: ["{library}"] }} }}
  - {{ name: http, protocol: http1, endpoints: {{ static: ["{http}"] }}, limits: {{ connections: {connections} }} }}
"#,
            port = if round % 5 == 4 { 1 } else { 0 },
            file = self.descriptors.path().display(),
            endpoints = endpoints[round % 4],
            policy = policies[round / 2 % 4],
            guard = guards[round % 4],
            library = self.library,
            http = self.http,
            connections = 100 + round,
        );
        for extra in 0..round % 7 {
            let _ = writeln!(
                text,
                "  - {{ name: extra-{round}-{extra}, protocol: http1, endpoints: {{ static: [\"{a}\"] }} }}"
            );
        }
        let _ = write!(
            text,
            "routes:
  - {{ name: counters, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: counter, timeout: {timeout}s, retry: {{ attempts: {attempts} }}, response_headers: {{ set: {{ x-round: \"{round}\" }} }} }}
  - {{ name: library-{name}, transcode: {{ services: [library.v1.Library] }}, to: library }}
  - {{ name: rest, match: {{ path_prefix: / }}, to: http, rate_limit: {{ requests: {limit}, per: 1s, key: [address] }} }}
",
            timeout = 5 + round % 3,
            attempts = 2 + round % 2,
            name = round % 2,
            limit = 1_000_000 + round,
        );
        for extra in 0..round % 7 {
            let _ = writeln!(
                text,
                "  - {{ name: extra-{extra}, match: {{ path: /extra/{round}/{extra} }}, to: extra-{round}-{extra} }}"
            );
        }
        text
    }

    /// The same messages in another file: a change of the descriptors by itself.
    fn write_descriptors(&self, round: usize) {
        let mut set = descriptors();
        // An unknown field of `FileDescriptorSet`: number 1000, of varint, which readers have to skip.
        set.extend([0xc0, 0x3e, u8::try_from(round % 100).unwrap()]);
        std::fs::write(self.descriptors.path(), set).unwrap();
    }
}

async fn status(gateway: &Gateway) -> Value {
    let mut client = Http1::connect(gateway.admin()).await;
    let json = [("accept", "application/json")];
    client.request("GET", "/config", &json, None).await.json()
}

async fn until_other_version(gateway: &Gateway, from: &Value) -> Value {
    eventually("another version in force", PATIENCE, || async {
        let now = status(gateway).await;
        assert!(now["rejected"].is_null(), "{now}");
        (now["version"] != from["version"])
            .then(|| now.clone())
            .ok_or(now)
    })
    .await
}

/// One client's life: asks again and again, and is always answered 200.
async fn ask(address: SocketAddr, kind: usize, done: Arc<AtomicBool>, sent: Arc<[AtomicUsize; 3]>) {
    let mut client = Http1::connect(address).await;
    let increment = json!({ "resource_id": "r", "counter_type": "like" });
    let all = || sent.iter().map(|one| one.load(SeqCst)).sum::<usize>();
    while !done.load(SeqCst) || all() < REQUESTS {
        let answer = match kind {
            0 => {
                client
                    .post_json("/api/v1/counter/increment", &increment)
                    .await
            }
            1 => client.get("/v1/shelves/1/books/2").await,
            _ => client.get("/somewhere/else").await,
        };
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        sent[kind].fetch_add(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_changes_under_load_and_nothing_is_dropped() {
    let counters = [mesh::counter("memory").await, mesh::counter("memory").await];
    let library = Backend::replying(b"").await;
    let http = HttpBackend::start(|_| ok("passed through")).await;
    let backends = Backends {
        counters: [counters[0].address("grpc"), counters[1].address("grpc")],
        library: library.address(),
        http: http.address(),
        descriptors: tempfile::NamedTempFile::new().unwrap(),
    };
    backends.write_descriptors(0);
    let gateway = Gateway::start(&backends.mesh(0)).await;
    let done = Arc::new(AtomicBool::new(false));
    let sent: Arc<[AtomicUsize; 3]> = Arc::default();
    let began = Instant::now();
    let clients: Vec<_> = [0, 0, 0, 0, 0, 1, 1, 2, 2]
        .into_iter()
        .map(|kind| tokio::spawn(ask(gateway.http(), kind, done.clone(), sent.clone())))
        .collect();
    let mut now = status(&gateway).await;
    for round in 1..=ROUNDS {
        if round % 10 == 0 {
            // Only the descriptors change.
            backends.write_descriptors(round);
        } else {
            gateway.configure(&backends.mesh(round));
        }
        gateway.program.reload();
        now = until_other_version(&gateway, &now).await;
    }
    done.store(true, SeqCst);
    for client in clients {
        client.await.expect("every request was answered with 200");
    }
    let [increments, reads, passed] = [0, 1, 2].map(|kind| sent[kind].load(SeqCst));
    let all = increments + reads + passed;
    println!("{all} requests in {:?}, {ROUNDS} reloads", began.elapsed());
    assert!(increments > 0 && reads > 0 && passed > 0);

    // What was answered was counted, at the one or the other.
    let mut counted = 0;
    for only in [0, 2] {
        gateway.configure(&backends.mesh(ROUNDS + 20 + only));
        gateway.program.reload();
        now = until_other_version(&gateway, &now).await;
        let mut client = Http1::connect(gateway.http()).await;
        let answer = client.get("/api/v1/counter/r/like").await;
        counted += answer.json()["data"]["current_value"].as_u64().unwrap();
    }
    assert_eq!(counted, increments as u64);
    let metrics = Metrics::scrape(gateway.admin()).await;
    let reloads =
        |result| metrics.counter_value("highpress_config_reloads_total", &[("result", result)]);
    assert_eq!(
        (reloads("applied"), reloads("rejected")),
        (ROUNDS as u64 + 2, 0)
    );
}

/// Listeners are boot settings: the rest of the version is applied, and everybody is told.
#[tokio::test]
async fn a_listener_waits_for_a_restart_and_says_so() {
    let http = HttpBackend::start(|_| ok("passed through")).await;
    let mesh = |port: u16, path: &str| {
        format!(
            "listeners: [{{ address: \"127.0.0.1:{port}\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\nclusters: [{{ name: a, protocol: http1, endpoints: {{ static: [\"{}\"] }} }}]\nroutes: [{{ name: r, match: {{ path: {path} }}, to: a }}]\n",
            http.address()
        )
    };
    let gateway = Gateway::start(&mesh(0, "/before")).await;
    let before = status(&gateway).await;
    gateway.configure(&mesh(1, "/after"));
    let after = until_other_version(&gateway, &before).await;
    assert_eq!(after["restart_needed"], json!(["listeners"]), "{after}");
    gateway.program.line_with("listeners").await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(client.get("/after").await.status, 200);
    assert_eq!(client.get("/before").await.status, 404);
}

/// A breaker that rejects, latencies and connections are about backends, not about the file.
#[tokio::test]
async fn what_was_learnt_of_a_cluster_outlives_changes_of_others() {
    let ill = Backend::start(|_| Answer::trailers_only(&[("grpc-status", "14")])).await;
    let slow = Backend::start(|_| Answer::message(b"").after(Duration::from_millis(200))).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), descriptors()).unwrap();
    let mesh = |round: usize| {
        format!(
            r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 1
descriptors: [builtin, {{ file: {file} }}]
clusters:
  - {{ name: ill, protocol: grpc, endpoints: {{ static: ["{ill}"] }}, breaker: {{ min_requests: 3, hold: 60s }} }}
  - {{ name: other-{round}, protocol: grpc, endpoints: {{ static: ["{ill}"] }} }}
  - {{ name: slow, protocol: grpc, endpoints: {{ static: ["{slow}"] }} }}
routes:
  - {{ name: counters, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: ill, timeout: {timeout}s }}
  - {{ name: library, transcode: {{ services: [library.v1.Library] }}, to: slow, timeout: {timeout}s }}
  - {{ name: new-{round}, match: {{ path: /new }}, transcode: {{ services: [library.v1.Library] }}, to: other-{round} }}
"#,
            file = file.path().display(),
            ill = ill.address(),
            slow = slow.address(),
            timeout = 5 + round,
        )
    };
    let gateway = Gateway::start(&mesh(0)).await;
    let mut client = Http1::connect(gateway.http()).await;
    for _ in 0..3 {
        assert_eq!(client.get("/api/v1/counter/r/like").await.status, 503);
    }
    assert_eq!(client.get("/v1/shelves/1/books/2").await.status, 200);
    let (calls, connections) = (ill.calls(), slow.connections());
    assert_eq!(calls, 3);
    let mut now = status(&gateway).await;
    for round in 1..=10 {
        gateway.configure(&mesh(round));
        gateway.program.reload();
        now = until_other_version(&gateway, &now).await;
    }
    let mut admin = Http1::connect(gateway.admin()).await;
    let page = admin.request("GET", "/clusters", &[("accept", "application/json")], None);
    let page = page.await.json();
    let clusters = page.as_array().unwrap();
    let of = |name: &str| {
        let found = clusters.iter().find(|cluster| cluster["name"] == name);
        found
            .map(|cluster| cluster["endpoints"][0].clone())
            .unwrap()
    };
    assert_eq!(of("ill")["breaker"], "reject", "{page}");
    assert!(of("slow")["ewma_ms"].as_f64() > Some(1.0), "{page}");
    assert_eq!(slow.connections(), connections);
    assert_eq!(client.get("/api/v1/counter/r/like").await.status, 503);
    assert_eq!(
        ill.calls(),
        calls,
        "a breaker that rejects lets nothing pass after a reload either"
    );
}
