//! Statistics of ring and maglev: shares, stickiness, what moves when endpoints change, and that no bound is exceeded.

#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use super::*;
use crate::bound::{Bound, UNBOUND};
use crate::hash;
use crate::pick::{Candidates, Picker};

const KEYS: u64 = 50_000;

fn members(names: &[u32], weight: impl Fn(u32) -> f64) -> Vec<(u64, f64)> {
    let member = |name: &u32| {
        let address = format!("10.0.{}.{}:50051", name / 250, name % 250);
        (hash::point(address.as_bytes()), weight(*name))
    };
    names.iter().map(member).collect()
}

fn tables(members: &[(u64, f64)]) -> [(&'static str, Table); 2] {
    [
        ("ring", Table::Ring(Ring::new(members, 512))),
        ("maglev", Table::Maglev(Maglev::new(members, Maglev::SIZE))),
    ]
}

fn keys() -> impl Iterator<Item = u64> {
    (0..KEYS).map(|n| hash::point(format!("user-{n}").as_bytes()))
}

/// The owner of each key, by its name.
fn owners(table: &Table, names: &[u32]) -> Vec<u32> {
    keys()
        .map(|key| names[table.walk(key).next().unwrap()])
        .collect()
}

#[test]
fn keys_are_shared_out_by_weight() {
    for weights in [&[1.0; 3][..], &[1.0; 10], &[1.0, 2.0, 3.0], &[5.0, 1.0]] {
        let names: Vec<u32> = (0..weights.len() as u32).collect();
        let members = members(&names, |name| weights[name as usize]);
        for (what, table) in tables(&members) {
            let owners = owners(&table, &names);
            let total: f64 = weights.iter().sum();
            for (name, weight) in names.iter().zip(weights) {
                let count = owners.iter().filter(|owner| *owner == name).count();
                let off = count as f64 / KEYS as f64 / (weight / total) - 1.0;
                // A ring of 512 points each is off by 1/sqrt(512) of a share as its standard deviation.
                assert!(
                    off.abs() < 0.15,
                    "{what} {weights:?}: {name} is off by {off:.3}"
                );
            }
        }
    }
}

#[test]
fn only_the_keys_of_an_endpoint_that_leaves_move() {
    for count in [3, 10, 100] {
        let names: Vec<u32> = (0..count).collect();
        let left: Vec<u32> = names.iter().copied().filter(|name| *name != 1).collect();
        let before = tables(&members(&names, |_| 1.0));
        let after = tables(&members(&left, |_| 1.0));
        for ((what, before), (_, after)) in before.into_iter().zip(after) {
            let (before, after) = (owners(&before, &names), owners(&after, &left));
            let pairs = before.iter().zip(&after);
            let moved = pairs.clone().filter(|(before, after)| before != after);
            let needless = moved.clone().filter(|(before, _)| **before != 1).count();
            let share = moved.count() as f64 / KEYS as f64;
            let fair = 1.0 / f64::from(count);
            assert!(share > fair * 0.8, "{what} of {count}: {share}");
            match what {
                "ring" => {
                    assert_eq!(needless, 0, "a key moved that was not concerned");
                    assert!(share < fair * 1.25, "{what} of {count}: {share}");
                }
                _ => assert!(share < fair + 0.05, "{what} of {count}: {share}"),
            }
        }
    }
}

#[test]
fn what_leaves_is_spread_over_the_others() {
    let names: Vec<u32> = (0..10).collect();
    for (what, table) in tables(&members(&names, |_| 1.0)) {
        let orphans = keys().filter(|key| table.walk(*key).next() == Some(4));
        let mut counts = [0; 10];
        for key in orphans {
            counts[table.walk(key).find(|owner| *owner != 4).unwrap()] += 1;
        }
        let total: usize = counts.iter().sum();
        let most = counts.iter().max().unwrap();
        assert!(*most < total / 3, "{what}: {counts:?}");
    }
}

/// Endpoints that hold what they get.
struct Holding(Vec<usize>, Vec<bool>);

impl Candidates for Holding {
    fn in_flight(&self, index: usize) -> usize {
        self.0[index]
    }
    fn cost(&self, _: usize) -> f64 {
        1.0
    }
    fn excluded(&self, index: usize) -> bool {
        self.1[index]
    }
    fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

fn picker(table: Table, weights: &[u32]) -> Picker {
    let places = (0..weights.len() as u32).map(Some);
    Picker::hashed(Arc::new(table), places, Some(1.25), weights)
}

#[test]
fn a_bound_is_never_exceeded_however_hot_a_key_is() {
    let weights = [1, 1, 2, 4, 1, 1];
    let names: Vec<u32> = (0..6).collect();
    for (what, table) in tables(&members(&names, |name| f64::from(weights[name as usize]))) {
        let picker = picker(table, &weights);
        let mut holding = Holding(vec![0; 6], vec![false; 6]);
        let mut random = fastrand::Rng::with_seed(2);
        let bound = Bound::new(1.25, 10.0);
        for n in 0..2000 {
            // Most requests have the same key.
            let key = if random.u8(..10) < 8 {
                7
            } else {
                hash::nth(1, n)
            };
            let total = holding.total();
            let index = picker.pick(&holding, &mut random, || 0, Some(key)).unwrap();
            holding.0[index] += 1;
            let most = bound.most(f64::from(weights[index]), total);
            assert!(holding.0[index] <= most, "{what}: {:?}", holding.0);
        }
        let fair = 2000.0 * 4.0 / 10.0;
        assert!(
            (holding.0[3] as f64) <= 1.25 * fair + 1.0,
            "{what}: {:?}",
            holding.0
        );
    }
}

#[test]
fn a_few_requests_of_one_key_stay_together_and_come_back() {
    let names: Vec<u32> = (0..20).collect();
    for (what, table) in tables(&members(&names, |_| 1.0)) {
        let picker = picker(table, &[1; 20]);
        let mut holding = Holding(vec![0; 20], vec![false; 20]);
        let mut random = fastrand::Rng::with_seed(2);
        let mut pick = |holding: &Holding| {
            let key = hash::point(b"alice");
            picker.pick(holding, &mut random, || 0, Some(key)).unwrap()
        };
        let home = pick(&holding);
        for _ in 0..UNBOUND {
            assert_eq!(pick(&holding), home, "{what}");
            holding.0[home] += 1;
        }
        assert_ne!(pick(&holding), home, "{what}: one more is too many");
        holding.0[home] -= 1;
        assert_eq!(pick(&holding), home, "{what}");
    }
}

#[test]
fn a_further_try_goes_to_the_next_on_the_table_and_always_the_same() {
    let names: Vec<u32> = (0..5).collect();
    for (what, table) in tables(&members(&names, |_| 1.0)) {
        let mut order = Vec::new();
        let key = hash::point(b"bob");
        for owner in table.walk(key) {
            if !order.contains(&owner) {
                order.push(owner);
            }
        }
        assert_eq!(order.len(), 5, "{what}: everybody comes in the end");
        let picker = picker(table, &[1; 5]);
        let mut holding = Holding(vec![0; 5], vec![false; 5]);
        let mut random = fastrand::Rng::with_seed(2);
        for expected in order {
            let index = picker.pick(&holding, &mut random, || 0, Some(key)).unwrap();
            assert_eq!(index, expected, "{what}");
            holding.1[index] = true;
        }
        assert_eq!(picker.pick(&holding, &mut random, || 0, Some(key)), None);
    }
}

/// Endpoint 2 is new: a part of its keys has moved over.
struct Growing(f64);

impl Candidates for Growing {
    fn in_flight(&self, _: usize) -> usize {
        0
    }
    fn cost(&self, _: usize) -> f64 {
        1.0
    }
    fn excluded(&self, _: usize) -> bool {
        false
    }
    fn grows(&self) -> bool {
        true
    }
    fn part(&self, index: usize) -> f64 {
        if index == 2 { self.0 } else { 1.0 }
    }
}

#[test]
fn keys_move_over_to_a_new_endpoint_once_each() {
    let names: Vec<u32> = (0..4).collect();
    for (what, table) in tables(&members(&names, |_| 1.0)) {
        let picker = picker(table, &[1; 4]);
        let mut random = fastrand::Rng::with_seed(2);
        let mut before = Vec::new();
        for tenth in 1..=10 {
            let part = f64::from(tenth) / 10.0;
            let growing = Growing(part);
            let now: Vec<usize> = keys()
                .map(|key| picker.pick(&growing, &mut random, || 0, Some(key)).unwrap())
                .collect();
            let share = now.iter().filter(|index| **index == 2).count() as f64 / KEYS as f64;
            assert!(
                (share / (0.25 * part) - 1.0).abs() < 0.2,
                "{what}: {share} at {part}"
            );
            let gone = |(before, now): (&usize, &usize)| before != now && *now != 2;
            assert!(
                !before.iter().zip(&now).any(gone),
                "{what}: a key moved elsewhere"
            );
            before = now;
        }
    }
}
