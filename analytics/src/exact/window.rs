//! A rolling window: the sums over the last so many buckets, kept up to date as events enter and buckets leave.

use std::collections::HashMap;
use std::sync::Arc;

use super::buckets::{Bucket, Buckets, Key};
use super::order::Order;
use crate::state::{Period, Resolution, Seconds};

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    value: i128,
    /// In how many buckets of the window the counter has a cell: at 0 it leaves the ranking.
    cells: usize,
}

/// The window of one period.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) period: Period,
    pub(super) resolution: Resolution,
    /// Its length in buckets.
    length: i64,
    /// The first bucket after it.
    end: i64,
    sums: HashMap<Key, Sum>,
    pub(super) order: Order,
}

impl Window {
    /// An empty window far in the past; `None` for a period that does not roll.
    pub(super) fn new(period: Period) -> Option<Self> {
        let (length, resolution) = period.window()?;
        Some(Self {
            period,
            resolution,
            length: length / resolution.width(),
            end: 0,
            sums: HashMap::new(),
            order: Order::default(),
        })
    }

    /// The seconds that it covers.
    pub(super) fn range(&self) -> Seconds {
        let width = self.resolution.width();
        Seconds {
            start: (self.end - self.length) * width,
            end: self.end * width,
        }
    }

    /// An event was added to a bucket; `new` if that made a cell.
    pub(super) fn add(
        &mut self,
        bucket: i64,
        names: &[Arc<str>],
        key: Key,
        delta: i128,
        new: bool,
    ) {
        if (self.end - self.length..self.end).contains(&bucket) {
            self.enter(names, key, delta, usize::from(new));
        }
    }

    /// Moves on so that the window ends with the bucket of `now`. A clock that goes back moves nothing.
    pub(super) fn advance(&mut self, buckets: &Buckets, names: &[Arc<str>], now: i64) {
        let end = self.resolution.bucket(now) + 1;
        if end <= self.end {
            return;
        }
        let (old_start, old_end) = (self.end - self.length, self.end);
        let start = end - self.length;
        self.end = end;
        if start >= old_end {
            self.sums.clear();
            self.order.give_up();
            buckets
                .between(start, end)
                .for_each(|bucket| self.enter_all(names, bucket));
            return;
        }
        buckets
            .between(old_start, start)
            .for_each(|bucket| self.leave_all(names, bucket));
        // Not empty if events came from the future.
        buckets
            .between(old_end, end)
            .for_each(|bucket| self.enter_all(names, bucket));
    }

    /// Makes the order, so that pages can be answered.
    pub(super) fn build_order(&mut self, names: &[Arc<str>]) {
        let value = |(key, sum): (&Key, &Sum)| Some((sum.value, names.get(*key as usize)?.clone()));
        self.order.build(self.sums.iter().filter_map(value));
    }

    fn enter_all(&mut self, names: &[Arc<str>], bucket: &Bucket) {
        bucket
            .cells()
            .for_each(|(key, sum)| self.enter(names, key, sum, 1));
    }

    fn leave_all(&mut self, names: &[Arc<str>], bucket: &Bucket) {
        for (key, value) in bucket.cells() {
            let Some(sum) = self.sums.get_mut(&key) else {
                continue;
            };
            let old = sum.value;
            sum.value -= value;
            sum.cells -= 1;
            let new = (sum.cells > 0).then_some(sum.value);
            if new.is_none() {
                self.sums.remove(&key);
            }
            if let Some(name) = names.get(key as usize) {
                self.order.moved(name, Some(old), new);
            }
        }
    }

    fn enter(&mut self, names: &[Arc<str>], key: Key, value: i128, cells: usize) {
        let sum = self.sums.entry(key).or_default();
        let old = (sum.cells > 0).then_some(sum.value);
        sum.value += value;
        sum.cells += cells;
        let new = Some(sum.value);
        if let Some(name) = names.get(key as usize) {
            self.order.moved(name, old, new);
        }
    }
}
