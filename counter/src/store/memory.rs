//! Counts in this process's memory: gone when it ends. For trying out, for tests, and as the measure of what the rest costs.

mod shard;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use async_trait::async_trait;
use parking_lot::Mutex;

use self::shard::{Room, Shard};
use super::{Counted, Increment, Store, StoreError, UnixMillis};
use crate::id::CounterId;
use crate::idempotency::{Origin, Terms};

/// Enough that threads rarely meet at one lock.
const SHARDS: usize = 64;

/// The store in memory.
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    /// Chooses the shard; keyed at random, so that nobody can aim at one.
    hasher: RandomState,
    /// What keys take, by origin.
    rooms: [Room; Origin::ALL.len()],
}

impl MemoryStore {
    /// An empty store.
    pub fn new(terms: Terms) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            rooms: Origin::ALL.map(|origin| Room::new(origin, terms.of(origin))),
        }
    }

    fn shard(&self, counter: &CounterId) -> &Mutex<Shard> {
        // The remainder is below SHARDS, so the cast loses nothing.
        let index = (self.hasher.hash_one(counter) % SHARDS as u64) as usize;
        &self.shards[index]
    }

    fn read(&self, counter: &CounterId) -> i64 {
        self.shard(counter).lock().count(counter)
    }

    fn increment_at(&self, now: UnixMillis, increment: Increment) -> Result<Counted, StoreError> {
        let Increment {
            counter,
            delta,
            key,
        } = increment;
        let shard = self.shard(&counter);
        let Some(key) = key else {
            let value = shard.lock().add(counter, delta)?;
            return Ok(Counted {
                value,
                at: now,
                replayed: false,
            });
        };
        let field = key.field(&counter);
        let room = &self.rooms[key.origin() as usize];
        let mut shard = shard.lock();
        let forgotten = shard.turn(now, room);
        let counted = shard.add_once(now, room, counter, delta, field);
        drop(shard);
        // Freeing a whole generation takes time: not under the lock.
        drop(forgotten);
        counted
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn remembered(&self) -> [u64; Origin::ALL.len()] {
        self.rooms.each_ref().map(Room::taken)
    }

    async fn forget(&self) {
        let now = UnixMillis::now();
        for shard in &self.shards {
            for room in &self.rooms {
                let forgotten = shard.lock().turn(now, room);
                drop(forgotten);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn increment(&self, increment: Increment) -> Result<Counted, StoreError> {
        self.increment_at(UnixMillis::now(), increment)
    }

    async fn get(&self, counter: &CounterId) -> Result<i64, StoreError> {
        Ok(self.read(counter))
    }

    async fn get_many(&self, counters: Vec<CounterId>) -> Result<Vec<i64>, StoreError> {
        Ok(counters.iter().map(|counter| self.read(counter)).collect())
    }
}
