#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const TERMS: Terms = Terms {
    max_error_ratio_over: Some(0.02),
    max_p99_over: Some(0.5),
    min_requests: 200,
};

fn feed(judge: &Judge, side: Side, requests: u32, failures: u32, latency: Duration) {
    (0..requests).for_each(|n| judge.record(side, n < failures, latency));
}

#[test]
fn too_few_of_either_side_is_no_verdict() {
    let judge = Judge::new(TERMS);
    feed(&judge, Side::Canary, 199, 199, MS);
    feed(&judge, Side::Sibling, 5000, 0, MS);
    let too_few = |canary, sibling| Verdict::TooFew { canary, sibling };
    assert_eq!(judge.verdict(), too_few(199, 5000));
    judge.record(Side::Canary, true, MS);
    assert!(matches!(judge.verdict(), Verdict::Worse(_)));

    let judge = Judge::new(TERMS);
    feed(&judge, Side::Canary, 5000, 5000, MS);
    assert_eq!(judge.verdict(), too_few(5000, 0));
}

#[test]
fn the_margin_is_above_the_siblings_ratio() {
    let verdict = |failures| {
        let judge = Judge::new(TERMS);
        feed(&judge, Side::Sibling, 1000, 30, MS); // 3 %
        feed(&judge, Side::Canary, 200, failures, MS);
        judge.verdict()
    };
    assert_eq!(verdict(10), Verdict::Fine, "5 % is not beyond 3 % + 2 %");
    let Verdict::Worse(why) = verdict(11) else {
        panic!("5.5 % is beyond");
    };
    assert_eq!(
        why.to_string(),
        "5.5% of 200 requests failed, 3.0% of its siblings' (margin 2.0%)"
    );
}

#[test]
fn half_as_slow_again_is_the_margin_of_the_p99() {
    let verdict = |canary: Duration| {
        let judge = Judge::new(TERMS);
        feed(&judge, Side::Sibling, 1000, 0, 100 * MS);
        feed(&judge, Side::Canary, 195, 0, MS);
        feed(&judge, Side::Canary, 5, 0, canary);
        judge.verdict()
    };
    assert_eq!(verdict(140 * MS), Verdict::Fine);
    assert!(matches!(
        verdict(170 * MS),
        Verdict::Worse(Why::Latency { .. })
    ));
}

#[test]
fn what_scheduling_alone_makes_is_no_difference() {
    let verdict = |canary: Duration| {
        let judge = Judge::new(TERMS);
        feed(&judge, Side::Sibling, 1000, 0, MS / 2);
        feed(&judge, Side::Canary, 200, 0, canary);
        judge.verdict()
    };
    assert_eq!(
        verdict(2 * MS),
        Verdict::Fine,
        "four times as slow, by 1.5 ms"
    );
    assert!(matches!(verdict(4 * MS), Verdict::Worse(_)));
}

#[test]
fn what_is_not_asked_is_not_judged() {
    let judge = Judge::new(Terms {
        max_error_ratio_over: None,
        ..TERMS
    });
    feed(&judge, Side::Sibling, 200, 0, MS);
    feed(&judge, Side::Canary, 200, 200, MS);
    assert_eq!(judge.verdict(), Verdict::Fine);
}

#[test]
fn a_canary_that_turns_bad_late_is_found_within_a_round() {
    let judge = Judge::new(TERMS);
    for _ in 0..10 {
        feed(&judge, Side::Sibling, 1000, 0, MS);
        feed(&judge, Side::Canary, 200, 0, MS);
        assert_eq!(judge.verdict(), Verdict::Fine);
    }
    feed(&judge, Side::Sibling, 1000, 0, MS);
    feed(&judge, Side::Canary, 20, 20, MS);
    let verdict = judge.verdict();
    assert!(
        matches!(verdict, Verdict::Worse(_)),
        "20 of 220: {verdict:?}"
    );
    judge.forget();
    let nothing = Verdict::TooFew {
        canary: 0,
        sibling: 0,
    };
    assert_eq!(judge.verdict(), nothing);
}

proptest! {
    /// A canary that does as its sibling does is never taken back, whatever they do.
    #[test]
    fn a_canary_like_its_sibling_is_fine(
        requests in prop::collection::vec((any::<bool>(), 0u64..2000), 200..600),
        asked_every in 1usize..300,
    ) {
        let judge = Judge::new(TERMS);
        for (n, (failed, millis)) in requests.into_iter().enumerate() {
            let latency = Duration::from_millis(millis);
            judge.record(Side::Canary, failed, latency);
            judge.record(Side::Sibling, failed, latency);
            if n % asked_every == 0 {
                prop_assert!(!matches!(judge.verdict(), Verdict::Worse(_)));
            }
        }
    }
}
