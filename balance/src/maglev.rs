//! Google's maglev hashing (<https://research.google/pubs/pub44824/>): a table in which every endpoint has nearly exactly its share of
//! entries, found in one step. It shares out more evenly than a ring, and moves a few more keys when endpoints change.
//!
//! Weighted as Envoy does it: in each round an endpoint takes its next wanted entry only if its weight is due.

use crate::hash;

/// A table of owners.
#[derive(Debug)]
pub struct Maglev {
    entries: Box<[u32]>,
}

/// How one endpoint fills its entries.
struct Turn {
    at: usize,
    skip: usize,
    /// How much weight its next entry takes.
    due: f64,
    weight: f64,
}

const FREE: u32 = u32::MAX;

// === impl Maglev ===

impl Maglev {
    /// Entries that a table has if nobody says otherwise: the paper's small prime.
    pub const SIZE: u32 = 65_537;

    /// A table of endpoints by the hashes of their names and their weights. `size` is prime: every endpoint's walk comes by every entry.
    #[must_use]
    pub fn new(members: &[(u64, f64)], size: u32) -> Self {
        let size = size.max(2) as usize;
        let heaviest = members
            .iter()
            .map(|(_, weight)| *weight)
            .fold(0.0, f64::max);
        let mut turns: Vec<Turn> = members
            .iter()
            .map(|(seed, weight)| Turn {
                at: (hash::nth(*seed, 0) % size as u64) as usize,
                skip: (hash::nth(*seed, 1) % (size as u64 - 1)) as usize + 1,
                due: heaviest,
                weight: *weight,
            })
            .collect();
        let mut entries = vec![FREE; if members.is_empty() { 0 } else { size }];
        let mut left = entries.len();
        let mut round = 1.0;
        while left > 0 {
            for (owner, turn) in (0u32..).zip(&mut turns) {
                if left == 0 {
                    break;
                }
                if round * turn.weight < turn.due {
                    continue;
                }
                turn.due += heaviest;
                while entries[turn.at] != FREE {
                    turn.at = (turn.at + turn.skip) % size;
                }
                entries[turn.at] = owner;
                left -= 1;
            }
            round += 1.0;
        }
        Self {
            entries: entries.into(),
        }
    }

    /// Its entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn start(&self, point: u64) -> usize {
        (point % self.entries.len() as u64) as usize
    }

    pub(crate) fn owner(&self, at: usize) -> usize {
        self.entries[at] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(weights: &[f64]) -> Vec<usize> {
        let seeds = (0..).map(|n| hash::nth(3, n));
        let members: Vec<_> = seeds.zip(weights.iter().copied()).collect();
        let table = Maglev::new(&members, Maglev::SIZE);
        let mut counts = vec![0; weights.len()];
        table
            .entries
            .iter()
            .for_each(|owner| counts[*owner as usize] += 1);
        counts
    }

    #[test]
    fn every_endpoint_has_its_share_of_entries() {
        for weights in [
            &[1.0; 3][..],
            &[1.0; 10],
            &[1.0, 2.0, 3.0],
            &[10.0, 1.0, 1.0],
        ] {
            let total: f64 = weights.iter().sum();
            for (count, weight) in counts(weights).iter().zip(weights) {
                let share = *count as f64 / f64::from(Maglev::SIZE);
                assert!((share / (weight / total) - 1.0).abs() < 0.01, "{weights:?}");
            }
        }
    }

    #[test]
    fn nobody_makes_an_empty_table() {
        assert!(Maglev::new(&[], 7).is_empty());
    }
}
