//! The sums of one type's counters in buckets of one width.

use std::collections::{BTreeMap, HashMap};

use crate::state::{Resolution, Seconds};

/// A counter within its type: small, and never given to another.
pub(super) type Key = u32;

/// The sum of one counter in one bucket. Wider than a delta: a counter may cross the whole range of int64.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell {
    pub(super) sum: i128,
    /// Changed since the last checkpoint, and listed in the bucket's `changed`.
    changed: bool,
}

/// One bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    cells: HashMap<Key, Cell>,
    changed: Vec<Key>,
}

impl Bucket {
    pub(super) fn cells(&self) -> impl Iterator<Item = (Key, i128)> {
        self.cells.iter().map(|(key, cell)| (*key, cell.sum))
    }

    fn mark(&mut self, key: Key) {
        if let Some(cell) = self.cells.get_mut(&key)
            && !cell.changed
        {
            cell.changed = true;
            self.changed.push(key);
        }
    }
}

/// All buckets of one width that are kept.
#[derive(Debug)]
pub(super) struct Buckets {
    resolution: Resolution,
    buckets: BTreeMap<i64, Bucket>,
}

impl Buckets {
    pub(super) fn new(resolution: Resolution) -> Self {
        Self {
            resolution,
            buckets: BTreeMap::new(),
        }
    }

    pub(super) fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Adds to a cell and marks it as changed; true if the cell is new.
    pub(super) fn add(&mut self, bucket: i64, key: Key, delta: i128) -> bool {
        let bucket = self.buckets.entry(bucket).or_default();
        let before = bucket.cells.len();
        bucket.cells.entry(key).or_default().sum += delta;
        let new = bucket.cells.len() > before;
        bucket.mark(key);
        new
    }

    /// Sets a cell as it was stored.
    pub(super) fn restore(&mut self, bucket: i64, key: Key, sum: i128) {
        let bucket = self.buckets.entry(bucket).or_default();
        bucket.cells.insert(
            key,
            Cell {
                sum,
                changed: false,
            },
        );
    }

    /// The buckets from one index to before another that have anything in them.
    pub(super) fn between(&self, start: i64, end: i64) -> impl Iterator<Item = &Bucket> {
        // An empty range that is written backwards would panic.
        self.buckets
            .range(start..end.max(start))
            .map(|(_, bucket)| bucket)
    }

    /// The sums of one counter, one for each bucket of the range.
    pub(super) fn series(&self, key: Key, range: Seconds) -> Vec<i128> {
        let start = self.resolution.bucket(range.start);
        let end = self.resolution.bucket(range.end);
        let sum = |bucket: i64| {
            self.buckets
                .get(&bucket)?
                .cells
                .get(&key)
                .map(|cell| cell.sum)
        };
        (start..end)
            .map(|bucket| sum(bucket).unwrap_or(0))
            .collect()
    }

    /// Forgets the buckets before this one.
    pub(super) fn prune(&mut self, oldest: i64) {
        if self
            .buckets
            .first_key_value()
            .is_some_and(|(first, _)| *first < oldest)
        {
            self.buckets = self.buckets.split_off(&oldest);
        }
    }

    /// The changed cells since the last call.
    pub(super) fn take_changes(&mut self, mut each: impl FnMut(i64, Key, i128)) {
        for (index, bucket) in &mut self.buckets {
            for key in bucket.changed.drain(..) {
                if let Some(cell) = bucket.cells.get_mut(&key) {
                    cell.changed = false;
                    each(*index, key, cell.sum);
                }
            }
        }
    }

    /// Marks a cell as changed again.
    pub(super) fn mark(&mut self, bucket: i64, key: Key) {
        if let Some(bucket) = self.buckets.get_mut(&bucket) {
            bucket.mark(key);
        }
    }

    pub(super) fn cells(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.cells.len()).sum()
    }
}
