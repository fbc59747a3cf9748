//! Connections: shared, further ones, limits, and what becomes of calls when they fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use h2::Reason;
use highpress_proxy::upstream::{CallError, Cluster, Outcome};
use testkit::backend::{Answer, Backend, Settings};
use testkit::raw_backend::{RawBackend, Reaction, goaway};
use testkit::wait::{PATIENCE, eventually};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::support::{LONG, call, cluster};

/// So many calls at once; how many of them got a reply.
async fn call_at_once(cluster: &Arc<Cluster>, calls: usize) -> usize {
    let mut running = JoinSet::new();
    for _ in 0..calls {
        let cluster = Arc::clone(cluster);
        running.spawn(async move { call(&cluster, LONG).await.is_ok() });
    }
    running
        .join_all()
        .await
        .into_iter()
        .filter(|good| *good)
        .count()
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

fn reasons(cluster: &Cluster, index: usize) -> String {
    cluster.view().endpoints[index].reasons.join(", ")
}

async fn until_usable(cluster: &Cluster, index: usize, wanted: bool) {
    eventually("the endpoint's health to change", PATIENCE, || async {
        (cluster.view().endpoints[index].usable == wanted)
            .then_some(())
            .ok_or_else(|| reasons(cluster, index))
    })
    .await;
}

#[tokio::test]
async fn calls_share_one_connection() {
    let backend = Backend::start(|_| Answer::message(b"x").after(Duration::from_millis(20))).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    assert_eq!(call_at_once(&cluster, 100).await, 100);
    assert_eq!(backend.connections(), 1);
    assert!(
        backend.most_in_flight() > 50,
        "{} at once",
        backend.most_in_flight()
    );
}

#[tokio::test]
async fn a_further_connection_is_opened_when_the_peer_takes_no_more_streams() {
    let settings = Settings {
        max_streams: Some(4),
    };
    let backend = Backend::start_with(settings, |_| {
        Answer::message(b"x").after(Duration::from_millis(50))
    })
    .await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    assert_eq!(call_at_once(&cluster, 16).await, 16);
    assert!(
        (2..=4).contains(&backend.connections()),
        "{} connections",
        backend.connections()
    );
}

#[tokio::test]
async fn the_limit_of_connections_holds_and_calls_wait_for_streams() {
    let settings = Settings {
        max_streams: Some(2),
    };
    let backend = Backend::start_with(settings, |_| {
        Answer::message(b"x").after(Duration::from_millis(5))
    })
    .await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "limits: {connections: 1}");
    assert_eq!(call_at_once(&cluster, 20).await, 20);
    assert_eq!((backend.connections(), backend.most_in_flight()), (1, 2));
}

#[tokio::test]
async fn a_refused_connection_sends_the_call_elsewhere_and_marks_the_endpoint() {
    let (dead, backend) = (nobody().await, Backend::replying(b"x").await);
    let (_upstreams, cluster) = cluster(
        &[dead, backend.address()],
        "load_balancing: {policy: round_robin}",
    );
    assert_eq!(call_at_once(&cluster, 50).await, 50);
    assert!(!cluster.view().endpoints[0].usable);
    assert!(
        reasons(&cluster, 0).contains("refused"),
        "{}",
        reasons(&cluster, 0)
    );
    let refused = cluster.attempts(Outcome::Connect);
    assert_eq!(call_at_once(&cluster, 50).await, 50);
    assert_eq!(
        cluster.attempts(Outcome::Connect),
        refused,
        "it was tried again"
    );
}

#[tokio::test]
async fn without_any_endpoint_the_answer_is_immediate_and_says_why() {
    let (_upstreams, cluster) = cluster(&[nobody().await], "");
    let first = call(&cluster, LONG).await.unwrap_err();
    assert!(matches!(first, CallError::Connect { .. }), "{first}");
    let started = Instant::now();
    let second = call(&cluster, LONG).await.unwrap_err();
    assert!(
        matches!(second, CallError::NoHealthyUpstream(_)) && second.to_string().contains("refused"),
        "{second}"
    );
    assert!(second.never_executed() && started.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_backend_that_comes_back_has_traffic_within_a_second_or_so() {
    let mut backend = Backend::replying(b"x").await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    call(&cluster, LONG).await.unwrap();
    backend.stop().await;
    until_failing(&cluster).await;
    // Long enough for the waits to have grown to their maximum.
    tokio::time::sleep(Duration::from_secs(3)).await;
    backend.restart().await;
    let back = Instant::now();
    until_usable(&cluster, 0, true).await;
    assert!(
        back.elapsed() < Duration::from_secs(4),
        "it took {:?}",
        back.elapsed()
    );
    call(&cluster, LONG).await.unwrap();
}

async fn until_failing(cluster: &Arc<Cluster>) {
    eventually("the endpoint to be found dead", PATIENCE, || async {
        let _ = call(cluster, LONG).await;
        (!cluster.has_usable()).then_some(()).ok_or("usable")
    })
    .await;
}

#[tokio::test]
async fn a_port_that_takes_connections_but_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = Backend::replying(b"x").await;
    let addresses = [silent.local_addr().unwrap(), backend.address()];
    let (_upstreams, cluster) = cluster(&addresses, "load_balancing: {policy: round_robin}");
    assert_eq!(call_at_once(&cluster, 10).await, 10);
    assert!(
        reasons(&cluster, 0).contains("no connection within 1s"),
        "{}",
        reasons(&cluster, 0)
    );
}

#[tokio::test]
async fn a_refused_stream_goes_elsewhere_or_is_told() {
    let refusing = Backend::start(|_| Answer::Reset(Reason::REFUSED_STREAM)).await;
    let backend = Backend::replying(b"x").await;
    let (_upstreams, both) = cluster(
        &[refusing.address(), backend.address()],
        "load_balancing: {policy: round_robin}",
    );
    assert_eq!(call_at_once(&both, 20).await, 20);
    assert_eq!(
        both.attempts(Outcome::RefusedStream),
        refusing.calls() as u64
    );
    assert!(refusing.calls() > 0);
    let asked = refusing.calls();
    let (_upstreams, alone) = cluster(&[refusing.address()], "");
    let error = call(&alone, LONG).await.unwrap_err();
    assert!(
        matches!(error, CallError::Refused { .. }) && error.never_executed(),
        "{error}"
    );
    assert_eq!(
        refusing.calls(),
        asked + 1,
        "the same endpoint was asked again"
    );
}

#[tokio::test]
async fn what_may_have_been_executed_is_not_repeated() {
    for answer in [
        Answer::Reset(Reason::INTERNAL_ERROR),
        Answer::ResetMidway(Reason::CANCEL),
        Answer::trailers_only(&[("grpc-status", "14")]),
    ] {
        let (first, second) = (answer.clone(), answer);
        let backends = [
            Backend::start(move |_| first.clone()).await,
            Backend::start(move |_| second.clone()).await,
        ];
        let (_upstreams, cluster) = cluster(&[backends[0].address(), backends[1].address()], "");
        let _ = call(&cluster, LONG).await;
        assert_eq!(backends[0].calls() + backends[1].calls(), 1);
    }
}

/// Covers no stream with its GOAWAY on the first connection, and answers `grpc-status: 5` on later ones.
async fn going_away_once() -> RawBackend {
    RawBackend::start(|seen| match (seen.kind, seen.connection) {
        (1, 0) => Reaction::Write(goaway(0, 0)),
        (1, _) => Reaction::Write(testkit::raw_backend::frame(1, 5, seen.stream, NOT_FOUND)),
        _ => Reaction::Ignore,
    })
    .await
}

/// HPACK: `:status: 200`, `content-type: application/grpc`, `grpc-status: 5`, all literal.
const NOT_FOUND: &[u8] = b"\x88\x0f\x10\x10application/grpc\x00\x0bgrpc-status\x015";

#[tokio::test]
async fn a_goaway_that_does_not_cover_the_call_moves_it_to_a_new_connection() {
    let leaving = going_away_once().await;
    let (_upstreams, cluster) = cluster(&[leaving.address()], "");
    let reply = call(&cluster, LONG).await.unwrap();
    assert_eq!((reply.code, leaving.connections()), (5, 2));
}

#[tokio::test]
async fn a_goaway_prefers_another_endpoint() {
    let (leaving, backend) = (going_away_once().await, Backend::replying(b"x").await);
    let (_upstreams, cluster) = cluster(
        &[leaving.address(), backend.address()],
        "load_balancing: {policy: round_robin}",
    );
    assert_eq!(call(&cluster, LONG).await.unwrap().code, 0);
    assert_eq!((leaving.connections(), backend.calls()), (1, 1));
}

#[tokio::test]
async fn a_goaway_lets_covered_calls_finish() {
    let backend = RawBackend::start(|seen| match seen.kind {
        1 => Reaction::Write(
            [
                goaway(1, 0),
                testkit::raw_backend::frame(1, 5, 1, NOT_FOUND),
            ]
            .concat(),
        ),
        _ => Reaction::Ignore,
    })
    .await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    assert_eq!(call(&cluster, LONG).await.unwrap().code, 5);
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_call_fails_it() {
    let backend = RawBackend::start(|seen| match seen.kind {
        1 => Reaction::WriteAndClose(Vec::new()),
        _ => Reaction::Ignore,
    })
    .await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    let error = call(&cluster, LONG).await.unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost(_)), "{error}");
    assert_eq!((backend.connections(), error.grpc_code()), (1, 14));
}

#[tokio::test]
async fn a_frozen_peer_is_found_out_and_others_take_over() {
    let frozen = RawBackend::start(|seen| match seen.kind {
        1 => Reaction::Freeze,
        _ => Reaction::Ignore,
    })
    .await;
    let (_upstreams, cluster) = cluster(&[frozen.address()], "");
    let started = Instant::now();
    let error = call(&cluster, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost(_)), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_slow_peer_that_answers_ping_is_left_alone() {
    let backend = Backend::start(|_| Answer::message(b"x").after(Duration::from_secs(5))).await;
    let (_upstreams, cluster) = cluster(&[backend.address()], "");
    assert_eq!(call(&cluster, LONG).await.unwrap().body, "x");
    assert_eq!(backend.connections(), 1);
}

/// Calls without a pause until told to stop; the errors that they met.
fn load(cluster: &Arc<Cluster>, callers: usize, stop: &Arc<AtomicBool>) -> JoinSet<Vec<CallError>> {
    let mut running = JoinSet::new();
    for _ in 0..callers {
        let (cluster, stop) = (Arc::clone(cluster), Arc::clone(stop));
        running.spawn(async move {
            let mut errors = Vec::new();
            while !stop.load(SeqCst) {
                errors.extend(call(&cluster, LONG).await.err());
            }
            errors
        });
    }
    running
}

/// Both backends, one restarted just now, take calls.
async fn until_both_have_traffic(backends: &[Backend; 2]) {
    let before = backends.each_ref().map(Backend::calls);
    eventually("traffic at both backends", PATIENCE, || async {
        let now = backends.each_ref().map(Backend::calls);
        let both = now
            .iter()
            .zip(&before)
            .all(|(now, before)| *now > before + 20);
        both.then_some(())
            .ok_or(format!("{before:?}, then {now:?}"))
    })
    .await;
}

#[tokio::test]
async fn killing_and_restarting_one_of_two_under_load_loses_no_call_that_was_not_sent() {
    let answer = |_: &_| Answer::message(b"x").after(Duration::from_millis(2));
    let mut backends = [Backend::start(answer).await, Backend::start(answer).await];
    let (_upstreams, cluster) = cluster(&[backends[0].address(), backends[1].address()], "");
    let stop = Arc::new(AtomicBool::new(false));
    let callers = load(&cluster, 32, &stop);
    // Away long enough to be missed, and hardly at all.
    for (victim, away) in [(0, 300), (1, 300), (0, 0), (1, 0)] {
        until_both_have_traffic(&backends).await;
        backends[victim].stop().await;
        tokio::time::sleep(Duration::from_millis(away)).await;
        backends[victim].restart().await;
    }
    let back = Instant::now();
    until_both_have_traffic(&backends).await;
    assert!(
        back.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        back.elapsed()
    );
    stop.store(true, SeqCst);
    let errors: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let never_sent: Vec<_> = errors
        .iter()
        .filter(|error| error.never_executed())
        .collect();
    assert!(
        never_sent.is_empty(),
        "{} failed though never sent, such as {}",
        never_sent.len(),
        never_sent[0]
    );
    assert!(errors.len() <= 4 * 32, "{} calls lost", errors.len());
}
