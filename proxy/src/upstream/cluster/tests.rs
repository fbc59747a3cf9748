//! Breakers, ejections and panic as a lane meets them: by picking and finishing, under paused time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use tokio::time::advance;

use super::super::attempts::tests::mesh;
use super::*;

const MS: Duration = Duration::from_millis(1);
const ROUTE: &str = "timeout: 5s";

fn pick(cluster: &Arc<Cluster>) -> Result<Attempt, CallError> {
    cluster.pick(0, &Tried::new(), Aim::default())
}

fn finish(cluster: &Arc<Cluster>, outcome: Outcome, times: usize) {
    for _ in 0..times {
        pick(cluster).unwrap().finish(outcome);
    }
}

fn word(cluster: &Cluster, index: usize) -> &'static str {
    cluster.view().endpoints[index].breaker
}

#[tokio::test(start_paused = true)]
async fn a_breaker_rejects_to_the_moment_and_says_until_when() {
    let rules = "breaker: {min_requests: 4, hold: 5s, probes: 2}";
    let (_upstreams, cluster, _) = mesh(1, rules, ROUTE);
    finish(&cluster, Outcome::BackendError, 4);
    let error = pick(&cluster).unwrap_err();
    assert!(matches!(error, CallError::CircuitOpen { .. }) && error.never_executed());
    let told = error.to_string();
    assert!(
        told.contains("next probe in 5.0s") && told.contains("4 of 4 calls failed"),
        "{told}"
    );
    advance(4999 * MS).await;
    assert!(matches!(pick(&cluster), Err(CallError::CircuitOpen { .. })));
    advance(MS).await;
    let probes = [pick(&cluster).unwrap(), pick(&cluster).unwrap()];
    let error = pick(&cluster).unwrap_err().to_string();
    assert!(
        error.contains("probes of 127.0.0.1:1 are under way"),
        "{error}"
    );
    // A probe that is given up says nothing: another one has its place.
    let [one, other] = probes;
    drop(one);
    let again = pick(&cluster).unwrap();
    other.finish(Outcome::Ok);
    assert_eq!(word(&cluster, 0), "probe");
    again.finish(Outcome::CallerError);
    assert_eq!(word(&cluster, 0), "admit");
    assert!(pick(&cluster).is_ok());
}

#[tokio::test(start_paused = true)]
async fn connections_and_callers_are_not_held_against_an_endpoint() {
    let rules = "breaker: {min_requests: 2}, outlier_detection: {consecutive_failures: 2}";
    let (_upstreams, cluster, _) = mesh(2, rules, ROUTE);
    for outcome in [Outcome::Connect, Outcome::GoneAway, Outcome::Cancelled] {
        finish(&cluster, outcome, 8);
    }
    for _ in 0..8 {
        let mut attempt = pick(&cluster).unwrap();
        attempt.set_deadline(Instant::now(), true);
        attempt.finish(Outcome::Timeout);
    }
    let view = cluster.view();
    assert!(
        view.endpoints
            .iter()
            .all(|one| one.usable && one.breaker == "admit"),
        "{view:?}"
    );
    // The route's own deadline is the endpoint's fault.
    while let Ok(mut attempt) = pick(&cluster) {
        attempt.set_deadline(Instant::now(), false);
        attempt.finish(Outcome::Timeout);
    }
    let view = cluster.view();
    assert!(
        view.endpoints.iter().all(|one| one.breaker == "reject"),
        "{view:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_rejects_is_neither_picked_nor_forgotten_when_its_hold_is_over() {
    for policy in ["p2c", "round_robin", "least_request", "random"] {
        let rules =
            format!("breaker: {{min_requests: 4, hold: 2s}}, load_balancing: {{policy: {policy}}}");
        let (_upstreams, cluster, _) = mesh(3, &rules, ROUTE);
        let bad = Arc::clone(pick(&cluster).unwrap().endpoint());
        let is_bad = |attempt: &Attempt| Arc::ptr_eq(attempt.endpoint(), &bad);
        let guard = bad.circuit.breaker().unwrap();
        for _ in 0..4 {
            let picked = Picked {
                guard: bad.admit(&guard, Instant::now()),
                endpoint: Arc::clone(&bad),
                total: None,
                near: None,
            };
            Attempt::start(picked, 0, Instant::now()).finish(Outcome::Reset);
        }
        for _ in 0..200 {
            let attempt = pick(&cluster).unwrap();
            assert!(!is_bad(&attempt), "{policy}");
            attempt.finish(Outcome::Ok);
        }
        advance(2000 * MS).await;
        let mut probed = 0;
        for _ in 0..40 {
            let attempt = pick(&cluster).unwrap();
            probed += usize::from(is_bad(&attempt));
            advance(MS).await;
            attempt.finish(Outcome::Ok);
        }
        assert!(probed >= 3, "{policy}: {probed} probes");
        assert!(
            cluster
                .view()
                .endpoints
                .iter()
                .all(|one| one.breaker == "admit")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_is_back_to_the_moment() {
    let rules = "outlier_detection: {consecutive_failures: 3, base_ejection: 10s, interval: 7s}, \
                 load_balancing: {policy: round_robin}";
    let (_upstreams, cluster, _) = mesh(2, rules, ROUTE);
    let first = Arc::clone(pick(&cluster).unwrap().endpoint());
    while cluster.view().endpoints.iter().all(|one| one.usable) {
        let attempt = pick(&cluster).unwrap();
        let failed = Arc::ptr_eq(attempt.endpoint(), &first);
        attempt.finish(if failed {
            Outcome::BackendError
        } else {
            Outcome::Ok
        });
    }
    let reasons = |cluster: &Cluster| {
        let view = cluster.view();
        view.endpoints
            .into_iter()
            .flat_map(|one| one.reasons)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        reasons(&cluster),
        ["ejected: 3 consecutive failures, back in 10s"]
    );
    tokio::time::sleep(2500 * MS).await;
    assert_eq!(
        reasons(&cluster),
        ["ejected: 3 consecutive failures, back in 8s"]
    );
    tokio::time::sleep(7490 * MS).await;
    assert_eq!(
        reasons(&cluster),
        ["ejected: 3 consecutive failures, back in 1s"]
    );
    tokio::time::sleep(20 * MS).await;
    assert!(reasons(&cluster).is_empty());
    assert_eq!((cluster.ejections(), cluster.panics()), (1, false));
}

#[tokio::test(start_paused = true)]
async fn panic_begins_below_the_threshold_and_leaves_out_what_is_unreachable() {
    let rules = "outlier_detection: {consecutive_failures: 1, base_ejection: 60s, max_ejected: 100%}, \
                 load_balancing: {policy: round_robin}";
    let (_upstreams, cluster, _) = mesh(4, rules, ROUTE);
    for out in 1..=2 {
        finish(&cluster, Outcome::BackendError, 1);
        let usable = cluster
            .view()
            .endpoints
            .iter()
            .filter(|one| one.usable)
            .count();
        assert_eq!((usable, cluster.panics()), (4 - out, false));
    }
    finish(&cluster, Outcome::BackendError, 1);
    assert!(cluster.panics() && cluster.has_usable());
    let away = Arc::clone(&cluster.members()[0]);
    assert!(
        away.health
            .state(super::super::health::Cause::Unreachable, "refused".into())
    );
    cluster.reselect();
    for _ in 0..40 {
        let attempt = pick(&cluster).unwrap();
        assert!(!Arc::ptr_eq(attempt.endpoint(), &away));
        attempt.finish(Outcome::Ok);
    }
}

#[tokio::test(start_paused = true)]
async fn full_and_rejecting_endpoints_are_told_apart() {
    let rules = "breaker: {min_requests: 2}, limits: {per_endpoint: {requests: 1}}";
    let (_upstreams, cluster, _) = mesh(2, rules, ROUTE);
    let held = [pick(&cluster).unwrap(), pick(&cluster).unwrap()];
    assert!(matches!(pick(&cluster), Err(CallError::Overloaded)));
    let [one, other] = held;
    let rejecting = Arc::clone(one.endpoint());
    one.finish(Outcome::Reset);
    pick(&cluster).unwrap().finish(Outcome::Reset);
    assert!(rejecting.circuit.rejects(Instant::now()));
    assert!(matches!(pick(&cluster), Err(CallError::Overloaded)));
    other.finish(Outcome::Reset);
    pick(&cluster).unwrap().finish(Outcome::Reset);
    assert!(matches!(pick(&cluster), Err(CallError::CircuitOpen { .. })));
}
