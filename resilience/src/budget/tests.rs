#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn budget(ratio: f64, min_per_second: u32) -> RetryBudget {
    RetryBudget::new(Terms {
        ratio,
        min_per_second,
    })
}

/// How many of `wanted` tries the budget allows at once.
fn spend(budget: &RetryBudget, wanted: u32, now: Instant) -> u32 {
    (0..wanted).map(|_| u32::from(budget.try_spend(now))).sum()
}

#[test]
fn a_share_of_the_first_tries_and_the_floor_may_be_spent() {
    let budget = budget(0.2, 3);
    let now = Instant::now();
    for _ in 0..100 {
        budget.first_try(now);
    }
    assert_eq!(budget.left(now), 23);
    assert_eq!(spend(&budget, 1000, now), 23);
    assert_eq!(budget.left(now), 0);
}

#[test]
fn a_quiet_cluster_has_the_floor_and_cannot_save_it_up() {
    let budget = budget(0.2, 3);
    let now = Instant::now() + 60 * SECOND;
    assert_eq!(spend(&budget, 10, now), 3);
    assert_eq!(spend(&budget, 10, now + SECOND / 2), 0);
    assert_eq!(spend(&budget, 10, now + 3 * SECOND / 2), 3);
}

#[test]
fn first_tries_of_long_ago_allow_nothing() {
    let budget = budget(0.5, 0);
    let now = Instant::now();
    for _ in 0..100 {
        budget.first_try(now);
    }
    assert_eq!(budget.left(now + 9 * SECOND), 50);
    assert_eq!(budget.left(now + 11 * SECOND), 0);
    assert!(!budget.try_spend(now + 11 * SECOND));
}

#[test]
fn other_terms_hold_at_once() {
    let budget = budget(0.2, 3);
    let now = Instant::now();
    for _ in 0..10 {
        budget.first_try(now);
    }
    budget.set(Terms {
        ratio: 0.0,
        min_per_second: 0,
    });
    assert_eq!(spend(&budget, 10, now), 0);
    budget.set(Terms {
        ratio: 1.0,
        min_per_second: 0,
    });
    assert_eq!(spend(&budget, 100, now), 10);
}
