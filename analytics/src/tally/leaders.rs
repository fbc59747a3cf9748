//! Who leads a ranking: some thousands of counters of which it is certain that all others are behind.
//!
//! Keeping all counters in order costs two searches in a large tree for each event. This costs one comparison: a counter that
//! is no leader becomes one when it passes the floor, the best of all that are none. Pages of the first thousands of places are
//! made from the leaders alone; what is asked beyond them is found by looking at everybody. When there are twice as many
//! leaders as are wanted the lower half goes, and the floor rises; when counters decline until too few are above the floor,
//! everybody is looked at again.

use std::cmp::Ordering;

use super::names::{Key, Names};

/// How many there should be: more than the longest page by far.
pub(super) const WANTED: usize = 4096;

/// The leaders of one ranking.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    members: Vec<Key>,
    /// The best that is no leader, with the value that it had; `None`: there are no others.
    floor: Option<(i128, Key)>,
}

impl Leaders {
    pub(super) fn members(&self) -> &[Key] {
        &self.members
    }

    pub(super) fn floor(&self) -> Option<(i128, Key)> {
        self.floor
    }

    /// Whether a counter that is no leader becomes one with this value; the caller marks it.
    pub(super) fn admits(&mut self, key: Key, value: i128, names: &Names) -> bool {
        let admits = match self.floor {
            None => true,
            Some(floor) => ahead((value, key), floor, names),
        };
        if admits {
            self.members.push(key);
        }
        admits
    }

    /// Whether there are so many that some should go.
    pub(super) fn too_many(&self) -> bool {
        self.members.len() >= 2 * WANTED
    }

    /// Keeps the better ones of these, which are all members that are in the ranking; gives those that go.
    pub(super) fn shrink(&mut self, mut ranked: Vec<(i128, Key)>, names: &Names) -> Vec<Key> {
        if ranked.len() > WANTED {
            ranked.select_nth_unstable_by(WANTED, |a, b| order(*a, *b, names));
            let best_that_goes = ranked[WANTED];
            let higher = |floor| ahead(best_that_goes, floor, names);
            if self.floor.is_none_or(higher) {
                self.floor = Some(best_that_goes);
            }
        }
        let gone = ranked.split_off(ranked.len().min(WANTED));
        self.members = ranked.into_iter().map(|(_, key)| key).collect();
        gone.into_iter().map(|(_, key)| key).collect()
    }

    /// Forgets all, before everybody is looked at again.
    pub(super) fn clear(&mut self) -> Vec<Key> {
        self.floor = None;
        std::mem::take(&mut self.members)
    }
}

/// The order of a ranking: the larger value first, ties by name.
pub(super) fn order(a: (i128, Key), b: (i128, Key), names: &Names) -> Ordering {
    b.0.cmp(&a.0)
        .then_with(|| names.name(a.1).cmp(names.name(b.1)))
}

/// Whether one stands before another.
pub(super) fn ahead(a: (i128, Key), b: (i128, Key), names: &Names) -> bool {
    a.0 > b.0 || a.0 == b.0 && a.1 != b.1 && names.name(a.1) < names.name(b.1)
}
