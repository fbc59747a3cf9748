//! All counters of one type: their counts, buckets and windows.

use std::collections::HashMap;
use std::sync::Arc;

use super::buckets::{Buckets, Key};
use super::order::{Order, page};
use super::window::Window;
use crate::state::{Over, Period, Place, Resolution, Seconds, SeriesQuery, Top, TopQuery};

#[derive(Debug, Default)]
struct Count {
    value: i64,
    /// Changed since the last checkpoint, and listed in `changed`.
    changed: bool,
}

/// The counters of one type.
#[derive(Debug)]
pub(super) struct Counters {
    keys: HashMap<Arc<str>, Key>,
    names: Vec<Arc<str>>,
    counts: Vec<Count>,
    changed: Vec<Key>,
    all: Order,
    buckets: [Buckets; 3],
    windows: Vec<Window>,
}

/// What a checkpoint stores of one type.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) counts: Vec<(Arc<str>, i64)>,
    pub(super) cells: Vec<(Resolution, i64, Arc<str>, i128)>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            keys: HashMap::new(),
            names: Vec::new(),
            counts: Vec::new(),
            changed: Vec::new(),
            all: Order::default(),
            buckets: Resolution::ALL.map(Buckets::new),
            windows: Period::ROLLING
                .into_iter()
                .filter_map(Window::new)
                .collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn cells(&self) -> usize {
        self.buckets.iter().map(Buckets::cells).sum()
    }

    /// Counts one event of the second `second`; true if it was too late for some buckets.
    pub(super) fn apply(
        &mut self,
        resource: &str,
        delta: i64,
        new_value: i64,
        second: i64,
        now: i64,
    ) -> bool {
        let key = self.count(resource, new_value);
        let mut late = false;
        for buckets in &mut self.buckets {
            let resolution = buckets.resolution();
            let bucket = resolution.bucket(second);
            if bucket < oldest(resolution, now) {
                late = true;
                continue;
            }
            let new = buckets.add(bucket, key, i128::from(delta));
            for window in self
                .windows
                .iter_mut()
                .filter(|window| window.resolution == resolution)
            {
                window.add(bucket, &self.names, key, i128::from(delta), new);
            }
        }
        late
    }

    /// Windows move on to `now`, and buckets past their retention go. In this order: what leaves a window must still be there.
    pub(super) fn advance(&mut self, now: i64) {
        for buckets in &mut self.buckets {
            let resolution = buckets.resolution();
            for window in self
                .windows
                .iter_mut()
                .filter(|window| window.resolution == resolution)
            {
                window.advance(buckets, &self.names, now);
                window.order.cool(now);
            }
            buckets.prune(oldest(resolution, now));
        }
        self.all.cool(now);
    }

    /// Makes what a query needs and `top` does not find.
    pub(super) fn prepare(&mut self, over: Over) {
        match over {
            Over::Period(Period::All) => {
                let values = self.counts.iter().zip(&self.names);
                self.all
                    .build(values.map(|(count, name)| (i128::from(count.value), name.clone())));
            }
            Over::Period(period) => {
                for window in self
                    .windows
                    .iter_mut()
                    .filter(|window| window.period == period)
                {
                    window.build_order(&self.names);
                }
            }
            Over::Range(_) => {}
        }
    }

    /// A page of a ranking, or `None` if it must be prepared first.
    pub(super) fn top(&self, query: &TopQuery, now: i64) -> Option<Top> {
        let after = query.after.as_ref();
        let ((places, more), range) = match query.over {
            Over::Period(Period::All) => (
                self.all.page(query.limit, after, now)?,
                Period::All.range(now),
            ),
            Over::Period(period) => {
                let window = self.windows.iter().find(|window| window.period == period)?;
                let range = window.range();
                if range.end < period.range(now).end {
                    return None;
                }
                (window.order.page(query.limit, after, now)?, range)
            }
            Over::Range(range) => self.top_of_range(query, range, now),
        };
        Some(Top {
            places,
            more,
            range,
            exact: true,
        })
    }

    fn top_of_range(
        &self,
        query: &TopQuery,
        wanted: Seconds,
        now: i64,
    ) -> ((Vec<Place>, bool), Seconds) {
        let (resolution, range) = covered(wanted, now);
        let mut sums: HashMap<Key, i128> = HashMap::new();
        for buckets in self
            .buckets
            .iter()
            .filter(|buckets| buckets.resolution() == resolution)
        {
            for bucket in
                buckets.between(resolution.bucket(range.start), resolution.bucket(range.end))
            {
                bucket
                    .cells()
                    .for_each(|(key, sum)| *sums.entry(key).or_default() += sum);
            }
        }
        let mut values: Vec<(i128, &Arc<str>)> = sums
            .into_iter()
            .filter_map(|(key, sum)| Some((sum, self.names.get(key as usize)?)))
            .collect();
        values.sort_unstable_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.cmp(y)));
        let first = query.after.as_ref().map_or(0, |place| {
            let before = |(value, name): &(i128, &Arc<str>)| {
                place
                    .value
                    .cmp(value)
                    .then_with(|| (*name).cmp(&place.resource_id))
                    .is_le()
            };
            values.partition_point(before)
        });
        let rest = values.get(first..).unwrap_or_default();
        (
            page(rest.iter().copied(), query.limit, query.after.as_ref()),
            range,
        )
    }

    /// One value for each bucket of the range.
    pub(super) fn series(&self, query: &SeriesQuery) -> Option<Vec<i128>> {
        let key = *self.keys.get(query.resource_id.as_str())?;
        let buckets = self
            .buckets
            .iter()
            .find(|buckets| buckets.resolution() == query.resolution)?;
        Some(buckets.series(key, query.range))
    }

    /// Sets a count as it was stored.
    pub(super) fn restore_count(&mut self, resource: &str, value: i64) {
        let key = self.key(resource);
        if let Some(count) = self.counts.get_mut(key as usize) {
            count.value = value;
        }
    }

    /// Sets a cell as it was stored.
    pub(super) fn restore_cell(
        &mut self,
        resolution: Resolution,
        bucket: i64,
        resource: &str,
        sum: i128,
    ) {
        let key = self.key(resource);
        for buckets in self
            .buckets
            .iter_mut()
            .filter(|buckets| buckets.resolution() == resolution)
        {
            buckets.restore(bucket, key, sum);
        }
    }

    /// What changed since the last call.
    pub(super) fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for key in self.changed.drain(..) {
            if let (Some(count), Some(name)) = (
                self.counts.get_mut(key as usize),
                self.names.get(key as usize),
            ) {
                count.changed = false;
                changes.counts.push((name.clone(), count.value));
            }
        }
        for buckets in &mut self.buckets {
            let resolution = buckets.resolution();
            buckets.take_changes(|bucket, key, sum| {
                if let Some(name) = self.names.get(key as usize) {
                    changes.cells.push((resolution, bucket, name.clone(), sum));
                }
            });
        }
        changes
    }

    /// Changes that could not be stored count as changes again.
    pub(super) fn put_back(&mut self, changes: &Changes) {
        for (resource, _) in &changes.counts {
            let key = self.key(resource);
            self.mark(key);
        }
        for (resolution, bucket, resource, _) in &changes.cells {
            let key = self.key(resource);
            for buckets in self
                .buckets
                .iter_mut()
                .filter(|buckets| buckets.resolution() == *resolution)
            {
                buckets.mark(*bucket, key);
            }
        }
    }

    fn count(&mut self, resource: &str, value: i64) -> Key {
        let known = self.names.len();
        let key = self.key(resource);
        let (Some(count), Some(name)) = (
            self.counts.get_mut(key as usize),
            self.names.get(key as usize),
        ) else {
            return key;
        };
        let old = ((key as usize) < known).then_some(i128::from(count.value));
        count.value = value;
        self.all.moved(name, old, Some(i128::from(value)));
        self.mark(key);
        key
    }

    fn mark(&mut self, key: Key) {
        if let Some(count) = self.counts.get_mut(key as usize)
            && !count.changed
        {
            count.changed = true;
            self.changed.push(key);
        }
    }

    fn key(&mut self, resource: &str) -> Key {
        if let Some(key) = self.keys.get(resource) {
            return *key;
        }
        let name: Arc<str> = resource.into();
        // More than 2^32 counters of one type do not fit any memory that this runs in.
        let key = Key::try_from(self.names.len()).unwrap_or(Key::MAX);
        self.keys.insert(name.clone(), key);
        self.names.push(name);
        self.counts.push(Count::default());
        key
    }
}

/// The oldest bucket that is kept at a time.
pub(super) const fn oldest(resolution: Resolution, now: i64) -> i64 {
    resolution.bucket(now - resolution.kept())
}

/// The finest buckets that are kept for all of a range, and the whole ones around it; cut at the end of retention.
pub(super) fn covered(wanted: Seconds, now: i64) -> (Resolution, Seconds) {
    let kept =
        |resolution: &Resolution| resolution.bucket(wanted.start) >= oldest(*resolution, now);
    let resolution = Resolution::ALL
        .into_iter()
        .find(kept)
        .unwrap_or(Resolution::Day);
    let range = resolution.around(wanted);
    let start = range
        .start
        .max(oldest(resolution, now) * resolution.width());
    (
        resolution,
        Seconds {
            start,
            end: range.end.max(start),
        },
    )
}
