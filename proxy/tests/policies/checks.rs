//! Active health checks, counted at the backends that are asked.

use std::time::Duration;

use testkit::Metrics;
use testkit::backend::Answer;
use testkit::mesh;
use testkit::wait::{PATIENCE, eventually};

use super::checked::{
    Checked, NOT_SERVING, SERVING, before, lines, scripted, unimplemented, until_out, until_usable,
};
use super::scripted::Mesh;
use super::setup::MS;

const OFTEN: &str = "health_check: { interval: 100ms, timeout: 400ms }";

#[tokio::test]
async fn who_says_that_it_is_not_well_is_out_until_two_checks_pass() {
    let (ill, well) = (Checked::serving().await, Checked::serving().await);
    let mesh = before(&[&ill, &well], OFTEN).await;
    assert_eq!(mesh.reads(10).await, [200; 10]);
    assert_eq!((ill.calls(), well.calls()), (5, 5));

    ill.say(Answer::message(NOT_SERVING));
    let endpoint = until_usable(&mesh, 0, false).await;
    assert_eq!(endpoint["reasons"][0], "check: gRPC NOT_SERVING");
    assert_eq!(endpoint["check"]["state"], "failing");
    assert_eq!(mesh.reads(10).await, [200; 10]);
    assert_eq!((ill.calls(), well.calls()), (5, 15));
    let metrics = Metrics::scrape(mesh.gateway.admin()).await;
    let of = |state| metrics.value("highpress_endpoints", &[("cluster", "c"), ("state", state)]);
    assert_eq!((of("usable"), of("unusable")), (Some(1.0), Some(1.0)));
    assert!(
        mesh.counted("highpress_health_checks_total", ("outcome", "failed"))
            .await
            >= 2
    );
    let line = mesh
        .gateway
        .program
        .line_with("an endpoint fails its checks")
        .await;
    assert!(line.contains("check: gRPC NOT_SERVING"), "{line}");
    let admin = format!("http://{}", mesh.gateway.admin());
    let explained = testkit::Program::new("highpress-proxy")
        .arg("explain")
        .args(["GET", super::scripted::READ, "--admin", &admin])
        .run()
        .await;
    let said = &explained.output;
    assert!(said.contains("check: gRPC NOT_SERVING"), "{said}");

    ill.say(Answer::message(SERVING));
    let asked = ill.seen.count();
    until_usable(&mesh, 0, true).await;
    assert!(ill.seen.count() >= asked + 2);
    mesh.gateway
        .program
        .line_with("passes its checks again")
        .await;
    mesh.reads(10).await;
    assert_eq!((ill.calls(), well.calls()), (10, 20));
    assert_eq!(lines(&mesh, "an endpoint fails its checks"), 1);
}

/// Check 3 and 4 fail, then 8 to 10; then 12 and 13 pass, 14 fails, and from 15 all pass.
#[tokio::test]
async fn thresholds_count_checks_in_a_row() {
    let (backend, seen) = scripted(|number| {
        let fails = matches!(number, 3 | 4 | 8..=11 | 14);
        Answer::message(if fails { NOT_SERVING } else { SERVING })
    })
    .await;
    let well = Checked::serving().await;
    let rules = "health_check: { interval: 50ms, timeout: 1s, unhealthy: 3, healthy: 3 }";
    let mesh = Mesh::start(&[&backend, &well.backend], rules, "").await;
    seen.until(8).await;
    assert_eq!(lines(&mesh, "an endpoint fails its checks"), 0);
    mesh.gateway
        .program
        .line_with("an endpoint fails its checks")
        .await;
    assert!(seen.count() >= 11);
    mesh.gateway
        .program
        .line_with("passes its checks again")
        .await;
    let asked = seen.count();
    assert!(asked >= 18, "it is back after {asked} checks");
    seen.until(asked + 5).await;
    assert_eq!(lines(&mesh, "an endpoint fails its checks"), 1);
    assert_eq!(lines(&mesh, "passes its checks again"), 1);
}

#[tokio::test]
async fn a_first_failure_is_looked_into_at_once() {
    let (backend, seen) =
        scripted(|number| Answer::message(if number >= 3 { NOT_SERVING } else { SERVING })).await;
    let rules = "health_check: { interval: 1s, timeout: 1s, unhealthy: 3 }";
    let mesh = Mesh::start(&[&backend], rules, "").await;
    seen.until(7).await;
    let checks = seen.checks.lock().clone();
    let gaps: Vec<_> = checks.windows(2).map(|two| two[1] - two[0]).collect();
    // The first gap is any part of the interval; a tenth of it follows the first and the second failure.
    for (gap, soon) in gaps[1..6].iter().zip([false, false, true, true, false]) {
        assert_eq!(*gap < 500 * MS, soon, "{gaps:?}");
        assert!(soon || *gap > 750 * MS, "{gaps:?}");
    }
    drop(mesh);
}

#[tokio::test]
async fn every_way_to_fail_has_its_reason() {
    let gone = Checked::serving().await;
    let well = Checked::serving().await;
    let mesh = before(&[&gone, &well], OFTEN).await;
    for (answer, why) in [
        (Answer::Hang, "check: timeout after 400ms"),
        (
            unimplemented(),
            "check: gRPC UNIMPLEMENTED: it has no grpc.health.v1",
        ),
        (
            super::scripted::status("5"),
            "check: gRPC NOT_FOUND: it does not know the service",
        ),
        (Answer::http(503, "text/plain", "no"), "check: HTTP 503"),
        (
            Answer::message(b"\xff\xff\xff"),
            "check: a message that is none",
        ),
        (
            Answer::Reset(h2::Reason::INTERNAL_ERROR),
            "check: the connection broke",
        ),
    ] {
        gone.say(answer);
        until_out(&mesh, 0, why).await;
        gone.say(Answer::message(SERVING));
        until_usable(&mesh, 0, true).await;
    }
    let timeouts = mesh
        .counted("highpress_health_checks_total", ("outcome", "timeout"))
        .await;
    assert!(timeouts >= 2, "{timeouts}");
    let Checked { mut backend, .. } = gone;
    backend.stop().await;
    until_out(&mesh, 0, "check: cannot connect").await;
    backend.restart().await;
    until_usable(&mesh, 0, true).await;
}

#[tokio::test]
async fn when_all_checks_fail_all_take_requests() {
    let backends = [
        Checked::start(unimplemented()).await,
        Checked::start(unimplemented()).await,
        Checked::start(unimplemented()).await,
    ];
    let all: Vec<_> = backends.iter().collect();
    let mesh = before(&all, OFTEN).await;
    for index in 0..3 {
        until_out(&mesh, index, "takes requests all the same").await;
    }
    assert_eq!(mesh.cluster().await["panic"], true);
    assert_eq!(mesh.reads(12).await, [200; 12]);
    assert!(backends.iter().all(|backend| backend.calls() == 4));
}

#[tokio::test]
async fn who_fails_its_first_check_never_gets_a_request() {
    let ill = Checked::start(Answer::message(NOT_SERVING)).await;
    let (well, more) = (Checked::serving().await, Checked::serving().await);
    // The gateway is ready when the first checks have ended.
    let mesh = before(&[&ill, &well, &more], "health_check: { interval: 60s }").await;
    assert_eq!(mesh.reads(20).await, [200; 20]);
    assert_eq!((ill.calls(), ill.seen.count()), (0, 1));
}

#[tokio::test]
async fn one_connection_carries_all_checks_of_an_endpoint() {
    let one = Checked::serving().await;
    let mesh = before(&[&one], "health_check: { interval: 20ms }").await;
    one.seen.until(50).await;
    // Beside it a first look whether anything is there, and one of each of the two workers.
    let most = one.backend.connections();
    assert!(most <= 4, "{most} connections for 50 checks");
    assert!(
        mesh.counted("highpress_health_checks_total", ("outcome", "passed"))
            .await
            >= 50
    );
}

#[tokio::test]
async fn checks_are_spread_over_the_interval() {
    let mut backends = Vec::new();
    for _ in 0..20 {
        backends.push(Checked::serving().await);
    }
    let all: Vec<_> = backends.iter().collect();
    let _mesh = before(&all, "health_check: { interval: 500ms }").await;
    for backend in &backends {
        backend.seen.until(7).await;
    }
    let mut after_the_first: Vec<_> = backends
        .iter()
        .flat_map(|backend| backend.seen.checks.lock()[1..7].to_vec())
        .collect();
    after_the_first.sort();
    // In step, all twenty would come within a moment. Spread, 50 ms see two of them on average.
    let most = (0..after_the_first.len())
        .map(|from| {
            let end = after_the_first[from] + 50 * MS;
            after_the_first[from..]
                .iter()
                .take_while(|at| **at < end)
                .count()
        })
        .max();
    assert!(most < Some(12), "{most:?} checks within 50 ms");
}

/// A real counter: well while it serves, and told to be away when it drains.
#[tokio::test]
async fn a_counter_that_drains_is_out_before_it_is_gone() {
    let (one, two) = (mesh::counter("memory").await, mesh::counter("memory").await);
    let addresses = vec![one.address("grpc"), two.address("grpc")];
    let rules = "health_check: { service: counter.CounterService, interval: 100ms }";
    let mesh = Mesh::at(addresses, rules, "retry: {}").await;
    assert_eq!(mesh.reads(4).await, [200; 4]);
    one.terminate();
    eventually("the counter to be out", PATIENCE, || async {
        let endpoint = mesh.endpoint(0).await;
        (endpoint["usable"] == false).then_some(()).ok_or(endpoint)
    })
    .await;
    assert_eq!(mesh.reads(20).await, [200; 20]);
    one.exit_within(Duration::from_secs(20)).await;
    until_out(&mesh, 0, "check: ").await;
    assert_eq!(mesh.reads(20).await, [200; 20]);
}
