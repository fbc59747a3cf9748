#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::maglev::Maglev;
use crate::ring::Ring;

const PICKS: usize = 60_000;

/// Endpoints that answer what the test set.
struct Fixed {
    in_flight: Vec<usize>,
    cost: Vec<f64>,
    excluded: Vec<bool>,
    /// Empty: nobody's weight grows.
    part: Vec<f64>,
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
    fn grows(&self) -> bool {
        !self.part.is_empty()
    }
    fn part(&self, index: usize) -> f64 {
        self.part[index]
    }
    fn total(&self) -> usize {
        self.in_flight.iter().sum()
    }
}

fn alike(count: usize) -> Fixed {
    Fixed {
        in_flight: vec![0; count],
        cost: vec![1.0; count],
        excluded: vec![false; count],
        part: Vec::new(),
    }
}

/// How often each index was picked.
fn count(policy: Policy, weights: &[u32], candidates: &Fixed) -> Vec<usize> {
    let picker = Picker::new(policy, weights);
    let (mut random, mut turn) = (fastrand::Rng::with_seed(11), 0);
    let mut counts = vec![0; weights.len()];
    for _ in 0..PICKS {
        let next = || {
            turn += 1;
            turn - 1
        };
        let index = picker.pick(candidates, &mut random, next, None);
        counts[index.expect("somebody is usable")] += 1;
    }
    counts
}

/// Every share within four standard deviations of what the weights ask for.
fn assert_shares(counts: &[usize], weights: &[u32], what: Policy) {
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

const ALL: [Policy; 4] = [
    Policy::P2c,
    Policy::RoundRobin,
    Policy::Random,
    Policy::LeastRequest,
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
        count(Policy::RoundRobin, &[1, 1, 1], &alike(3)),
        [PICKS / 3; 3]
    );
    for (counted, turns) in count(Policy::RoundRobin, &[3, 1, 2], &alike(3))
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
                picker.pick(&candidates, &mut fastrand::Rng::with_seed(1), || 0, None),
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
            picker.pick(&candidates, &mut fastrand::Rng::with_seed(3), || 0, None),
            Some(617),
            "{policy:?}"
        );
    }
}

#[test]
fn p2c_keeps_away_from_the_slow_one() {
    let mut candidates = alike(10);
    candidates.cost[3] = 10.0;
    let counts = count(Policy::P2c, &[1; 10], &candidates);
    assert_eq!(counts[3], 0);
    candidates.cost[3] = 1.2;
    let counts = count(Policy::P2c, &[1; 10], &candidates);
    assert!(counts[3] > PICKS / 12, "noise decides: {counts:?}");
}

#[test]
fn least_request_prefers_the_idle_one() {
    let mut candidates = alike(5);
    candidates.in_flight = vec![4, 3, 0, 3, 4];
    assert_eq!(count(Policy::LeastRequest, &[1; 5], &candidates)[2], PICKS);
    // Weight 4 with four in flight is no busier than weight 1 with one.
    candidates.in_flight = vec![4, 2, 2, 2, 2];
    assert_eq!(
        count(Policy::LeastRequest, &[4, 1, 1, 1, 1], &candidates)[0],
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
    let weights: Vec<u32> = (1..=1000).map(|index| index % 3 + 1).collect();
    for picker in pickers(&weights) {
        let candidates = Counting(std::cell::Cell::new(0));
        let (mut random, mut turn) = (fastrand::Rng::with_seed(5), 0);
        for _ in 0..1000 {
            let next = || {
                turn += 1;
                turn
            };
            picker.pick(&candidates, &mut random, next, None);
        }
        let looks = candidates.0.get() / 1000;
        assert!(looks <= 32, "{looks} looks at 1000 endpoints");
    }
}

#[test]
fn whatever_is_picked_is_not_excluded() {
    let mut random = fastrand::Rng::with_seed(23);
    for _ in 0..100 {
        let size = random.usize(1..30);
        let candidates = Fixed {
            in_flight: (0..size).map(|_| random.usize(..9)).collect(),
            cost: (0..size).map(|_| random.f64() * 1e9).collect(),
            excluded: (0..size).map(|_| random.bool()).collect(),
            ..alike(size)
        };
        let weights: Vec<u32> = (0..size).map(|_| random.u32(1..1000)).collect();
        let nobody = candidates.excluded.iter().all(|excluded| *excluded);
        for picker in pickers(&weights) {
            let mut turns = random.u64(..1 << 32);
            let next = || {
                turns += 1;
                turns
            };
            match picker.pick(&candidates, &mut random, next, None) {
                Some(index) => assert!(!candidates.excluded[index]),
                None => assert!(nobody),
            }
        }
    }
}

/// A picker for each way to pick, the tables with a bound.
fn pickers(weights: &[u32]) -> Vec<Picker> {
    let competing = ALL.map(|policy| Picker::new(policy, weights));
    let tables = [ring(weights), maglev(weights)].map(|table| {
        let places = (0..weights.len() as u32).map(Some);
        Picker::hashed(Arc::new(table), places, Some(1.25), weights)
    });
    competing.into_iter().chain(tables).collect()
}

fn members(weights: &[u32]) -> Vec<(u64, f64)> {
    let seeds = (0..).map(|n| hash::point(format!("10.0.0.{n}:80").as_bytes()));
    let weights = weights.iter().map(|weight| f64::from(*weight));
    seeds.zip(weights).collect()
}

fn ring(weights: &[u32]) -> Table {
    Table::Ring(Ring::new(&members(weights), 512))
}

fn maglev(weights: &[u32]) -> Table {
    Table::Maglev(Maglev::new(&members(weights), Maglev::SIZE))
}

#[test]
fn shares_are_distributed_as_chance_would_have_it() {
    // Chi-square: `random` is as likely as not above its mean, and a value beyond the 99.9% quantile is no chance.
    let degrees = 9.0;
    let quantile = 27.88;
    let expected = PICKS as f64 / (degrees + 1.0);
    for policy in [Policy::Random, Policy::P2c, Policy::LeastRequest] {
        let counts = count(policy, &[1; 10], &alike(10));
        let square = |count: &usize| (*count as f64 - expected).powi(2) / expected;
        let chi: f64 = counts.iter().map(square).sum();
        assert!(chi < quantile, "{policy:?}: {chi} from {counts:?}");
    }
}

#[test]
fn a_growing_weight_is_a_smaller_weight() {
    for policy in [Policy::Random, Policy::RoundRobin] {
        let mut candidates = alike(4);
        candidates.part = vec![1.0, 1.0, 0.1, 0.5];
        let counts = count(policy, &[1, 1, 2, 2], &candidates);
        let total = 1.0 + 1.0 + 0.2 + 1.0;
        for (count, weight) in counts.iter().zip([1.0, 1.0, 0.2, 1.0]) {
            let expected = PICKS as f64 * weight / total;
            let off = (*count as f64 - expected).abs() / expected;
            assert!(off < 0.07, "{policy:?}: {counts:?}, {expected} expected");
        }
    }
}

#[test]
fn a_new_endpoint_is_not_rushed_by_those_that_compare_load() {
    for policy in [Policy::LeastRequest, Policy::P2c] {
        let mut candidates = alike(5);
        candidates.in_flight = vec![3, 3, 3, 3, 0];
        candidates.cost = vec![4.0, 4.0, 4.0, 4.0, 1.0];
        candidates.part = vec![1.0, 1.0, 1.0, 1.0, 0.1];
        let counts = count(policy, &[1; 5], &candidates);
        assert!(counts[4] < PICKS / 15, "{policy:?}: {counts:?}");
        assert!(counts[4] > 0, "{policy:?} starves it");
    }
}
