//! Idempotency keys on disk: a table for each generation, dropped whole, and in `meta` where the generations stand.
//!
//! `keys-ORIGIN-NUMBER`: `KEY resource_id:counter_type` -> value, delta, milliseconds, 8 bytes big-endian each. Only the writer
//! reads and writes them, in the batch of the counts. A table that the state in `meta` does not know is left over from a
//! crash in the middle of a turn, and dropped.

use fjall::Keyspace;

use super::batch::KeyStates;
use super::engine::{Changes, Engine, plain, unreadable};
use crate::idempotency::{Origin, Term, Terms};
use crate::store::remember::{Generations, Record, Turn};
use crate::store::{StoreError, UnixMillis};

/// What a key takes on the disk beside its text, before compression: record, sequence number, index. See docs/counting.md.
const BYTES_PER_KEY: u64 = 60;
/// What the names of all the tables begin with.
const PREFIX: &str = "keys-";

/// The keys of all origins.
pub(super) struct Keys {
    pools: [Pool; Origin::ALL.len()],
}

/// The keys of one origin.
pub(super) struct Pool {
    origin: Origin,
    term: Term,
    generations: Generations,
    newer: Option<Keyspace>,
    older: Option<Keyspace>,
}

impl Keys {
    pub(super) fn open(engine: &Engine, terms: &Terms) -> fjall::Result<Self> {
        let pools = Origin::ALL.map(|origin| Pool::open(engine, origin, terms.of(origin)));
        let [client, gateway] = pools;
        let keys = Self {
            pools: [client?, gateway?],
        };
        for name in engine.table_names().filter(|name| name.starts_with(PREFIX)) {
            let known = |pool: &Pool| pool.tables().any(|table| **table.name() == *name);
            if !keys.pools.iter().any(known) {
                engine.drop_table(engine.table(&name)?)?;
            }
        }
        Ok(keys)
    }

    pub(super) fn of(&self, origin: Origin) -> &Pool {
        &self.pools[origin as usize]
    }

    pub(super) fn pools_mut(&mut self) -> impl Iterator<Item = &mut Pool> {
        self.pools.iter_mut()
    }

    /// A batch is committed: this is where it left the generations.
    pub(super) fn set_states(&mut self, states: KeyStates) {
        for (pool, generations) in self.pools.iter_mut().zip(states) {
            pool.generations = generations;
        }
    }

    /// Bytes that keys take, by origin.
    pub(super) fn bytes(&self) -> [u64; Origin::ALL.len()] {
        self.pools.each_ref().map(|pool| pool.generations.bytes())
    }

    /// Drops what is past its retention, for pools that nobody uses.
    pub(super) fn forget(&mut self, engine: &Engine, now: UnixMillis) -> Result<(), StoreError> {
        for pool in &mut self.pools {
            if pool.generations.bytes() > 0 {
                pool.turn(engine, now)?;
            }
        }
        Ok(())
    }
}

impl Pool {
    fn open(engine: &Engine, origin: Origin, term: Term) -> fjall::Result<Self> {
        let generations = engine
            .meta(state_key(origin))?
            .and_then(|bytes| from_bytes(&bytes))
            .unwrap_or_default();
        let existing = |number: u64| {
            let name = table_name(origin, number);
            let exists = engine.table_names().any(|other| other == name);
            exists.then(|| engine.table(&name)).transpose()
        };
        Ok(Self {
            origin,
            term,
            generations,
            newer: existing(generations.newest)?,
            older: existing(generations.newest.saturating_sub(1))?,
        })
    }

    fn tables(&self) -> impl Iterator<Item = &Keyspace> {
        self.newer.iter().chain(&self.older)
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    pub(super) fn generations(&self) -> Generations {
        self.generations
    }

    /// What is remembered and still live.
    pub(super) fn find(&self, field: &str, now: UnixMillis) -> Result<Option<Record>, StoreError> {
        for table in self.tables() {
            let Some(bytes) = table.get(field).map_err(|error| unreadable(&error))? else {
                continue;
            };
            let record = record_from_bytes(&bytes).ok_or_else(|| {
                StoreError::Broken("an idempotency key's record cannot be read".into())
            })?;
            if record.is_live(now, self.term.millis()) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Takes room for one more in a batch's `generations`, if there is so much left.
    pub(super) fn take_room(
        &self,
        generations: &mut Generations,
        field: &str,
    ) -> Result<(), StoreError> {
        let bytes = BYTES_PER_KEY + field.len() as u64;
        if generations.bytes() + bytes > self.term.memory {
            return Err(StoreError::KeysFull {
                origin: self.origin,
                memory: self.term.memory,
            });
        }
        generations.newer_bytes += bytes;
        Ok(())
    }

    pub(super) fn remember(&self, changes: &mut Changes<'_>, field: &str, record: &Record) {
        // `turn` has made it before any key could be counted.
        if let Some(table) = &self.newer {
            changes.insert(table, field, &record_to_bytes(record));
        }
    }

    pub(super) fn save(&self, changes: &mut Changes<'_>, generations: &Generations) {
        changes.set_meta(state_key(self.origin), &to_bytes(generations));
    }

    /// Starts a new generation if it is time to. What is dropped is dropped last, so that a crash never leaves less
    /// than what the state says.
    pub(super) fn turn(&mut self, engine: &Engine, now: UnixMillis) -> Result<(), StoreError> {
        let mut generations = self.generations;
        let Some(turn) = generations.turn(now, self.term.millis()) else {
            return Ok(());
        };
        self.turn_to(engine, generations, turn).map_err(|error| {
            StoreError::Unavailable(
                format!("idempotency keys cannot be written: {}", plain(&error)).into(),
            )
        })
    }

    fn turn_to(
        &mut self,
        engine: &Engine,
        generations: Generations,
        turn: Turn,
    ) -> fjall::Result<()> {
        let next = engine.table(&table_name(self.origin, generations.newest))?;
        let mut changes = engine.changes();
        self.save(&mut changes, &generations);
        changes.commit()?;
        self.generations = generations;
        let newer = self.newer.replace(next);
        let (older, forgotten) = match turn {
            Turn::Older => (newer, None),
            Turn::Both => (None, newer),
        };
        let dropped = [std::mem::replace(&mut self.older, older), forgotten];
        dropped
            .into_iter()
            .flatten()
            .try_for_each(|table| engine.drop_table(table))?;
        engine.relieve_journal()
    }
}

fn state_key(origin: Origin) -> &'static str {
    match origin {
        Origin::Client => "keys-client",
        Origin::Gateway => "keys-gateway",
    }
}

fn table_name(origin: Origin, number: u64) -> String {
    format!("{PREFIX}{}-{number}", origin.label())
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[[u8; 8]; N]> {
    let (numbers, rest) = bytes.as_chunks();
    if rest.is_empty() {
        numbers.try_into().ok()
    } else {
        None
    }
}

fn from_bytes(bytes: &[u8]) -> Option<Generations> {
    let [newest, since, newer, older] = numbers(bytes)?;
    Some(Generations {
        newest: u64::from_be_bytes(newest),
        since: i64::from_be_bytes(since),
        newer_bytes: u64::from_be_bytes(newer),
        older_bytes: u64::from_be_bytes(older),
    })
}

fn to_bytes(generations: &Generations) -> Vec<u8> {
    [
        generations.newest.to_be_bytes(),
        generations.since.to_be_bytes(),
        generations.newer_bytes.to_be_bytes(),
        generations.older_bytes.to_be_bytes(),
    ]
    .concat()
}

fn record_from_bytes(bytes: &[u8]) -> Option<Record> {
    let [value, delta, at] = numbers(bytes)?.map(i64::from_be_bytes);
    Some(Record {
        value,
        delta,
        at: UnixMillis(at),
    })
}

fn record_to_bytes(record: &Record) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&record.value.to_be_bytes());
    bytes[8..16].copy_from_slice(&record.delta.to_be_bytes());
    bytes[16..].copy_from_slice(&record.at.0.to_be_bytes());
    bytes
}
