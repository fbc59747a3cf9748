#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

const PICKS: usize = 60_000;

/// Endpoints that answer what the test set.
struct Fixed {
    in_flight: Vec<usize>,
    cost: Vec<f64>,
    excluded: Vec<bool>,
}

impl Candidates for Fixed {
    fn in_flight(&self, index: usize) -> usize {
        self.in_flight[index]
    }
    fn cost(&self, index: usize) -> f64 {
        self.cost[index]
    }
    fn excluded(&self, index: usize) -> bool {
        self.excluded[index]
    }
}

fn alike(count: usize) -> Fixed {
    Fixed {
        in_flight: vec![0; count],
        cost: vec![1.0; count],
        excluded: vec![false; count],
    }
}

/// How often each index was picked.
fn count(policy: BalancingPolicy, weights: &[u32], candidates: &Fixed) -> Vec<usize> {
    let picker = Picker::new(policy, weights);
    let (mut random, mut turn) = (fastrand::Rng::with_seed(11), 0);
    let mut counts = vec![0; weights.len()];
    for _ in 0..PICKS {
        let index = picker.pick(candidates, &mut random, || {
            turn += 1;
            turn - 1
        });
        counts[index.expect("somebody is usable")] += 1;
    }
    counts
}

/// Every share within four standard deviations of what the weights ask for.
fn assert_shares(counts: &[usize], weights: &[u32], what: BalancingPolicy) {
    let total: u32 = weights.iter().sum();
    for (index, (count, weight)) in counts.iter().zip(weights).enumerate() {
        let share = f64::from(*weight) / f64::from(total);
        let expected = share * PICKS as f64;
        let deviation = (expected * (1.0 - share)).sqrt();
        let off = (*count as f64 - expected).abs();
        assert!(
            off <= 4.0 * deviation,
            "{what:?}, {index}: {count} of {PICKS}, {expected} expected"
        );
    }
}

const ALL: [BalancingPolicy; 4] = [
    BalancingPolicy::P2c,
    BalancingPolicy::RoundRobin,
    BalancingPolicy::Random,
    BalancingPolicy::LeastRequest,
];

#[test]
fn shares_follow_the_weights_while_all_are_alike() {
    for policy in ALL {
        for weights in [
            &[1, 1, 1][..],
            &[1, 2, 3],
            &[5, 1],
            &[1; 20],
            &[10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        ] {
            assert_shares(
                &count(policy, weights, &alike(weights.len())),
                weights,
                policy,
            );
        }
    }
}

#[test]
fn round_robin_gives_everyone_exactly_their_turns() {
    assert_eq!(
        count(BalancingPolicy::RoundRobin, &[1, 1, 1], &alike(3)),
        [PICKS / 3; 3]
    );
    for (counted, turns) in count(BalancingPolicy::RoundRobin, &[3, 1, 2], &alike(3))
        .iter()
        .zip([3, 1, 2])
    {
        assert!(counted.abs_diff(turns * PICKS / 6) <= 1, "{counted}");
    }
}

#[test]
fn excluded_endpoints_get_nothing_and_the_others_share() {
    for policy in ALL {
        let mut candidates = alike(4);
        candidates.excluded[1] = true;
        candidates.excluded[2] = true;
        let counts = count(policy, &[1, 7, 1, 1], &candidates);
        assert_eq!((counts[1], counts[2]), (0, 0), "{policy:?}");
        assert!(
            counts[0].abs_diff(counts[3]) < PICKS / 50,
            "{policy:?}: {counts:?}"
        );
    }
}

#[test]
fn nobody_is_picked_when_nobody_is_usable() {
    for policy in ALL {
        for size in [0, 1, 3, 40] {
            let mut candidates = alike(size);
            candidates.excluded.fill(true);
            let picker = Picker::new(policy, &vec![1; size]);
            assert_eq!(
                picker.pick(&candidates, &mut fastrand::Rng::with_seed(1), || 0),
                None,
                "{policy:?} of {size}"
            );
        }
    }
}

#[test]
fn the_last_usable_one_of_a_thousand_is_found() {
    for policy in ALL {
        let mut candidates = alike(1000);
        candidates.excluded.fill(true);
        candidates.excluded[617] = false;
        let picker = Picker::new(policy, &[1; 1000]);
        assert_eq!(
            picker.pick(&candidates, &mut fastrand::Rng::with_seed(3), || 0),
            Some(617),
            "{policy:?}"
        );
    }
}

#[test]
fn p2c_keeps_away_from_the_slow_one() {
    let mut candidates = alike(10);
    candidates.cost[3] = 10.0;
    let counts = count(BalancingPolicy::P2c, &[1; 10], &candidates);
    assert_eq!(counts[3], 0);
    candidates.cost[3] = 1.2;
    let counts = count(BalancingPolicy::P2c, &[1; 10], &candidates);
    assert!(counts[3] > PICKS / 12, "noise decides: {counts:?}");
}

#[test]
fn least_request_prefers_the_idle_one() {
    let mut candidates = alike(5);
    candidates.in_flight = vec![4, 3, 0, 3, 4];
    assert_eq!(
        count(BalancingPolicy::LeastRequest, &[1; 5], &candidates)[2],
        PICKS
    );
    // Weight 4 with four in flight is no busier than weight 1 with one.
    candidates.in_flight = vec![4, 2, 2, 2, 2];
    assert_eq!(
        count(BalancingPolicy::LeastRequest, &[4, 1, 1, 1, 1], &candidates)[0],
        PICKS
    );
}

#[test]
fn a_pick_among_many_looks_at_few() {
    struct Counting(std::cell::Cell<usize>);
    impl Candidates for Counting {
        fn in_flight(&self, _: usize) -> usize {
            self.0.set(self.0.get() + 1);
            0
        }
        fn cost(&self, _: usize) -> f64 {
            self.0.set(self.0.get() + 1);
            1.0
        }
        fn excluded(&self, _: usize) -> bool {
            self.0.set(self.0.get() + 1);
            false
        }
    }
    for policy in ALL {
        let candidates = Counting(std::cell::Cell::new(0));
        let weights: Vec<u32> = (1..=1000).map(|index| index % 3 + 1).collect();
        let (picker, mut random, mut turn) = (
            Picker::new(policy, &weights),
            fastrand::Rng::with_seed(5),
            0,
        );
        for _ in 0..1000 {
            picker.pick(&candidates, &mut random, || {
                turn += 1;
                turn
            });
        }
        let looks = candidates.0.get() / 1000;
        assert!(looks <= 32, "{policy:?} looks at {looks} of 1000");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_is_picked_is_not_excluded(
        endpoints in proptest::collection::vec((1u32..1000, 0usize..9, 0.0f64..1e9, proptest::bool::ANY), 1..30),
        seed: u64,
        turn: u32,
    ) {
        let weights: Vec<_> = endpoints.iter().map(|endpoint| endpoint.0).collect();
        let candidates = Fixed {
            in_flight: endpoints.iter().map(|endpoint| endpoint.1).collect(),
            cost: endpoints.iter().map(|endpoint| endpoint.2).collect(),
            excluded: endpoints.iter().map(|endpoint| endpoint.3).collect(),
        };
        let nobody = candidates.excluded.iter().all(|excluded| *excluded);
        for policy in ALL {
            let mut turns = u64::from(turn);
            let picked = Picker::new(policy, &weights).pick(&candidates, &mut fastrand::Rng::with_seed(seed), || {
                turns += 1;
                turns
            });
            match picked {
                Some(index) => proptest::prop_assert!(!candidates.excluded[index]),
                None => proptest::prop_assert!(nobody),
            }
        }
    }
}
