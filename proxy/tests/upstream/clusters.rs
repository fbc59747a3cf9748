//! Clusters: limits, reloads, names, and what operators see.

use std::sync::Arc;
use std::time::Duration;

use highpress_proxy::upstream::{Aim, CallError, Cluster, Outcome, Tried, Upstreams};
use testkit::backend::{Answer, Backend};
use testkit::wait::{PATIENCE, eventually};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::support::{LONG, call, cluster, clusters, entry};

fn start_calls(
    cluster: &Arc<Cluster>,
    calls: usize,
    within: Duration,
) -> JoinSet<Result<u32, CallError>> {
    let mut running = JoinSet::new();
    for _ in 0..calls {
        let cluster = Arc::clone(cluster);
        running.spawn(async move { call(&cluster, within).await.map(|reply| reply.code) });
    }
    running
}

#[tokio::test]
async fn requests_in_flight_are_bounded_and_the_rest_is_refused_at_once() {
    let backend = Backend::start(|_| Answer::message(b"x").after(Duration::from_millis(300))).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "limits: {requests: 2, pending: 3}");
    let results = start_calls(&cluster, 9, LONG).join_all().await;
    let refused = results
        .iter()
        .filter(|result| matches!(result, Err(CallError::Overloaded)))
        .count();
    let served = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(
        (served, refused, backend.most_in_flight(), backend.calls()),
        (5, 4, 2, 5)
    );
}

#[tokio::test]
async fn waiting_for_a_slot_ends_at_the_deadline() {
    let backend = Backend::start(|_| Answer::Hang).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "limits: {requests: 1, pending: 1}");
    let results = start_calls(&cluster, 2, Duration::from_millis(200))
        .join_all()
        .await;
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Err(CallError::DeadlineExceeded))),
        "{results:?}"
    );
    assert_eq!((backend.calls(), cluster.in_flight()), (1, (0, 0)));
}

#[tokio::test]
async fn limits_of_one_endpoint_fill_the_others() {
    let slow = || Backend::start(|_| Answer::message(b"x").after(Duration::from_millis(200)));
    let backends = [slow().await, slow().await];
    let addresses = [backends[0].address(), backends[1].address()];
    let (_upstreams, cluster) = cluster(
        &addresses,
        "limits: {pending: 0, per_endpoint: {requests: 3}}",
    );
    let results = start_calls(&cluster, 7, LONG).join_all().await;
    let refused = results
        .iter()
        .filter(|result| matches!(result, Err(CallError::Overloaded)))
        .count();
    assert_eq!(
        (
            refused,
            backends[0].most_in_flight(),
            backends[1].most_in_flight()
        ),
        (1, 3, 3)
    );
}

#[tokio::test]
async fn a_reload_keeps_what_has_not_changed() {
    let backends = [Backend::replying(b"a").await, Backend::replying(b"b").await];
    let (upstreams, cluster) = cluster(&[backends[0].address()], "");
    call(&cluster, LONG).await.unwrap();
    let both = entry(
        "c",
        &[backends[1].address(), backends[0].address()],
        "load_balancing: {policy: round_robin}",
    );
    upstreams.apply(&clusters(&both));
    for _ in 0..10 {
        call(&cluster, LONG).await.unwrap();
    }
    assert_eq!(
        (backends[0].connections(), backends[1].connections()),
        (1, 1)
    );
    assert_eq!((backends[0].calls(), backends[1].calls()), (6, 5));
    let view = cluster.view();
    assert_eq!(
        (view.policy, view.endpoints[1].address.to_string()),
        ("round_robin", backends[0].address().to_string())
    );
    assert!(
        view.endpoints
            .iter()
            .all(|endpoint| endpoint.connections == 1 && endpoint.ewma_ms > 0.0),
        "{view:?}"
    );
}

#[tokio::test]
async fn a_removed_endpoint_finishes_its_calls_and_closes() {
    let backend = Backend::start(|_| Answer::message(b"x").after(Duration::from_millis(400))).await;
    let other = Backend::replying(b"y").await;
    let (upstreams, cluster) = cluster(&[backend.address()], "");
    let running = start_calls(&cluster, 3, LONG);
    eventually("the calls to arrive", PATIENCE, || async {
        (backend.calls() == 3).then_some(()).ok_or(backend.calls())
    })
    .await;
    upstreams.apply(&clusters(&entry("c", &[other.address()], "")));
    assert_eq!(call(&cluster, LONG).await.unwrap().body, "y");
    assert!(running.join_all().await.iter().all(Result::is_ok));
    eventually("the connection to close", PATIENCE, || async {
        (backend.open_connections() == 0)
            .then_some(())
            .ok_or(backend.open_connections())
    })
    .await;
}

#[tokio::test]
async fn a_removed_cluster_is_gone_but_its_calls_finish() {
    let backend = Backend::start(|_| Answer::message(b"x").after(Duration::from_millis(200))).await;
    let (upstreams, cluster) = cluster(&[backend.address()], "");
    let running = start_calls(&cluster, 1, LONG);
    eventually("the call to arrive", PATIENCE, || async {
        (backend.calls() == 1).then_some(()).ok_or(0)
    })
    .await;
    upstreams.apply(&[]);
    assert!(upstreams.get("c").is_none() && upstreams.all().is_empty());
    assert!(running.join_all().await.iter().all(Result::is_ok));
    assert!(matches!(
        call(&cluster, LONG).await,
        Err(CallError::NoHealthyUpstream(_))
    ));
}

#[tokio::test]
async fn names_are_resolved_and_names_that_cannot_be_say_so() {
    let backend = Backend::replying(b"x").await;
    let port = backend.address().port();
    let upstreams = Upstreams::new(1, Handle::current());
    upstreams.apply(&clusters(&format!(
        "  - {{name: c, protocol: grpc, endpoints: {{static: [\"localhost:{port}\", \"no-such-host.invalid:{port}\"]}}}}\n"
    )));
    let cluster = upstreams.get("c").unwrap();
    eventually("localhost to be resolved", PATIENCE, || async {
        let view = cluster.view();
        let settled = view.endpoints[0].usable
            && view.endpoints[1]
                .reasons
                .concat()
                .contains("cannot resolve no-such-host.invalid");
        settled.then_some(()).ok_or(format!("{view:?}"))
    })
    .await;
    for _ in 0..10 {
        assert_eq!(call(&cluster, LONG).await.unwrap().body, "x");
    }
}

#[tokio::test]
async fn outcomes_are_counted_and_load_is_seen() {
    let backend = Backend::start(|seen| match seen.number {
        0 => Answer::message(b"x"),
        1 => Answer::trailers_only(&[("grpc-status", "5")]),
        2 => Answer::trailers_only(&[("grpc-status", "14")]),
        3 => Answer::Reset(h2::Reason::INTERNAL_ERROR),
        4 => Answer::http(200, "text/html", ""),
        _ => Answer::Hang,
    })
    .await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    for _ in 0..6 {
        let _ = call(&cluster, Duration::from_millis(500)).await;
    }
    let expected = [
        Outcome::Ok,
        Outcome::CallerError,
        Outcome::BackendError,
        Outcome::Reset,
        Outcome::Malformed,
        Outcome::Timeout,
    ];
    for outcome in Outcome::ALL {
        let wanted = u64::from(expected.contains(&outcome));
        assert_eq!(cluster.attempts(outcome), wanted, "{}", outcome.label());
    }
    let endpoint = &cluster.view().endpoints[0];
    assert_eq!(
        (
            endpoint.weight,
            endpoint.usable,
            endpoint.breaker,
            endpoint.in_flight
        ),
        (1, true, "admit", 0)
    );
    // Failures count as slow.
    assert!(endpoint.ewma_ms > 200.0, "{}", endpoint.ewma_ms);
}

#[tokio::test]
async fn pass_through_picks_and_reports() {
    let backend = Backend::replying(b"x").await;
    let text = format!(
        "  - {{name: p, protocol: http1, endpoints: {{static: [\"{}\"]}}}}\n",
        backend.address()
    );
    let upstreams = Upstreams::new(1, Handle::current());
    upstreams.apply(&clusters(&text));
    let cluster = upstreams.get("p").unwrap();
    let picked = cluster.pick(0, &Tried::new(), Aim::default()).unwrap();
    assert_eq!(picked.endpoint().socket_addr(), Some(backend.address()));
    assert_eq!(cluster.view().endpoints[0].in_flight, 1);
    let tried = Tried::from_iter([Arc::clone(picked.endpoint())]);
    assert!(matches!(
        cluster.pick(0, &tried, Aim::default()),
        Err(CallError::NoHealthyUpstream(_))
    ));
    picked.connect_failed("connection refused");
    assert!(!cluster.has_usable() && cluster.view().endpoints[0].in_flight == 0);
    eventually("the probe to find it", PATIENCE, || async {
        cluster.has_usable().then_some(()).ok_or("unusable")
    })
    .await;
}
