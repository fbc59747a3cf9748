#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::sync::Arc;
use std::time::Duration;

use super::*;

fn limiter(requests: usize, pending: usize) -> Arc<Limiter> {
    Arc::new(Limiter::new(Bounds { requests, pending }))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn never_more_than_the_bound_are_out() {
    let limiter = limiter(2, 0);
    let first = Limiter::acquire(&*limiter, soon()).await.unwrap();
    let _second = Limiter::acquire(&*limiter, soon()).await.unwrap();
    assert_eq!(
        Limiter::acquire(&*limiter, soon()).await.unwrap_err(),
        Refused::Full
    );
    assert_eq!(limiter.in_flight(), 2);
    drop(first);
    assert_eq!(limiter.in_flight(), 1);
    Limiter::acquire(&*limiter, soon()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_deadline() {
    let limiter = limiter(1, 1);
    let _held = Limiter::acquire(&*limiter, soon()).await.unwrap();
    let start = Instant::now();
    let refused = Limiter::acquire(&*limiter, start + Duration::from_millis(300))
        .await
        .unwrap_err();
    assert_eq!(refused, Refused::TooLate);
    assert_eq!(start.elapsed(), Duration::from_millis(300));
    assert_eq!(limiter.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_in_order() {
    let limiter = limiter(1, 2);
    let held = Limiter::acquire(&*limiter, soon()).await.unwrap();
    let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
    for name in ["first", "second"] {
        let (limiter, served) = (Arc::clone(&limiter), served.clone());
        tokio::spawn(async move {
            let permit = Limiter::acquire(&*limiter, soon()).await.unwrap();
            served.send(name).unwrap();
            drop(permit);
        });
        tokio::task::yield_now().await;
    }
    assert_eq!(limiter.waiting(), 2);
    assert_eq!(
        Limiter::acquire(&*limiter, soon()).await.unwrap_err(),
        Refused::Full
    );
    drop(held);
    assert_eq!(order.recv().await, Some("first"));
    assert_eq!(order.recv().await, Some("second"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_the_queue() {
    let limiter = limiter(1, 1);
    let held = Limiter::acquire(&*limiter, soon()).await.unwrap();
    let waiter = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move { Limiter::acquire(&*limiter, soon()).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(limiter.waiting(), 1);
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    assert_eq!(limiter.waiting(), 0);
    drop(held);
    Limiter::acquire(&*limiter, soon()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lower_bound_holds_once_permits_are_back() {
    let limiter = limiter(3, 0);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Limiter::acquire(&*limiter, soon()).await.unwrap());
    }
    limiter.set(Bounds {
        requests: 1,
        pending: 0,
    });
    held.pop();
    held.pop();
    assert_eq!(
        Limiter::acquire(&*limiter, soon()).await.unwrap_err(),
        Refused::Full
    );
    held.pop();
    let only = Limiter::acquire(&*limiter, soon()).await.unwrap();
    assert_eq!(
        Limiter::acquire(&*limiter, soon()).await.unwrap_err(),
        Refused::Full
    );
    limiter.set(Bounds {
        requests: 2,
        pending: 0,
    });
    let _second = Limiter::acquire(&*limiter, soon()).await.unwrap();
    assert_eq!(
        Limiter::acquire(&*limiter, soon()).await.unwrap_err(),
        Refused::Full
    );
    drop(only);
}

proptest::proptest! {
    /// Whatever is taken, given back and re-bounded: the bound holds, and nothing is lost.
    #[test]
    fn permits_are_conserved(steps in proptest::collection::vec((0u8..3, 0usize..6), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limiter = limiter(3, 0);
            let mut bound = 3;
            let mut held = Vec::new();
            for (step, number) in steps {
                match step {
                    0 => match Limiter::acquire(&*limiter, soon()).await {
                        Ok(permit) => {
                            held.push(permit);
                            assert!(held.len() <= bound, "{} out of {bound}", held.len());
                        }
                        Err(_) => assert!(held.len() >= bound, "refused with {} out of {bound}", held.len()),
                    },
                    1 => drop(held.pop()),
                    _ => {
                        bound = number;
                        limiter.set(Bounds { requests: bound, pending: 0 });
                    }
                }
            }
        });
    }
}
