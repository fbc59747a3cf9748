//! Hedges: when another endpoint is asked too, whose answer counts, and what becomes of the other try.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use testkit::backend::{Answer, Backend};
use testkit::wait::{PATIENCE, eventually};
use tokio::time::Instant;

use super::scripted::{Mesh, always, ok, unavailable};

const PLENTY: &str = "retry_budget: { ratio: 100%, min_per_second: 1000 }";

async fn until_cancelled(backend: &Backend, calls: usize) {
    eventually("the losers to be reset", PATIENCE, || async {
        (backend.cancelled() >= calls)
            .then_some(())
            .ok_or(backend.cancelled())
    })
    .await;
}

#[tokio::test]
async fn the_first_answer_wins_and_the_other_try_is_reset_at_once() {
    let (hanging, working) = (always(Answer::Hang).await, always(ok()).await);
    let mesh = Mesh::start(&[&hanging, &working], PLENTY, "hedge: { after: 100ms }").await;
    let began = Instant::now();
    assert_eq!(mesh.reads(6).await, [200; 6]);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(10),
        "{took:?}"
    );
    assert_eq!((hanging.calls(), working.calls()), (3, 6));
    until_cancelled(&hanging, 3).await;
    let hedges = mesh.counted("highpress_upstream_retries_total", ("reason", "hedge"));
    assert_eq!(hedges.await, 3);
}

#[tokio::test]
async fn an_answer_in_time_has_no_company() {
    let backends = [always(ok()).await, always(ok()).await];
    let both = [&backends[0], &backends[1]];
    let mesh = Mesh::start(&both, PLENTY, "hedge: { after: 2s, max: 3 }").await;
    assert_eq!(mesh.reads(20).await, [200; 20]);
    assert_eq!(backends[0].calls() + backends[1].calls(), 20);
}

#[tokio::test]
async fn a_failure_does_not_win_while_another_try_is_under_way() {
    let slow = always(ok().after(Duration::from_millis(400))).await;
    let failing = always(unavailable()).await;
    let mesh = Mesh::start(&[&slow, &failing], PLENTY, "hedge: { after: 50ms }").await;
    // In turn: the slow one first, then the failing one, which fails before anybody has company.
    assert_eq!(mesh.reads(2).await, [200, 503]);
    assert_eq!((slow.calls(), failing.calls(), slow.cancelled()), (1, 2, 0));
}

#[tokio::test]
async fn no_more_than_so_many_further_tries_each_at_an_endpoint_of_its_own() {
    let backends = [
        always(Answer::Hang).await,
        always(Answer::Hang).await,
        always(Answer::Hang).await,
    ];
    let all = [&backends[0], &backends[1], &backends[2]];
    for (max, expected) in [(1, 2), (2, 3), (9, 3)] {
        let before: usize = all.iter().map(|backend| backend.calls()).sum();
        let route = format!("hedge: {{ after: 30ms, max: {max} }}");
        let mesh = Mesh::start(&all, PLENTY, &route).await;
        let mut client = mesh.client().await;
        let soon = [("x-request-timeout", "400ms")];
        let answer = client
            .request("GET", super::scripted::READ, &soon, None)
            .await;
        assert_eq!(answer.status, 504);
        let after: usize = all.iter().map(|backend| backend.calls()).sum();
        assert_eq!(after - before, expected, "max {max}");
        for backend in &backends {
            until_cancelled(backend, backend.calls()).await;
        }
    }
    assert!(backends.iter().all(|backend| backend.calls() <= 3));
}

#[tokio::test]
async fn what_is_not_safe_to_repeat_and_what_the_budget_forbids_has_no_company() {
    let slow = || always(ok().after(Duration::from_millis(200)));
    let backends = [slow().await, slow().await];
    let both = [&backends[0], &backends[1]];
    let mesh = Mesh::start(&both, PLENTY, "hedge: { after: 20ms }").await;
    assert_eq!(mesh.create().await.status, 200);
    assert_eq!(backends[0].calls() + backends[1].calls(), 1);
    let none = "retry_budget: { ratio: 0%, min_per_second: 0 }";
    let mesh = Mesh::start(&both, none, "hedge: { after: 20ms }").await;
    assert_eq!(mesh.reads(2).await, [200; 2]);
    assert_eq!(backends[0].calls() + backends[1].calls(), 3);
    // A key makes an increment safe.
    let mesh = Mesh::start(&both, PLENTY, "hedge: { after: 20ms }").await;
    assert_eq!(mesh.increment(&[]).await.status, 200);
    assert_eq!(backends[0].calls() + backends[1].calls(), 5);
}

#[tokio::test]
async fn the_delay_follows_the_latencies_of_now() {
    let hangs = Arc::new(AtomicBool::new(false));
    let told = hangs.clone();
    let script = move |_: &_| {
        if told.load(SeqCst) {
            Answer::Hang
        } else {
            ok()
        }
    };
    let backends = [Backend::start(script).await, always(ok()).await];
    let both = [&backends[0], &backends[1]];
    let mesh = Mesh::start(&both, PLENTY, "hedge: { after: p95 }").await;
    // Long enough for the quantile, which is worked out ten times a second.
    let (began, mut reads) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(300) || reads < 200 {
        assert_eq!(mesh.reads(50).await, [200; 50]);
        reads += 50;
    }
    // Some of them may have taken longer than 95 of 100.
    let calls = backends[0].calls() + backends[1].calls();
    assert!(
        (reads..reads + reads / 2).contains(&calls),
        "{calls} calls for {reads} reads"
    );
    hangs.store(true, SeqCst);
    let began = Instant::now();
    assert_eq!(mesh.reads(20).await, [200; 20]);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    until_cancelled(&backends[0], 10).await;
}

#[tokio::test]
async fn before_enough_is_known_nothing_has_company() {
    let slow = || always(ok().after(Duration::from_millis(30)));
    let backends = [slow().await, slow().await];
    let mesh = Mesh::start(
        &[&backends[0], &backends[1]],
        PLENTY,
        "hedge: { after: p95 }",
    )
    .await;
    assert_eq!(mesh.reads(15).await, [200; 15]);
    assert_eq!(backends[0].calls() + backends[1].calls(), 15);
}
