//! The state of one partition: its types, what tells repeats, and how far it has been applied.

use std::collections::HashMap;
use std::sync::Arc;

use super::counters::{Counters, oldest};
use super::floors::{FRAMES, Floor};
use super::records::{self, PIECE, Reader, Records};
use super::row::Row;
use super::seen::Seen;
use crate::event::{Batch, Event};
use crate::state::{Applied, Resolution, Seconds, Series, SeriesQuery, Size, Top, TopQuery};

/// An event from further ahead than this has a broken clock behind it: it counts as of now.
const FUTURE: i64 = 86400;

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// The position of the next event that is wanted.
    pub(super) next: u64,
    /// The unix millisecond of the newest event.
    pub(super) newest_ms: i64,
    /// The latest time that anybody told; all windows stand there.
    now: i64,
    seen: Seen,
    types: Vec<(Arc<str>, Counters)>,
    numbers: HashMap<Arc<str>, u16>,
    /// How many types have been stored.
    stored_types: usize,
    /// What is stored does not hold any more: all of it has to be stored anew.
    pub(super) anew: bool,
}

/// What a checkpoint stores.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) records: Records,
    pub(super) anew: bool,
    pub(super) next: u64,
    /// The oldest bucket of each resolution that is kept.
    pub(super) oldest: [(Resolution, i64); 3],
}

impl Shard {
    /// Applies the events of a part of a batch that have not been applied.
    pub(super) fn apply<'a>(
        &mut self,
        events: impl Iterator<Item = Event<'a>>,
        now: i64,
    ) -> Applied {
        self.advance(now);
        let mut done = Applied::default();
        for event in events {
            if event.position < self.next || self.seen.repeats(event.origin) {
                done.repeated += 1;
            } else {
                done.applied += 1;
                done.late += u64::from(self.count(&event));
            }
            self.next = self.next.max(event.position + 1);
        }
        done
    }

    /// All of a batch has been applied, with what was none of its events.
    pub(super) fn reach(&mut self, batch: &Batch) {
        self.next = self.next.max(batch.next());
    }

    fn count(&mut self, event: &Event<'_>) -> bool {
        let (second, now) = (event.second(), self.now);
        let second = if second > now + FUTURE { now } else { second };
        let newest = event.timestamp_ms.min((now + FUTURE) * 1000);
        self.newest_ms = self.newest_ms.max(newest);
        match self.counters(event.counter_type) {
            Some(counters) => counters.apply(event, second, now),
            None => false,
        }
    }

    /// The counters of a type, which it makes known; `None` beyond 65,536 types.
    fn counters(&mut self, counter_type: &str) -> Option<&mut Counters> {
        let number = match self.numbers.get(counter_type) {
            Some(number) => *number,
            None => {
                let number = u16::try_from(self.types.len()).ok()?;
                let name: Arc<str> = counter_type.into();
                let mut counters = Counters::new();
                counters.advance(self.now);
                self.types.push((name.clone(), counters));
                self.numbers.insert(name, number);
                number
            }
        };
        self.types
            .get_mut(usize::from(number))
            .map(|(_, counters)| counters)
    }

    /// Moves all windows on. Only the first call of each minute has anything to do.
    pub(super) fn advance(&mut self, now: i64) {
        let before = self.now;
        self.now = now.max(before);
        if Resolution::Minute.bucket(self.now) > Resolution::Minute.bucket(before) {
            for (_, counters) in &mut self.types {
                counters.advance(self.now);
            }
        }
    }

    /// Whether the windows stand at this time.
    pub(super) fn stands_at(&self, now: i64) -> bool {
        Resolution::Minute.bucket(self.now) >= Resolution::Minute.bucket(now)
    }

    fn of_type(&self, counter_type: &str) -> Option<&Counters> {
        let number = self.numbers.get(counter_type)?;
        self.types
            .get(usize::from(*number))
            .map(|(_, counters)| counters)
    }

    pub(super) fn top(&self, query: &TopQuery, now: i64) -> Option<Top> {
        let counters = self.of_type(&query.counter_type)?;
        Some(counters.top(query, now))
    }

    pub(super) fn series(&self, query: &SeriesQuery, now: i64) -> Option<Series> {
        self.of_type(&query.counter_type)?.series(query, now)
    }

    /// Whether a counter that is not known has had nothing in a range, for certain.
    pub(super) fn has_nothing(&self, counter_type: &str, range: Seconds, now: i64) -> bool {
        self.of_type(counter_type)
            .is_none_or(|counters| counters.has_nothing(range, now))
    }

    pub(super) fn size(&self) -> Size {
        let mut size = Size::default();
        for (_, counters) in &self.types {
            size.counters += counters.rows.len() as u64;
            size.cells += counters.cells() as u64;
            let rows = counters.rows.len() * size_of::<Row>() + counters.names.bytes();
            // A table is three quarters full, about.
            size.bytes += (rows + counters.cells() * 24) as u64;
        }
        size
    }

    /// Lets the smaller half of the largest type go, at least.
    pub(super) fn prune(&mut self) {
        let now = self.now;
        let weight = |counters: &Counters| counters.rows.len() * 4 + counters.cells();
        let largest = self
            .types
            .iter_mut()
            .max_by_key(|(_, counters)| weight(counters));
        if let Some((name, counters)) = largest {
            let before = counters.rows.len();
            counters.prune((before / 10).max(1), now);
            tracing::info!(
                counter_type = &**name,
                before,
                after = counters.rows.len(),
                "memory is full: the smaller counters are estimated from here on"
            );
            self.anew = true;
        }
    }

    /// What changed since the last call, with the position that it goes with.
    pub(super) fn take_changes(&mut self) -> Changes {
        let anew = std::mem::take(&mut self.anew);
        let records = if anew {
            self.forget_changes();
            self.seen.take_changes();
            self.all()
        } else {
            self.changed()
        };
        self.stored_types = self.types.len();
        Changes {
            records,
            anew,
            next: self.next,
            oldest: Resolution::ALL.map(|resolution| (resolution, oldest(resolution, self.now))),
        }
    }

    fn changed(&mut self) -> Records {
        let mut records = Records::default();
        self.head(&mut records);
        let pieces = self.seen.take_changes();
        self.seen.write(&mut records, pieces.into_iter());
        for (number, (name, counters)) in (0..).zip(&mut self.types) {
            if usize::from(number) >= self.stored_types {
                write_type(&mut records, number, name);
            }
            for key in std::mem::take(&mut counters.changed) {
                counters.rows[key as usize].changed = false;
                write_row(&mut records, number, counters, key);
            }
            for (resolution, buckets) in Resolution::ALL.into_iter().zip(&mut counters.buckets) {
                buckets.take_changes(|bucket, key, sum| {
                    let key = records::cell_key(resolution, bucket, number, key);
                    records.add(&key, &sum.to_be_bytes());
                });
            }
        }
        records
    }

    fn forget_changes(&mut self) {
        for (_, counters) in &mut self.types {
            for key in std::mem::take(&mut counters.changed) {
                counters.rows[key as usize].changed = false;
            }
            for buckets in &mut counters.buckets {
                buckets.take_changes(|_, _, _| {});
            }
        }
    }

    /// Everything.
    pub(super) fn all(&self) -> Records {
        let mut records = Records::default();
        self.head(&mut records);
        self.seen.write(&mut records, self.seen.pieces());
        for (number, (name, counters)) in (0..).zip(&self.types) {
            write_type(&mut records, number, name);
            write_floors(&mut records, number, counters);
            for (key, _) in (0..).zip(&counters.rows) {
                write_row(&mut records, number, counters, key);
            }
            for (resolution, buckets) in Resolution::ALL.into_iter().zip(&counters.buckets) {
                for (index, bucket) in buckets.all() {
                    for (key, sum) in bucket.cells() {
                        let key = records::cell_key(resolution, index, number, key);
                        records.add(&key, &sum.to_be_bytes());
                    }
                }
            }
        }
        records
    }

    fn head(&self, records: &mut Records) {
        let mut value = self.next.to_be_bytes().to_vec();
        value.extend_from_slice(&self.newest_ms.to_be_bytes());
        value.extend_from_slice(&self.seen.place().to_be_bytes());
        records.add(&[0], &value);
    }

    /// Takes one record as it was stored; `None` if it is none. [`settle`](Self::settle) comes after the last.
    pub(super) fn restore(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (mut key, mut value) = (Reader(key), Reader(value));
        match key.u8()? {
            0 => {
                (self.next, self.newest_ms) = (value.u64()?, value.i64()?);
                self.seen.restore_place(value.u32()?);
            }
            1 => self.seen.restore(key.text()?, value.u64()?),
            2 => {
                let number = key.u16()?;
                (usize::from(number) == self.types.len()).then_some(())?;
                self.counters(value.text()?)?;
            }
            3 => {
                let counters = self.numbered(key.u16()?)?;
                let (count, since) = (value.i64()?, value.u32()?);
                let number = counters.key(value.text()?, 0);
                (number == key.u32()?).then_some(())?;
                let row = &mut counters.rows[number as usize];
                (row.value, row.since) = (count, since);
            }
            4 => {
                let (resolution, bucket) = key.bucket()?;
                let counters = self.numbered(key.u16()?)?;
                let number = key.u32()?;
                ((number as usize) < counters.rows.len()).then_some(())?;
                counters.buckets[resolution].restore(bucket, number, value.i128()?);
            }
            5 => {
                let piece = usize::from(key.u16()?);
                let ids = value.0.chunks_exact(8).filter_map(|id| Reader(id).u64());
                self.seen.restore_piece(piece * PIECE, ids);
            }
            6 => {
                let counters = self.numbered(key.u16()?)?;
                counters.floors.count = Some(value.i64()?);
                while !value.0.is_empty() {
                    counters.floors.list.push(read_floor(&mut value)?);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn numbered(&mut self, number: u16) -> Option<&mut Counters> {
        let (_, counters) = self.types.get_mut(usize::from(number))?;
        Some(counters)
    }

    /// All records are there: sums and leaders are made of them.
    pub(super) fn settle(&mut self, now: i64) {
        self.stored_types = self.types.len();
        self.seen.settle();
        self.advance(now);
        for (_, counters) in &mut self.types {
            counters.find_leaders(super::counters::ALL_TIME);
        }
    }
}

fn write_type(records: &mut Records, number: u16, name: &str) {
    let mut key = vec![2];
    key.extend_from_slice(&number.to_be_bytes());
    records.add(&key, name.as_bytes());
}

fn write_row(records: &mut Records, number: u16, counters: &Counters, key: u32) {
    let row = &counters.rows[key as usize];
    let mut value = row.value.to_be_bytes().to_vec();
    value.extend_from_slice(&row.since.to_be_bytes());
    value.extend_from_slice(counters.names.name(key).as_bytes());
    records.add(&records::row_key(number, key), &value);
}

fn write_floors(records: &mut Records, number: u16, counters: &Counters) {
    let Some(count) = counters.floors.count else {
        return;
    };
    let mut key = vec![6];
    key.extend_from_slice(&number.to_be_bytes());
    let mut value = count.to_be_bytes().to_vec();
    for floor in &counters.floors.list {
        value.extend_from_slice(&floor.from.to_be_bytes());
        value.extend_from_slice(&floor.until.to_be_bytes());
        for bound in floor.high.iter().chain(&floor.low) {
            value.extend_from_slice(&bound.to_be_bytes());
        }
    }
    records.add(&key, &value);
}

fn read_floor(value: &mut Reader<'_>) -> Option<Floor> {
    let mut floor = Floor {
        from: value.u32()?,
        until: value.u32()?,
        ..Floor::default()
    };
    for frame in 0..FRAMES {
        floor.high[frame] = value.i128()?;
    }
    for frame in 0..FRAMES {
        floor.low[frame] = value.i128()?;
    }
    Some(floor)
}
