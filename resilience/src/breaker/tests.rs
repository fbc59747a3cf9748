#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

mod schedules;

const FAST: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        window: 10 * SECOND,
        min_requests: NonZeroU32::new(20).unwrap(),
        failure_ratio: 0.5,
        slow_call: SECOND,
        slow_ratio: 0.9,
        hold: 5 * SECOND,
        max_hold: 60 * SECOND,
        probes: NonZeroU32::new(3).unwrap(),
    }
}

fn breaker() -> Arc<Breaker> {
    Arc::new(Breaker::new(settings()))
}

/// One call that ends as soon as it starts, if it may.
fn call(breaker: &Arc<Breaker>, verdict: Verdict, took: Duration, now: Instant) -> Option<Change> {
    let admission = breaker.admit(now);
    breaker.record(admission, verdict, took, now)
}

fn calls(breaker: &Arc<Breaker>, count: u32, verdict: Verdict, now: Instant) -> Option<Change> {
    (0..count).fold(None, |change, _| {
        change.or(call(breaker, verdict, FAST, now))
    })
}

/// A breaker that has started to reject at `now`.
fn rejecting(now: Instant) -> Arc<Breaker> {
    let breaker = breaker();
    assert!(calls(&breaker, 20, Verdict::Failure, now).is_some());
    breaker
}

fn probe(breaker: &Arc<Breaker>, now: Instant) -> Probe {
    match breaker.admit(now) {
        Admission::Probe(probe) => probe,
        other => panic!("no probe but {other:?}"),
    }
}

fn rejects(breaker: &Arc<Breaker>, now: Instant) -> bool {
    let rejects = matches!(breaker.admit(now), Admission::Reject);
    assert_eq!(breaker.would_admit(now), !rejects);
    rejects
}

#[test]
fn half_of_twenty_is_too_much_and_nineteen_are_too_few() {
    let now = Instant::now();
    let breaker = breaker();
    assert_eq!(calls(&breaker, 19, Verdict::Failure, now), None);
    let change = call(&breaker, Verdict::Success, FAST, now).unwrap();
    let why = Trip::Failures { failed: 19, of: 20 };
    let hold = 5 * SECOND;
    assert_eq!(change, Change::Rejects { why, hold });
    assert_eq!(change.to_string(), "rejects for 5s: 19 of 20 calls failed");
    assert_eq!(breaker.last_trip(), Some(why));
}

#[test]
fn less_than_half_is_borne() {
    let now = Instant::now();
    let breaker = breaker();
    for _ in 0..100 {
        assert_eq!(call(&breaker, Verdict::Success, FAST, now), None);
        assert_eq!(call(&breaker, Verdict::Success, FAST, now), None);
        assert_eq!(call(&breaker, Verdict::Failure, FAST, now), None);
    }
    assert_eq!(breaker.state(now), State::Admit);
}

#[test]
fn slow_calls_are_too_much_even_if_they_succeed() {
    let now = Instant::now();
    let breaker = breaker();
    assert_eq!(calls(&breaker, 2, Verdict::Success, now), None);
    for _ in 0..17 {
        assert_eq!(call(&breaker, Verdict::Success, SECOND, now), None);
    }
    let change = call(&breaker, Verdict::Success, SECOND, now);
    let why = Trip::Slow { slow: 18, of: 20 };
    let hold = 5 * SECOND;
    assert_eq!(change, Some(Change::Rejects { why, hold }));
}

#[test]
fn callers_that_give_up_count_only_if_it_was_slow() {
    let now = Instant::now();
    let breaker = breaker();
    assert_eq!(calls(&breaker, 1000, Verdict::Neutral, now), None);
    for _ in 0..19 {
        assert_eq!(call(&breaker, Verdict::Neutral, SECOND, now), None);
    }
    let why = Trip::Slow { slow: 20, of: 20 };
    let hold = 5 * SECOND;
    assert_eq!(
        call(&breaker, Verdict::Neutral, SECOND, now),
        Some(Change::Rejects { why, hold })
    );
}

#[test]
fn the_window_slides() {
    let start = Instant::now();
    let breaker = breaker();
    assert_eq!(calls(&breaker, 19, Verdict::Failure, start), None);
    let later = start + 10 * SECOND;
    assert_eq!(calls(&breaker, 19, Verdict::Failure, later), None);
    assert!(call(&breaker, Verdict::Failure, FAST, later).is_some());
}

#[test]
fn nothing_passes_until_the_hold_is_over() {
    let start = Instant::now();
    let breaker = rejecting(start);
    let end = start + 5 * SECOND;
    assert!(rejects(&breaker, start));
    assert_eq!(breaker.opens_in(start + SECOND), 4 * SECOND);
    assert!(rejects(&breaker, end - Duration::from_nanos(1)));
    assert_eq!(breaker.state(end - FAST), State::Reject);
    assert_eq!(breaker.state(end), State::Probe);
    assert_eq!(breaker.opens_in(end), Duration::ZERO);
    assert!(breaker.would_admit(end));
    assert!(probe(&breaker, end).is_first());
}

#[test]
fn answered_probes_admit_and_empty_the_window() {
    let start = Instant::now();
    let breaker = rejecting(start);
    let later = start + 5 * SECOND;
    let probes: Vec<_> = (0..3).map(|_| probe(&breaker, later)).collect();
    assert!(rejects(&breaker, later));
    let mut changes = probes.into_iter().map(|probe| {
        let admission = Admission::Probe(probe);
        breaker.record(admission, Verdict::Success, FAST, later)
    });
    assert_eq!(changes.next(), Some(None));
    assert_eq!(changes.next(), Some(None));
    assert_eq!(changes.next(), Some(Some(Change::Admits)));
    assert_eq!(breaker.state(later), State::Admit);
    assert_eq!(calls(&breaker, 19, Verdict::Failure, later), None);
}

#[test]
fn the_hold_doubles_at_each_failed_probe_and_starts_anew_when_well() {
    let mut now = Instant::now();
    let breaker = rejecting(now);
    for hold in [5, 10, 20, 40, 60, 60].map(|seconds| seconds * SECOND) {
        assert_eq!(breaker.opens_in(now), hold);
        now += hold;
        let why = Trip::ProbeFailed;
        let Some(Change::Rejects { why: said, .. }) = call(&breaker, Verdict::Failure, FAST, now)
        else {
            panic!("a failed probe rejects");
        };
        assert_eq!(said, why);
    }
    now += 60 * SECOND;
    let change = calls(&breaker, 3, Verdict::Success, now);
    assert_eq!(change, Some(Change::Admits));
    calls(&breaker, 20, Verdict::Failure, now);
    assert_eq!(breaker.opens_in(now), 5 * SECOND);
}

#[test]
fn slow_probes_reject_like_slow_calls() {
    let start = Instant::now();
    let breaker = rejecting(start);
    let later = start + 5 * SECOND;
    for _ in 0..2 {
        assert_eq!(call(&breaker, Verdict::Success, SECOND, later), None);
    }
    let change = call(&breaker, Verdict::Neutral, SECOND, later);
    let (why, hold) = (Trip::ProbesSlow, 10 * SECOND);
    assert_eq!(change, Some(Change::Rejects { why, hold }));
}

#[test]
fn a_dropped_or_silent_probe_gives_its_place_back() {
    let start = Instant::now();
    let breaker = rejecting(start);
    let later = start + 5 * SECOND;
    let mut probes: Vec<_> = (0..3).map(|_| probe(&breaker, later)).collect();
    assert!(rejects(&breaker, later));
    probes.pop();
    assert!(!rejects(&breaker, later));
    let silent = Admission::Probe(probes.pop().unwrap());
    assert_eq!(breaker.record(silent, Verdict::Neutral, FAST, later), None);
    let _two = (probe(&breaker, later), probe(&breaker, later));
    assert!(rejects(&breaker, later));
}

#[test]
fn results_of_an_earlier_state_say_nothing() {
    let start = Instant::now();
    let breaker = breaker();
    let mut late: Vec<_> = (0..40).map(|_| breaker.admit(start)).collect();
    calls(&breaker, 20, Verdict::Failure, start);
    let mut fail_late = |now| {
        let admission = late.pop().unwrap();
        breaker.record(admission, Verdict::Failure, FAST, now)
    };
    assert_eq!(fail_late(start), None);
    assert_eq!(breaker.opens_in(start), 5 * SECOND);
    let later = start + 5 * SECOND;
    let overdue = probe(&breaker, later);
    assert_eq!(fail_late(later), None);
    call(&breaker, Verdict::Failure, FAST, later);
    let again = later + 10 * SECOND;
    calls(&breaker, 3, Verdict::Success, again);
    assert_eq!(breaker.state(again), State::Admit);
    let overdue = Admission::Probe(overdue);
    assert_eq!(breaker.record(overdue, Verdict::Failure, FAST, again), None);
    for _ in 0..30 {
        assert_eq!(fail_late(again), None);
    }
    assert_eq!(breaker.state(again), State::Admit);
}

#[test]
fn probes_of_an_earlier_round_neither_count_nor_free_a_place() {
    let start = Instant::now();
    let breaker = rejecting(start);
    let later = start + 5 * SECOND;
    let [failed, overdue, dropped] = [(); 3].map(|()| probe(&breaker, later));
    let failed = Admission::Probe(failed);
    let change = breaker.record(failed, Verdict::Failure, FAST, later);
    assert!(change.is_some());
    let again = later + 10 * SECOND;
    let _places = [(); 3].map(|()| probe(&breaker, again));
    drop(dropped);
    let overdue = Admission::Probe(overdue);
    assert_eq!(breaker.record(overdue, Verdict::Failure, FAST, again), None);
    assert_eq!(breaker.state(again), State::Probe);
    assert!(rejects(&breaker, again));
}

#[test]
fn other_settings_keep_the_state_and_let_probing_start_over() {
    let start = Instant::now();
    let breaker = rejecting(start);
    let fewer = Settings {
        probes: NonZeroU32::new(1).unwrap(),
        ..settings()
    };
    breaker.set(fewer);
    assert_eq!(breaker.opens_in(start), 5 * SECOND);
    let later = start + 5 * SECOND;
    breaker.set(settings());
    call(&breaker, Verdict::Success, FAST, later);
    let overdue = probe(&breaker, later);
    breaker.set(fewer);
    let change = call(&breaker, Verdict::Success, FAST, later);
    assert_eq!(change, Some(Change::Admits));
    drop(overdue);
    assert_eq!(breaker.state(later), State::Admit);
}

#[test]
fn what_is_forgotten_admits() {
    let start = Instant::now();
    let breaker = rejecting(start);
    breaker.forget();
    assert_eq!(breaker.state(start), State::Admit);
    assert_eq!(breaker.last_trip(), None);
    assert_eq!(calls(&breaker, 19, Verdict::Failure, start), None);
}
