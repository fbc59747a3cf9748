//! What an update of the catalogue means for a cluster, pure: who takes traffic, who does not and why, and who has vanished so
//! suddenly that the catalogue is not believed for a while.
//!
//! An update in which instances vanish unexplained (they were neither critical nor in maintenance before) and less than the
//! panic threshold of those known would remain is held back: who vanished stays for [`HOLD`], unless it refuses connections.
//! An empty list that rights explain takes nobody out at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::{Address, Labels};
use tokio::time::Instant;

/// How long who has vanished unexplained is held.
pub(crate) const HOLD: Duration = Duration::from_secs(10);

/// What is known of an instance beside its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) weight: u32,
    pub(crate) labels: Arc<Labels>,
}

/// An instance as an update has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) known: Known,
    /// Why it gets no traffic.
    pub(crate) out: Option<Out>,
}

/// Why an instance gets no traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) why: String,
    /// Somebody wants it so: not even a panic sends anything.
    pub(crate) on_purpose: bool,
}

/// The instances of an update, by address.
pub(crate) type List = BTreeMap<Address, Listed>;

/// One whose update is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    known: Known,
    /// `None`: until there is a list that can be believed.
    until: Option<Instant>,
}

/// The instances of a cluster, as far as they are believed.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    list: List,
    held: BTreeMap<Address, Held>,
}

/// What an update did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Addresses that are held from now on.
    pub(crate) held: Vec<Address>,
    /// How many usable ones the update would have left, of how many.
    pub(crate) left: (usize, usize),
}

impl Holding {
    /// Takes an update. `believed`: an empty list is one, not a lack of rights.
    pub(crate) fn update(
        &mut self,
        list: List,
        believed: bool,
        threshold: f64,
        now: Instant,
    ) -> Outcome {
        let known: BTreeMap<Address, Known> = self
            .usable()
            .map(|(address, known)| (address.clone(), known.clone()))
            .collect();
        let vanished: Vec<&Address> = known
            .keys()
            .filter(|address| !list.contains_key(*address))
            .collect();
        let stays = |address: &&Address| list.get(*address).is_some_and(|one| one.out.is_none());
        let left = known.keys().filter(stays).count();
        let rights = list.is_empty() && !believed;
        let too_few = (left as f64) < threshold * known.len() as f64;
        // The last of all is not given up at once, whatever the threshold.
        let holds = rights || !vanished.is_empty() && (too_few || list.is_empty());
        let until = (!rights).then_some(now + HOLD);
        let mut outcome = Outcome {
            held: Vec::new(),
            left: (left, known.len()),
        };
        let mut held = BTreeMap::new();
        for address in vanished {
            let Some(known) = known.get(address).cloned() else {
                continue;
            };
            match self.held.get(address) {
                // Held already: for as long as was said, and from a list without rights on for as long as it takes.
                Some(before) => {
                    let until = match before.until {
                        Some(end) if !rights => Some(end),
                        _ => until,
                    };
                    held.insert(address.clone(), Held { known, until });
                }
                None if holds => {
                    outcome.held.push(address.clone());
                    held.insert(address.clone(), Held { known, until });
                }
                None => {}
            }
        }
        self.list = list;
        self.held = held;
        outcome
    }

    /// Those that get traffic, by address.
    pub(crate) fn usable(&self) -> impl Iterator<Item = (&Address, &Known)> {
        let listed = self.list.iter().filter(|(_, one)| one.out.is_none());
        let listed = listed.map(|(address, one)| (address, &one.known));
        let held = self.held.iter().map(|(address, one)| (address, &one.known));
        let all: BTreeMap<&Address, &Known> = listed.chain(held).collect();
        all.into_iter()
    }

    /// Those that get none, and why.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&Address, &Known, &Out)> {
        self.list
            .iter()
            .filter_map(|(address, one)| Some((address, &one.known, one.out.as_ref()?)))
    }

    pub(crate) fn is_held(&self, address: &Address) -> bool {
        self.held.contains_key(address)
    }

    /// Until when the address is held; `None`: it is not, or for as long as it takes.
    pub(crate) fn held_until(&self, address: &Address) -> Option<Instant> {
        self.held.get(address)?.until
    }

    /// When the next hold ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.held.values().filter_map(|one| one.until).min()
    }

    /// Gives up those whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Address> {
        self.give_up(|_, held| held.until.is_some_and(|end| end <= now))
    }

    /// Gives up those that refuse connections.
    pub(crate) fn refused(&mut self, refusing: &BTreeSet<Address>) -> Vec<Address> {
        self.give_up(|address, _| refusing.contains(address))
    }

    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    fn give_up(&mut self, over: impl Fn(&Address, &Held) -> bool) -> Vec<Address> {
        let gone: Vec<Address> = self
            .held
            .iter()
            .filter(|(address, held)| over(address, held))
            .map(|(address, _)| address.clone())
            .collect();
        for address in &gone {
            self.held.remove(address);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn at(port: u16) -> Address {
        Address::parse(&format!("10.0.0.1:{port}")).unwrap()
    }

    fn list(passing: &[u16], critical: &[u16]) -> List {
        let one = |out: Option<&str>| Listed {
            known: Known {
                weight: 1,
                labels: Arc::default(),
            },
            out: out.map(|why| Out {
                why: why.to_owned(),
                on_purpose: false,
            }),
        };
        let passing = passing.iter().map(|port| (at(*port), one(None)));
        let critical = critical
            .iter()
            .map(|port| (at(*port), one(Some("critical"))));
        passing.chain(critical).collect()
    }

    fn usable(holding: &Holding) -> Vec<u16> {
        holding
            .usable()
            .map(|(address, _)| address.port())
            .collect()
    }

    fn after(updates: &[List]) -> Holding {
        let mut holding = Holding::default();
        for update in updates {
            holding.update(update.clone(), true, 0.5, Instant::now());
        }
        holding
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_may_go_and_many_at_once_are_held() {
        let few = after(&[list(&[1, 2, 3], &[]), list(&[1, 2], &[])]);
        assert_eq!((usable(&few), few.holds_any()), (vec![1, 2], false));
        let half = after(&[list(&[1, 2], &[]), list(&[2], &[])]);
        assert_eq!(usable(&half), [2], "half is not less than half");

        let now = Instant::now();
        let mut many = after(&[list(&[1, 2, 3], &[]), list(&[3], &[])]);
        assert_eq!(usable(&many), [1, 2, 3]);
        assert_eq!(many.held_until(&at(1)), Some(now + HOLD));
        assert!(!many.is_held(&at(3)) && many.expire(now + HOLD / 2).is_empty());
        assert_eq!(many.expire(now + HOLD), [at(1), at(2)]);
        assert_eq!(usable(&many), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_critical_first_has_left_and_who_comes_back_is_back() {
        let explained = after(&[list(&[1, 2, 3], &[]), list(&[3], &[1, 2]), list(&[3], &[])]);
        assert_eq!(
            (usable(&explained), explained.holds_any()),
            (vec![3], false)
        );
        let turned = after(&[list(&[1, 2, 3], &[]), list(&[], &[]), list(&[1], &[2])]);
        assert_eq!(
            usable(&turned),
            [1, 3],
            "critical now is explained, gone still is not"
        );
        assert!(!turned.is_held(&at(1)) && turned.is_held(&at(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_one_is_held_and_dropped_when_it_refuses() {
        let mut last = after(&[list(&[1], &[]), list(&[], &[])]);
        assert_eq!(usable(&last), [1]);
        assert_eq!(last.refused(&BTreeSet::from([at(1), at(9)])), [at(1)]);
        assert!(usable(&last).is_empty());
        let zero = {
            let mut holding = after(&[list(&[1], &[])]);
            holding.update(list(&[], &[]), true, 0.0, Instant::now());
            holding
        };
        assert_eq!(
            usable(&zero),
            [1],
            "an empty list is held whatever the threshold"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_without_rights_takes_nobody_out() {
        let now = Instant::now();
        let mut holding = after(&[list(&[1, 2], &[])]);
        let outcome = holding.update(list(&[], &[]), false, 0.5, now);
        assert_eq!(outcome.held, [at(1), at(2)]);
        assert!(holding.expire(now + HOLD * 100).is_empty());
        assert_eq!(usable(&holding), [1, 2]);
        // With rights again, what is missing still is unexplained, for a while.
        holding.update(list(&[2], &[]), true, 0.5, now + HOLD);
        assert_eq!(usable(&holding), [1, 2]);
        assert_eq!(holding.expire(now + HOLD * 2), [at(1)]);
    }

    proptest! {
        #[test]
        fn who_is_listed_is_what_the_list_says_and_who_is_held_was_known(
            updates in prop::collection::vec((prop::collection::btree_set(0_u16..12, 0..12), prop::collection::btree_set(0_u16..12, 0..4)), 1..8),
            threshold in 0.0..1.0_f64, steps in prop::collection::vec(0_u64..15, 8),
        ) {
            let mut holding = Holding::default();
            let mut now = Instant::now();
            let mut ever = BTreeSet::new();
            for ((ports, critical), step) in updates.into_iter().zip(steps) {
                now += Duration::from_secs(step);
                let passing: Vec<u16> = ports.difference(&critical).map(|port| port + 1).collect();
                let critical: Vec<u16> = critical.iter().map(|port| port + 1).collect();
                let before = usable(&holding);
                let held: Vec<u16> = before.iter().copied().filter(|port| holding.is_held(&at(*port))).collect();
                holding.update(list(&passing, &critical), true, threshold, now);
                holding.expire(now);
                ever.extend(passing.iter().copied());
                let after = usable(&holding);
                prop_assert!(passing.iter().all(|port| after.contains(port)));
                prop_assert!(critical.iter().all(|port| !after.contains(port)));
                for port in after.iter().filter(|port| !passing.contains(port)) {
                    prop_assert!(holding.is_held(&at(*port)) && before.contains(port) && ever.contains(port));
                }
                let left = passing.iter().filter(|port| before.contains(port)).count();
                let gone = |port: &&u16| !passing.contains(port) && !critical.contains(port) && !held.contains(port);
                let mut gone = before.iter().filter(gone);
                let few = (left as f64) < threshold * before.len() as f64;
                let empty = passing.is_empty() && critical.is_empty();
                prop_assert!(gone.all(|port| after.contains(port) == (few || empty)));
            }
            holding.expire(now + HOLD);
            prop_assert!(!holding.holds_any());
        }
    }
}
