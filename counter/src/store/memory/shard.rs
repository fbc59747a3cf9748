//! A part of the counters with the keys that belong to them, under one lock: so a count and its key change together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::CounterId;
use crate::idempotency::{Origin, Term};
use crate::store::remember::{Generations, Record, Turn};
use crate::store::{Counted, StoreError, UnixMillis};

/// What a key takes beside its text: the entry in its table, the table's free places, the allocator's. The measurement is in
/// docs/counting.md.
const BYTES_PER_KEY: u64 = 110;

/// The room for the keys of one origin, in all shards together.
pub(super) struct Room {
    origin: Origin,
    retention: i64,
    memory: u64,
    taken: AtomicU64,
}

impl Room {
    pub(super) fn new(origin: Origin, term: Term) -> Self {
        Self {
            origin,
            retention: term.millis(),
            memory: term.memory,
            taken: AtomicU64::new(0),
        }
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes room if there is so much left.
    fn take(&self, bytes: u64) -> Result<(), StoreError> {
        let take = |taken: u64| {
            taken
                .checked_add(bytes)
                .filter(|taken| *taken <= self.memory)
        };
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(|_| ())
            .map_err(|_| StoreError::KeysFull {
                origin: self.origin,
                memory: self.memory,
            })
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

type Table = HashMap<Box<str>, Record>;

/// The keys of one origin.
#[derive(Default)]
struct Keys {
    generations: Generations,
    newer: Table,
    older: Table,
}

/// Some of the counters.
#[derive(Default)]
pub(super) struct Shard {
    counts: HashMap<CounterId, i64>,
    keys: [Keys; Origin::ALL.len()],
}

impl Shard {
    pub(super) fn count(&self, counter: &CounterId) -> i64 {
        self.counts.get(counter).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, counter: CounterId, delta: i64) -> Result<i64, StoreError> {
        let Some(value) = self.count(&counter).checked_add(delta) else {
            return Err(StoreError::Overflow {
                key: counter.key().into(),
                delta,
            });
        };
        self.counts.insert(counter, value);
        Ok(value)
    }

    /// Starts a new generation of keys if it is time to, and gives what is forgotten by that.
    pub(super) fn turn(&mut self, now: UnixMillis, room: &Room) -> Option<[Table; 2]> {
        let keys = &mut self.keys[room.origin as usize];
        let before = keys.generations.bytes();
        let turn = keys.generations.turn(now, room.retention)?;
        room.give_back(before - keys.generations.bytes());
        let newer = std::mem::take(&mut keys.newer);
        Some(match turn {
            Turn::Older => [std::mem::replace(&mut keys.older, newer), Table::new()],
            Turn::Both => [std::mem::take(&mut keys.older), newer],
        })
    }

    /// Adds once for this name of a key, and remembers what came of it.
    pub(super) fn add_once(
        &mut self,
        now: UnixMillis,
        room: &Room,
        counter: CounterId,
        delta: i64,
        field: String,
    ) -> Result<Counted, StoreError> {
        let index = room.origin as usize;
        let keys = &self.keys[index];
        let known = [&keys.newer, &keys.older]
            .into_iter()
            .filter_map(|table| table.get(&*field))
            .find(|record| record.is_live(now, room.retention));
        if let Some(record) = known {
            return record.answer(&counter, delta);
        }
        let bytes = BYTES_PER_KEY + field.len() as u64;
        room.take(bytes)?;
        let value = self
            .add(counter, delta)
            .inspect_err(|_| room.give_back(bytes))?;
        let record = Record {
            value,
            delta,
            at: now,
        };
        let keys = &mut self.keys[index];
        match keys.newer.insert(field.into_boxed_str(), record) {
            None => keys.generations.newer_bytes += bytes,
            // Past its retention, but not yet dropped: its room is used again.
            Some(_) => room.give_back(bytes),
        }
        Ok(Counted {
            value,
            at: now,
            replayed: false,
        })
    }
}
