//! Panic: when too few endpoints are usable, all within reach take requests.

use testkit::Metrics;
use testkit::backend::Backend;

use super::scripted::{Mesh, always, ok, unavailable};

const EJECT: &str =
    "outlier_detection: { consecutive_failures: 1, base_ejection: 60s, max_ejected: 100% }";

/// One that works and three that do not.
async fn four() -> Vec<Backend> {
    let mut backends = vec![always(ok()).await];
    for _ in 0..3 {
        backends.push(always(unavailable()).await);
    }
    backends
}

fn calls(backends: &[Backend]) -> Vec<usize> {
    backends.iter().map(Backend::calls).collect()
}

#[tokio::test]
async fn with_too_few_endpoints_all_are_used_and_everybody_is_told() {
    let backends = four().await;
    let all: Vec<_> = backends.iter().collect();
    let mesh = Mesh::start(&all, EJECT, "").await;
    // Two are ejected: half is enough. With the third it is panic.
    mesh.reads(8).await;
    let before = calls(&backends);
    mesh.reads(40).await;
    let after = calls(&backends);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after - before, 10, "{before:?} {after:?}");
    }
    let cluster = mesh.cluster().await;
    assert_eq!(cluster["panic"], true, "{cluster}");
    let endpoint = &cluster["endpoints"][1];
    assert_eq!(endpoint["usable"], false);
    assert!(
        endpoint["reasons"]
            .to_string()
            .contains("takes requests all the same"),
        "{endpoint}"
    );
    let metrics = Metrics::scrape(mesh.gateway.admin()).await;
    assert_eq!(
        metrics.value("highpress_cluster_panic", &[("cluster", "c")]),
        Some(1.0)
    );
    mesh.gateway.program.line_with("panic").await;
}

#[tokio::test]
async fn zero_turns_it_off() {
    let backends = four().await;
    let all: Vec<_> = backends.iter().collect();
    let mesh = Mesh::start(&all, &format!("panic_threshold: 0%, {EJECT}"), "").await;
    mesh.reads(8).await;
    assert_eq!(mesh.reads(20).await, [200; 20]);
    assert_eq!(calls(&backends)[1..], [1, 1, 1]);
    assert_eq!(mesh.cluster().await["panic"], false);
}

#[tokio::test]
async fn half_is_enough_for_half() {
    let mut backends = four().await;
    backends.push(always(ok()).await);
    backends.push(always(ok()).await);
    let all: Vec<_> = backends.iter().collect();
    let mesh = Mesh::start(&all, EJECT, "").await;
    mesh.reads(12).await;
    assert_eq!(mesh.reads(30).await, [200; 30]);
    assert_eq!(mesh.cluster().await["panic"], false);
}

#[tokio::test]
async fn who_refuses_connections_gets_nothing_in_panic_either() {
    let mut backends = four().await;
    backends[3].stop().await;
    let all: Vec<_> = backends.iter().collect();
    let mesh = Mesh::start(&all, EJECT, "").await;
    mesh.reads(6).await;
    assert_eq!(mesh.cluster().await["panic"], true);
    let before = backends[3].connections();
    let statuses = mesh.reads(30).await;
    // A third each: no request is lost on the one that is away.
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10);
    assert_eq!(backends[3].connections(), before);
}
