//! Configuration that changes under load, well and badly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::Value;
use testkit::mesh::{self, Gateway};
use testkit::{Http1, Metrics, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

async fn config(gateway: &Gateway) -> Value {
    let mut client = Http1::connect(gateway.admin()).await;
    let answer = client
        .request("GET", "/config", &[("accept", "application/json")], None)
        .await;
    answer.json()
}

async fn until_version_changes(gateway: &Gateway, from: &str) -> String {
    eventually("a new version to be applied", PATIENCE, || async {
        let version = config(gateway).await["version"]
            .as_str()
            .unwrap()
            .to_owned();
        if version == from {
            Err(version)
        } else {
            Ok(version)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_reloads_under_load_lose_nothing() {
    let counter = mesh::counter("memory").await;
    let yaml = |timeout: usize| {
        mesh::phase1(counter.address("grpc"), counter.address("grpc"))
            .replace("timeout: 2s", &format!("timeout: {timeout}s"))
    };
    let gateway = Gateway::start(&yaml(3)).await;
    let (done, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (address, done, sent) = (gateway.http(), done.clone(), sent.clone());
            tokio::spawn(async move {
                let mut client = Http1::connect(address).await;
                let body = serde_json::json!({ "resource_id": "r", "counter_type": "like" });
                while !done.load(SeqCst) || sent.load(SeqCst) < 10_000 {
                    let answer = client.post_json("/api/v1/counter/increment", &body).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    sent.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let mut version = config(&gateway).await["version"]
        .as_str()
        .unwrap()
        .to_owned();
    for round in 0..50 {
        gateway.configure(&yaml(6 + round));
        gateway.program.reload();
        version = until_version_changes(&gateway, &version).await;
    }
    done.store(true, SeqCst);
    for client in clients {
        client.await.expect("every request was answered with 200");
    }
    let mut client = Http1::connect(gateway.http()).await;
    let count = client.get("/api/v1/counter/r/like").await.json()["data"]["current_value"].as_u64();
    assert_eq!(count, Some(sent.load(SeqCst) as u64));
    let metrics = Metrics::scrape(gateway.admin()).await;
    assert_eq!(
        metrics.counter_value("highpress_config_reloads_total", &[("result", "applied")]),
        50
    );
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_is_told() {
    let counter = mesh::counter("memory").await;
    let good = mesh::phase1(counter.address("grpc"), counter.address("grpc"));
    let gateway = Gateway::start(&good).await;
    let before = config(&gateway).await;
    gateway.configure(
        &good
            .replace("counter.CounterService", "counter.NoSuchService")
            .replace("profile: phase1", "profile: phase9"),
    );
    let rejected = eventually("the edit to be rejected", PATIENCE, || async {
        let now = config(&gateway).await;
        if now["rejected"].is_null() {
            Err(now)
        } else {
            Ok(now)
        }
    })
    .await;
    assert_eq!(rejected["version"], before["version"]);
    let problems = rejected["rejected"]["problems"].to_string();
    assert!(
        problems.contains("phase9") && problems.contains("mesh.yaml:"),
        "{problems}"
    );
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(client.get("/api/v1/counter/r/like").await.status, 200);
    let metrics = Metrics::scrape(gateway.admin()).await;
    assert!(
        metrics.counter_value("highpress_config_reloads_total", &[("result", "rejected")]) >= 1
    );
    let ready = Http1::connect(gateway.admin()).await.get("/readyz").await;
    assert_eq!(
        ready.status, 200,
        "an edit that was bad makes nobody unready"
    );
    gateway.configure(&good.replace("timeout: 2s", "timeout: 4s"));
    until_version_changes(&gateway, before["version"].as_str().unwrap()).await;
    assert!(config(&gateway).await["rejected"].is_null());
}
