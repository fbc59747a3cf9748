//! Increments applied in order, on top of what is stored, and what of that is to be written.

use std::collections::HashMap;

use super::engine::{Changes, Engine};
use super::events::StoredEvent;
use super::keys::Keys;
use crate::id::CounterId;
use crate::idempotency::{IdempotencyKey, Origin};
use crate::store::remember::{Generations, Record};
use crate::store::{Counted, Increment, StoreError, UnixMillis};

pub(super) type Answer = Result<Counted, StoreError>;

/// Where the generations of keys stand, by origin.
pub(super) type KeyStates = [Generations; Origin::ALL.len()];

/// How many events there may be, and how many more that are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) limit: u64,
    pub(super) left: u64,
}

/// A batch while it is put together.
pub(super) struct Batch<'a, 'r> {
    engine: &'a Engine,
    keys: &'a Keys,
    now: UnixMillis,
    /// None if increments leave no events.
    room: Option<Room>,
    values: HashMap<&'r CounterId, i64>,
    events: Vec<StoredEvent>,
    /// Keys that were used first in this batch.
    fresh: [HashMap<String, Record>; Origin::ALL.len()],
    states: KeyStates,
}

/// What a batch changes.
pub(super) struct Outcome<'a> {
    pub(super) changes: Changes<'a>,
    pub(super) events: Vec<StoredEvent>,
    pub(super) states: KeyStates,
}

impl<'a, 'r> Batch<'a, 'r> {
    pub(super) fn new(
        engine: &'a Engine,
        keys: &'a Keys,
        now: UnixMillis,
        room: Option<Room>,
    ) -> Self {
        Self {
            engine,
            keys,
            now,
            room,
            values: HashMap::new(),
            events: Vec::new(),
            fresh: Default::default(),
            states: Origin::ALL.map(|origin| keys.of(origin).generations()),
        }
    }

    pub(super) fn apply(&mut self, increment: &'r Increment) -> Answer {
        match &increment.key {
            None => self.add(increment),
            Some(key) => self.add_once(increment, key),
        }
    }

    fn add(&mut self, increment: &'r Increment) -> Answer {
        let Increment { counter, delta, .. } = increment;
        if let Some(Room { limit, left }) = self.room
            && self.events.len() as u64 >= left
        {
            return Err(StoreError::OutboxFull { limit });
        }
        let current = match self.values.get(counter) {
            Some(value) => *value,
            None => self.engine.count(counter)?,
        };
        let value = current
            .checked_add(*delta)
            .ok_or_else(|| StoreError::Overflow {
                key: counter.key().into(),
                delta: *delta,
            })?;
        self.values.insert(counter, value);
        if self.room.is_some() {
            self.events.push(StoredEvent {
                key: counter.key().to_owned(),
                delta: *delta,
                new_value: value,
            });
        }
        Ok(Counted {
            value,
            at: self.now,
            replayed: false,
        })
    }

    fn add_once(&mut self, increment: &'r Increment, key: &IdempotencyKey) -> Answer {
        let Increment { counter, delta, .. } = increment;
        let index = key.origin() as usize;
        let pool = self.keys.of(key.origin());
        let field = key.field(counter);
        let known = match self.fresh[index].get(&field) {
            Some(record) => Some(*record),
            None => pool.find(&field, self.now)?,
        };
        if let Some(record) = known {
            return record.answer(counter, *delta);
        }
        let before = self.states[index];
        pool.take_room(&mut self.states[index], &field)?;
        let counted = self
            .add(increment)
            .inspect_err(|_| self.states[index] = before)?;
        let record = Record {
            value: counted.value,
            delta: *delta,
            at: counted.at,
        };
        self.fresh[index].insert(field, record);
        Ok(counted)
    }

    /// Each counter is written once, however often it was incremented.
    pub(super) fn finish(self) -> Outcome<'a> {
        let mut changes = self.engine.changes();
        for (counter, value) in &self.values {
            changes.set_count(counter, *value);
        }
        for origin in Origin::ALL {
            let (pool, state) = (self.keys.of(origin), &self.states[origin as usize]);
            for (field, record) in &self.fresh[origin as usize] {
                pool.remember(&mut changes, field, record);
            }
            if *state != pool.generations() {
                pool.save(&mut changes, state);
            }
        }
        Outcome {
            changes,
            events: self.events,
            states: self.states,
        }
    }
}
