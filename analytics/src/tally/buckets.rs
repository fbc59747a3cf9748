//! The sums of one type's counters in buckets of one width.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::names::Key;
use super::row::{narrow, wide};
use crate::state::{Resolution, Seconds};

/// The sum of one counter in one bucket, 80 bits wide. 16 bytes.
#[derive(Debug, Clone, Copy)]
struct Cell {
    low: u64,
    high: i16,
    /// Changed since the last checkpoint, and listed in the bucket's `changed`.
    changed: bool,
    key: Key,
}

/// One bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    cells: HashTable<Cell>,
    changed: Vec<Key>,
}

impl Bucket {
    pub(super) fn cells(&self) -> impl Iterator<Item = (Key, i128)> {
        self.cells
            .iter()
            .map(|cell| (cell.key, wide(cell.low, cell.high)))
    }

    fn sum(&self, key: Key) -> Option<i128> {
        let cell = self.cells.find(spread(key), |cell| cell.key == key)?;
        Some(wide(cell.low, cell.high))
    }

    /// Adds to a cell; true if it is new.
    fn add(&mut self, key: Key, delta: i128, changed: bool) -> bool {
        let found = self
            .cells
            .entry(spread(key), |cell| cell.key == key, |cell| spread(cell.key));
        match found {
            Entry::Occupied(mut found) => {
                let cell = found.get_mut();
                (cell.low, cell.high) = narrow(wide(cell.low, cell.high) + delta);
                if changed && !std::mem::replace(&mut cell.changed, true) {
                    self.changed.push(key);
                }
                false
            }
            Entry::Vacant(room) => {
                let (low, high) = narrow(delta);
                room.insert(Cell {
                    low,
                    high,
                    changed,
                    key,
                });
                if changed {
                    self.changed.push(key);
                }
                true
            }
        }
    }
}

/// All buckets of one width that are kept.
#[derive(Debug)]
pub(super) struct Buckets {
    resolution: Resolution,
    buckets: BTreeMap<i64, Bucket>,
    cells: usize,
}

impl Buckets {
    pub(super) fn new(resolution: Resolution) -> Self {
        Self {
            resolution,
            buckets: BTreeMap::new(),
            cells: 0,
        }
    }

    /// How many cells there are.
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    /// Adds to a cell and marks it as changed; true if the cell is new.
    pub(super) fn add(&mut self, bucket: i64, key: Key, delta: i128) -> bool {
        self.put(bucket, key, delta, true)
    }

    /// Sets a cell as it was stored.
    pub(super) fn restore(&mut self, bucket: i64, key: Key, sum: i128) {
        self.put(bucket, key, sum, false);
    }

    fn put(&mut self, bucket: i64, key: Key, delta: i128, changed: bool) -> bool {
        let new = self
            .buckets
            .entry(bucket)
            .or_default()
            .add(key, delta, changed);
        self.cells += usize::from(new);
        new
    }

    /// The buckets from one index to before another that have anything in them.
    pub(super) fn between(&self, start: i64, end: i64) -> impl Iterator<Item = (i64, &Bucket)> {
        // An empty range that is written backwards would panic.
        self.buckets
            .range(start..end.max(start))
            .map(|(index, bucket)| (*index, bucket))
    }

    /// All buckets.
    pub(super) fn all(&self) -> impl Iterator<Item = (i64, &Bucket)> {
        self.buckets.iter().map(|(index, bucket)| (*index, bucket))
    }

    /// The sums of one counter, one for each bucket of the range.
    pub(super) fn series(&self, key: Key, range: Seconds) -> Vec<i128> {
        let start = self.resolution.bucket(range.start);
        let end = self.resolution.bucket(range.end);
        (start..end)
            .map(|bucket| self.buckets.get(&bucket).and_then(|bucket| bucket.sum(key)))
            .map(|sum| sum.unwrap_or(0))
            .collect()
    }

    /// Forgets the buckets before this one.
    pub(super) fn prune(&mut self, oldest: i64) {
        while let Some(first) = self.buckets.first_entry()
            && *first.key() < oldest
        {
            self.cells -= first.remove().cells.len();
        }
    }

    /// The changed cells since the last call.
    pub(super) fn take_changes(&mut self, mut each: impl FnMut(i64, Key, i128)) {
        for (index, bucket) in &mut self.buckets {
            for key in bucket.changed.drain(..) {
                if let Some(cell) = bucket.cells.find_mut(spread(key), |cell| cell.key == key) {
                    cell.changed = false;
                    each(*index, key, wide(cell.low, cell.high));
                }
            }
        }
    }
}

/// Numbers in a row, spread over a table.
fn spread(key: Key) -> u64 {
    let mixed = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
