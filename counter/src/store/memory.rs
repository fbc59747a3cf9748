//! Counts in this process's memory: gone when it ends. For trying out, for tests, and as the measure of what the rest costs.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Counted, Increment, Store, StoreError, UnixMillis};
use crate::id::CounterId;

/// Enough that threads rarely meet at one lock.
const SHARDS: usize = 64;

type Shard = Mutex<HashMap<CounterId, i64>>;

/// The store in memory.
pub struct MemoryStore {
    shards: Box<[Shard]>,
    /// Chooses the shard; keyed at random, so that nobody can aim at one.
    hasher: RandomState,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, counter: &CounterId) -> &Shard {
        // The remainder is below SHARDS, so the cast loses nothing.
        let index = (self.hasher.hash_one(counter) % SHARDS as u64) as usize;
        &self.shards[index]
    }

    fn read(&self, counter: &CounterId) -> i64 {
        self.shard(counter)
            .lock()
            .get(counter)
            .copied()
            .unwrap_or(0)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
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

    async fn increment(&self, increment: Increment) -> Result<Counted, StoreError> {
        let Increment { counter, delta } = increment;
        let mut counts = self.shard(&counter).lock();
        let current = counts.get(&counter).copied().unwrap_or(0);
        let Some(value) = current.checked_add(delta) else {
            return Err(StoreError::Overflow {
                key: counter.key().into(),
                delta,
            });
        };
        counts.insert(counter, value);
        Ok(Counted {
            value,
            at: UnixMillis::now(),
        })
    }

    async fn get(&self, counter: &CounterId) -> Result<i64, StoreError> {
        Ok(self.read(counter))
    }

    async fn get_many(&self, counters: Vec<CounterId>) -> Result<Vec<i64>, StoreError> {
        Ok(counters.iter().map(|counter| self.read(counter)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn add(key: &str, delta: i64) -> Increment {
        Increment {
            counter: CounterId::from_key(key).unwrap(),
            delta,
        }
    }

    #[tokio::test]
    async fn overflow_changes_nothing() {
        let store = MemoryStore::new();
        assert_eq!(
            store
                .increment(add("a:like", i64::MAX))
                .await
                .unwrap()
                .value,
            i64::MAX
        );
        let error = store.increment(add("a:like", 1)).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Overflow { delta: 1, .. }),
            "{error}"
        );
        assert_eq!(
            store
                .get(&CounterId::from_key("a:like").unwrap())
                .await
                .unwrap(),
            i64::MAX
        );
        assert_eq!(
            store
                .increment(add("a:like", i64::MIN))
                .await
                .unwrap()
                .value,
            -1
        );
        assert!(store.increment(add("a:like", i64::MIN)).await.is_err());
    }
}
