//! The whole state in memory: counters by type, positions, and the time up to which windows have moved.

use std::collections::HashMap;
use std::sync::Arc;

use super::counters::{Changes, Counters, covered, oldest};
use crate::event::{Batch, Event, Positions};
use crate::state::{Applied, Over, Resolution, SeriesQuery, Size, Top, TopQuery};

/// An event from further ahead than this has a broken clock behind it: it counts as of now.
const FUTURE: i64 = 86400;

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Memory {
    types: HashMap<Arc<str>, Counters>,
    /// The identity of the source that the positions are of.
    pub(super) source: Option<Arc<str>>,
    pub(super) positions: Positions,
    pub(super) newest_ms: i64,
    /// The latest time that anybody told; all windows stand there.
    now: i64,
}

/// What a checkpoint stores.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) types: Vec<(Arc<str>, Changes)>,
    pub(super) source: Option<Arc<str>>,
    pub(super) positions: Positions,
    pub(super) newest_ms: i64,
    /// The oldest bucket of each resolution that is kept.
    pub(super) oldest: [(Resolution, i64); 3],
}

impl Memory {
    /// Applies the events of a batch that have not been applied.
    pub(super) fn apply(&mut self, batch: &Batch, now: i64) -> Applied {
        self.advance(now);
        let mut done = Applied::default();
        let mut next = self.positions.next(batch.partition);
        for event in &batch.events {
            if event.position < next {
                done.repeated += 1;
                continue;
            }
            next = event.position + 1;
            done.applied += 1;
            done.late += u64::from(self.count(event));
        }
        self.positions.set(batch.partition, next);
        done
    }

    fn count(&mut self, event: &Event) -> bool {
        let (second, now) = (event.second(), self.now);
        let second = if second > now + FUTURE { now } else { second };
        self.newest_ms = self
            .newest_ms
            .max(event.timestamp_ms.min((now + FUTURE) * 1000));
        self.counters(&event.counter_type).apply(
            &event.resource_id,
            event.delta,
            event.new_value,
            second,
            now,
        )
    }

    /// Moves all windows on. Only the first call of each minute has anything to do.
    pub(super) fn advance(&mut self, now: i64) {
        let before = self.now;
        self.now = now.max(before);
        if Resolution::Minute.bucket(self.now) > Resolution::Minute.bucket(before) {
            self.types
                .values_mut()
                .for_each(|counters| counters.advance(self.now));
        }
    }

    /// A page of a ranking, or `None` if it must be prepared first.
    pub(super) fn top(&self, query: &TopQuery, now: i64) -> Option<Top> {
        self.types.get(query.counter_type.as_str())?.top(query, now)
    }

    /// Makes what a query needs and `top` does not find.
    pub(super) fn prepare(&mut self, query: &TopQuery, now: i64) {
        self.advance(now);
        if let Some(counters) = self.types.get_mut(query.counter_type.as_str()) {
            counters.prepare(query.over);
        }
    }

    /// The answer for a type that has no counters.
    pub(super) fn nothing(&self, query: &TopQuery, now: i64) -> Top {
        let range = match query.over {
            Over::Period(period) => period.range(now),
            Over::Range(range) => covered(range, now).1,
        };
        Top {
            places: Vec::new(),
            more: false,
            range,
            exact: true,
        }
    }

    /// One value for each bucket of the range.
    pub(super) fn series(&self, query: &SeriesQuery) -> Vec<i128> {
        let counters = self.types.get(query.counter_type.as_str());
        counters
            .and_then(|counters| counters.series(query))
            .unwrap_or_else(|| {
                let buckets = (query.range.end - query.range.start) / query.resolution.width();
                vec![0; usize::try_from(buckets).unwrap_or(0)]
            })
    }

    pub(super) fn size(&self) -> Size {
        let sum = |part: fn(&Counters) -> usize| {
            self.types
                .values()
                .map(|counters| part(counters) as u64)
                .sum()
        };
        Size {
            counters: sum(Counters::len),
            cells: sum(Counters::cells),
        }
    }

    /// The counters of a type, which it makes known.
    pub(super) fn counters(&mut self, counter_type: &str) -> &mut Counters {
        if !self.types.contains_key(counter_type) {
            let mut counters = Counters::new();
            counters.advance(self.now);
            self.types.insert(counter_type.into(), counters);
        }
        self.types
            .entry(counter_type.into())
            .or_insert_with(Counters::new)
    }

    /// What changed since the last call, with the positions that it goes with.
    pub(super) fn take_changes(&mut self) -> Checkpoint {
        let changed =
            |(name, counters): (&Arc<str>, &mut Counters)| (name.clone(), counters.take_changes());
        Checkpoint {
            types: self.types.iter_mut().map(changed).collect(),
            source: self.source.clone(),
            positions: self.positions.clone(),
            newest_ms: self.newest_ms,
            oldest: Resolution::ALL.map(|resolution| (resolution, oldest(resolution, self.now))),
        }
    }

    /// Changes that could not be stored count as changes again.
    pub(super) fn put_back(&mut self, checkpoint: &Checkpoint) {
        for (counter_type, changes) in &checkpoint.types {
            self.counters(counter_type).put_back(changes);
        }
    }
}
