//! Outlier detection: who is ejected, for how long, and never more than the share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use testkit::backend::Backend;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Metrics};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::scripted::{Mesh, READ, always, ok, status, unavailable};

async fn usable(mesh: &Mesh) -> usize {
    let cluster = mesh.cluster().await;
    let endpoints = cluster["endpoints"].as_array().unwrap();
    endpoints
        .iter()
        .filter(|endpoint| endpoint["usable"] == true)
        .count()
}

#[tokio::test]
async fn failures_in_a_row_eject_for_a_time_that_grows() {
    let (failing, working) = (always(unavailable()).await, always(ok()).await);
    let rules = "outlier_detection: { consecutive_failures: 3, base_ejection: 1s, interval: 300s }";
    let mesh = Mesh::start(&[&failing, &working], rules, "").await;
    mesh.reads(6).await;
    assert_eq!((failing.calls(), working.calls()), (3, 3));
    let endpoint = mesh.endpoint(0).await;
    assert_eq!(endpoint["usable"], false, "{endpoint}");
    assert_eq!(
        endpoint["reasons"][0],
        "ejected: 3 consecutive failures, back in 1s"
    );
    assert_eq!(mesh.reads(10).await, [200; 10]);
    assert_eq!(failing.calls(), 3);

    // Back, and out again for twice as long.
    let again = eventually("the endpoint to be back", PATIENCE, || async {
        mesh.reads(2).await;
        (failing.calls() >= 6)
            .then(Instant::now)
            .ok_or(failing.calls())
    });
    again.await;
    let endpoint = mesh.endpoint(0).await;
    assert_eq!(
        endpoint["reasons"][0],
        "ejected: 3 consecutive failures, back in 2s"
    );
    let metrics = Metrics::scrape(mesh.gateway.admin()).await;
    let of = |state| metrics.value("highpress_endpoints", &[("cluster", "c"), ("state", state)]);
    assert_eq!(
        (of("usable"), of("ejected"), of("unusable")),
        (Some(1.0), Some(1.0), Some(0.0))
    );
    assert_eq!(
        metrics.counter_value("highpress_outlier_ejections_total", &[]),
        2
    );
    for said in ["ejected: 3 consecutive failures", "gets requests again"] {
        mesh.gateway.program.line_with(said).await;
    }
}

#[tokio::test]
async fn a_success_in_between_starts_the_count_anew() {
    let flapping = Backend::start(|seen| {
        if seen.number % 3 == 2 {
            ok()
        } else {
            unavailable()
        }
    })
    .await;
    let working = always(ok()).await;
    let rules = "outlier_detection: { consecutive_failures: 3, success_rate: false }";
    let mesh = Mesh::start(&[&flapping, &working], rules, "").await;
    mesh.reads(60).await;
    assert_eq!((flapping.calls(), usable(&mesh).await), (30, 2));
}

#[tokio::test]
async fn what_is_the_caller_s_own_fault_ejects_nobody() {
    let backends = [always(status("5")).await, always(status("3")).await];
    let rules = "outlier_detection: { consecutive_failures: 1 }";
    let mesh = Mesh::start(&[&backends[0], &backends[1]], rules, "").await;
    mesh.reads(20).await;
    assert_eq!(usable(&mesh).await, 2);
}

#[tokio::test]
async fn never_more_than_the_share_but_one_of_two_always() {
    for (endpoints, share, out) in [
        (3, "34%", 1),
        (2, "0%", 1),
        (4, "50%", 2),
        (4, "74%", 2),
        (1, "100%", 1),
        (1, "99%", 0),
    ] {
        let mut backends = Vec::new();
        for _ in 0..endpoints {
            backends.push(always(unavailable()).await);
        }
        let rules = format!(
            "panic_threshold: 0%, outlier_detection: {{ consecutive_failures: 1, base_ejection: 60s, max_ejected: {share} }}"
        );
        let all: Vec<_> = backends.iter().collect();
        let mesh = Mesh::start(&all, &rules, "").await;
        mesh.reads(20).await;
        assert_eq!(
            endpoints - usable(&mesh).await,
            out,
            "{share} of {endpoints}"
        );
    }
}

#[tokio::test]
async fn who_succeeds_less_often_than_its_peers_is_ejected() {
    let mut backends = vec![
        Backend::start(|seen| {
            if seen.number % 2 == 0 {
                ok()
            } else {
                unavailable()
            }
        })
        .await,
    ];
    for _ in 0..5 {
        backends.push(always(ok()).await);
    }
    let rules = "outlier_detection: { interval: 2s, base_ejection: 60s }";
    let all: Vec<_> = backends.iter().collect();
    let mesh = Mesh::start(&all, rules, "").await;
    let began = Instant::now();
    while usable(&mesh).await == 6 {
        assert!(began.elapsed() < PATIENCE, "{}", mesh.cluster().await);
        mesh.reads(300).await;
    }
    let endpoint = mesh.endpoint(0).await;
    let reason = endpoint["reasons"][0].as_str().unwrap();
    assert!(
        reason.starts_with("ejected: ") && reason.contains("of its calls succeed"),
        "{reason}"
    );
}

#[tokio::test]
async fn who_takes_much_longer_than_its_peers_is_ejected() {
    const CLIENTS: usize = 24;
    let mut backends = vec![always(ok().after(Duration::from_millis(150))).await];
    for _ in 0..5 {
        backends.push(always(ok()).await);
    }
    // Only if it is asked for.
    for latency in [false, true] {
        let rules = format!(
            "outlier_detection: {{ latency: {latency}, interval: 4s, base_ejection: 60s }}"
        );
        let all: Vec<_> = backends.iter().collect();
        let mesh = Mesh::start(&all, &rules, "").await;
        let began = Instant::now();
        let patience = if latency {
            3 * PATIENCE
        } else {
            Duration::from_secs(9)
        };
        while usable(&mesh).await == 6 && began.elapsed() < patience {
            let mut clients = JoinSet::new();
            for _ in 0..CLIENTS {
                let address = mesh.gateway.http();
                clients.spawn(async move {
                    let mut client = Http1::connect(address).await;
                    for _ in 0..12 {
                        assert_eq!(client.get(READ).await.status, 200);
                    }
                });
            }
            clients.join_all().await;
        }
        if !latency {
            assert_eq!(usable(&mesh).await, 6);
            continue;
        }
        let endpoint = mesh.endpoint(0).await;
        let reason = endpoint["reasons"][0].as_str().unwrap_or_default();
        assert!(
            endpoint["usable"] == false && reason.starts_with("ejected: its calls take 1"),
            "{endpoint}"
        );
        assert_eq!(usable(&mesh).await, 5);
        let before = backends[0].calls();
        assert_eq!(mesh.reads(20).await, [200; 20]);
        assert_eq!(backends[0].calls(), before, "it gets nothing more");
        let metrics = Metrics::scrape(mesh.gateway.admin()).await;
        let ejected = [("cluster", "c"), ("state", "ejected")];
        assert_eq!(metrics.value("highpress_endpoints", &ejected), Some(1.0));
        assert_eq!(
            metrics.counter_value("highpress_outlier_ejections_total", &[("cluster", "c")]),
            1
        );
        let line = mesh
            .gateway
            .program
            .line_with("ejected: its calls take")
            .await;
        assert!(line.contains("ms elsewhere"), "{line}");
    }
}

#[tokio::test]
async fn a_reload_that_switches_it_off_takes_all_back() {
    let well = Arc::new(AtomicBool::new(false));
    let told = well.clone();
    let ill = Backend::start(move |_| {
        if told.load(SeqCst) {
            ok()
        } else {
            unavailable()
        }
    })
    .await;
    let working = always(ok()).await;
    let rules = "outlier_detection: { consecutive_failures: 1, base_ejection: 60s }";
    let mesh = Mesh::start(&[&ill, &working], rules, "").await;
    mesh.reads(4).await;
    assert_eq!(usable(&mesh).await, 1);
    // A change of something else leaves it out.
    mesh.configure(rules, "retry: {}");
    eventually("the reload", Duration::from_secs(20), || async {
        let metrics = Metrics::scrape(mesh.gateway.admin()).await;
        let reloads =
            metrics.counter_value("highpress_config_reloads_total", &[("result", "applied")]);
        (reloads > 0).then_some(()).ok_or("not reloaded")
    })
    .await;
    assert_eq!(usable(&mesh).await, 1);
    well.store(true, SeqCst);
    mesh.configure("", "");
    eventually("the endpoint to be back", PATIENCE, || async {
        (usable(&mesh).await == 2).then_some(()).ok_or("left out")
    })
    .await;
}
