#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;

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

/// What happened when, for the bounds to be checked against.
#[derive(Default)]
struct Log(Vec<Instant>);

impl Log {
    /// How many in the `length` up to `end`, which is included.
    fn within(&self, length: Duration, end: Instant) -> u64 {
        let up_to_end = self.0.partition_point(|at| *at <= end);
        let too_old = self.0[..up_to_end].partition_point(|at| end - *at >= length);
        (up_to_end - too_old) as u64
    }
}

/// A schedule: milliseconds to the next step, first tries in it, tries beyond that are asked for in it.
fn schedules() -> impl Strategy<Value = Vec<(u64, u8, u8)>> {
    let pause = prop_oneof![0u64..50, 0u64..900, 0u64..12_000];
    proptest::collection::vec((pause, 0u8..40, 0u8..15), 1..80)
}

/// Runs a schedule; `check` sees first tries, allowed tries, the instant, and the answer.
fn run(
    budget: &RetryBudget,
    schedule: Vec<(u64, u8, u8)>,
    mut check: impl FnMut(&Log, &Log, Instant, bool) -> Result<(), TestCaseError>,
) -> Result<(Log, Log), TestCaseError> {
    let mut now = Instant::now();
    let (mut first, mut beyond) = (Log::default(), Log::default());
    for (pause, tries, asked) in schedule {
        now += Duration::from_millis(pause);
        for _ in 0..tries {
            budget.first_try(now);
            first.0.push(now);
        }
        for _ in 0..asked {
            let left = budget.left(now);
            let allowed = budget.try_spend(now);
            prop_assert_eq!(allowed, left > 0);
            if allowed {
                beyond.0.push(now);
            }
            check(&first, &beyond, now, allowed)?;
        }
    }
    Ok((first, beyond))
}

proptest! {
    /// The share alone: exact where it allows, within a slice of exact where it refuses.
    #[test]
    fn the_share_holds_whenever_a_try_is_allowed(percent in 0u8..=100, schedule in schedules()) {
        let budget = budget(f64::from(percent) / 100.0, 0);
        let slice = WINDOW / 50;
        run(&budget, schedule, |first, beyond, now, allowed| {
            let share = |first: u64| first * u64::from(percent) / 100;
            if allowed {
                prop_assert!(beyond.within(WINDOW, now) <= share(first.within(WINDOW, now)));
            } else {
                let spent = beyond.within(WINDOW + slice, now);
                prop_assert!(spent >= share(first.within(WINDOW - slice, now)));
            }
            Ok(())
        })?;
    }

    /// The floor alone: never more than so many in any second, and no fewer than that if they are asked for.
    #[test]
    fn the_floor_holds_in_any_second(floor in 0u32..8, schedule in schedules()) {
        let budget = budget(0.0, floor);
        run(&budget, schedule, |_, beyond, now, allowed| {
            if allowed {
                prop_assert!(beyond.within(SECOND, now) <= u64::from(floor));
            } else {
                prop_assert!(beyond.within(SECOND * 11 / 10, now) >= u64::from(floor));
            }
            Ok(())
        })?;
    }

    /// Both: in whatever window one looks, the share of what came in since ten seconds before it, and the floor.
    #[test]
    fn no_window_holds_more_than_share_and_floor(
        percent in 0u8..=100,
        floor in 0u32..8,
        schedule in schedules(),
    ) {
        let budget = budget(f64::from(percent) / 100.0, floor);
        let (first, beyond) = run(&budget, schedule, |_, _, _, _| Ok(()))?;
        let mut instants = beyond.0.clone();
        instants.dedup();
        for (index, start) in instants.iter().enumerate() {
            for end in &instants[index..] {
                let length = *end - *start + Duration::from_nanos(1);
                let supporting = first.within(length + WINDOW, *end) * u64::from(percent) / 100;
                let seconds = length.as_nanos().div_ceil(SECOND.as_nanos()) as u64;
                let most = supporting + u64::from(floor) * seconds;
                prop_assert!(beyond.within(length, *end) <= most, "{length:?} up to {end:?}");
            }
        }
    }
}

#[test]
fn threads_together_get_no_more_than_there_is_and_lose_nothing() {
    let now = Instant::now();
    for _ in 0..20 {
        let budget = budget(0.2, 3);
        let together = std::sync::Barrier::new(4);
        let allowed: u32 = std::thread::scope(|scope| {
            let worker = || {
                together.wait();
                let mut allowed = 0;
                for _ in 0..500 {
                    budget.first_try(now);
                    allowed += u32::from(budget.try_spend(now));
                }
                allowed
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(allowed + budget.left(now), 2000 / 5 + 3);
    }
}
