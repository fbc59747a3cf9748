#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;

const BASE: Duration = Duration::from_millis(25);
const MAX: Duration = Duration::from_secs(1);

fn series(attempts: u32, seed: u64) -> Series {
    let backoff = Backoff::new(BASE, MAX).unwrap();
    Series::new(
        NonZeroU32::new(attempts).unwrap(),
        backoff,
        fastrand::Rng::with_seed(seed),
    )
}

#[test]
fn the_first_try_counts() {
    let now = Instant::now();
    let deadline = now + 60 * MAX;
    let mut once = series(1, 1);
    assert_eq!(once.after(now, deadline, None), Next::Stop(Why::Attempts));
    let mut thrice = series(3, 1);
    assert!(matches!(thrice.after(now, deadline, None), Next::Again(_)));
    assert!(matches!(thrice.after(now, deadline, None), Next::Again(_)));
    assert_eq!(thrice.made(), 3);
    assert_eq!(thrice.after(now, deadline, None), Next::Stop(Why::Attempts));
}

#[test]
fn what_the_backend_asks_for_replaces_the_backoff() {
    let now = Instant::now();
    let deadline = now + 2 * MAX;
    let mut tries = series(10, 1);
    let wait = Some(Pushback::After(3 * MAX / 2));
    assert_eq!(tries.after(now, deadline, wait), Next::Again(3 * MAX / 2));
    let too_long = Some(Pushback::After(2 * MAX));
    let stop = Next::Stop(Why::PushedBack);
    assert_eq!(tries.after(now, deadline, too_long), stop);
    assert_eq!(tries.after(now, deadline, Some(Pushback::Never)), stop);
    assert_eq!(tries.made(), 2);
}

#[test]
fn after_a_pushback_the_backoff_starts_at_its_base() {
    let now = Instant::now();
    let deadline = now + 600 * MAX;
    let at_once = Some(Pushback::After(Duration::ZERO));
    for seed in 0..100 {
        let mut tries = series(10, seed);
        for _ in 0..5 {
            let _grown = tries.after(now, deadline, None);
        }
        assert_eq!(
            tries.after(now, deadline, at_once),
            Next::Again(Duration::ZERO)
        );
        let Next::Again(wait) = tries.after(now, deadline, None) else {
            panic!("ten tries are allowed");
        };
        assert!(wait <= BASE, "{wait:?}");
    }
}

#[test]
fn nothing_follows_after_the_deadline() {
    let now = Instant::now();
    let late = Next::Stop(Why::Deadline);
    assert_eq!(series(3, 1).after(now, now, None), late);
    let at_once = Some(Pushback::After(Duration::ZERO));
    assert_eq!(series(3, 1).after(now, now, at_once), late);
    let past = now + MAX;
    assert_eq!(series(3, 1).after(past, now, None), late);
}

#[test]
fn grpc_says_it_in_milliseconds() {
    let after = |millis| Pushback::After(Duration::from_millis(millis));
    assert_eq!(Pushback::of_grpc(b"150"), after(150));
    assert_eq!(Pushback::of_grpc(b"0"), after(0));
    let huge = b"99999999999999999999999";
    assert_eq!(Pushback::of_grpc(huge), after(u64::MAX));
    for never in [&b"-1"[..], b"", b"soon", b"1.5", b"+1", b" 1"] {
        assert_eq!(Pushback::of_grpc(never), Pushback::Never, "{never:?}");
    }
}

#[test]
fn http_says_it_in_seconds_or_as_a_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let said = |value: &str| Pushback::of_retry_after(value.as_bytes(), now);
    let after = |seconds| Some(Pushback::After(Duration::from_secs(seconds)));
    assert_eq!(said("120"), after(120));
    assert_eq!(said("Sun, 06 Nov 1994 08:49:39 GMT"), after(2));
    assert_eq!(said("Sun, 06 Nov 1994 08:49:30 GMT"), after(0));
    for nothing in ["", "-1", "soon", "1.5", "\u{e9}"] {
        assert_eq!(said(nothing), None, "{nothing:?}");
    }
}

proptest! {
    /// Whatever fails when: never more tries than allowed, and each wait is bounded and ends before the deadline.
    #[test]
    fn a_series_keeps_its_bounds(
        attempts in 1u32..=10,
        seed: u64,
        deadline in 0u64..5_000,
        took in proptest::collection::vec(0u64..1_000, 1..30),
    ) {
        let start = Instant::now();
        let deadline = start + Duration::from_millis(deadline);
        let mut now = start;
        let mut tries = series(attempts, seed);
        let mut made = 1;
        for took in took {
            now += Duration::from_millis(took);
            let before = tries.made();
            match tries.after(now, deadline, None) {
                Next::Again(wait) => {
                    let ceiling = Backoff::new(BASE, MAX).unwrap().ceiling(before - 1);
                    prop_assert!(wait <= ceiling, "{wait:?} after try {before}");
                    now += wait;
                    prop_assert!(now < deadline);
                    made += 1;
                }
                Next::Stop(Why::Attempts) => {
                    prop_assert_eq!(made, attempts);
                    break;
                }
                Next::Stop(Why::Deadline) => prop_assert!(now + MAX >= deadline),
                Next::Stop(Why::PushedBack) => prop_assert!(false, "nobody pushed back"),
            }
            prop_assert!(made <= attempts);
            prop_assert_eq!(made, tries.made());
        }
    }
}
