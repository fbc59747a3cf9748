//! Where counts are kept: one trait, three implementations, and the errors that they share.
//!
//! A store answers an increment only when it is done for good (as durable as the store is), changes nothing when it
//! answers [`StoreError::Overflow`] or [`StoreError::Unavailable`], and says [`StoreError::OutcomeUnknown`] when it cannot
//! know: it never repeats an increment by itself. An increment with an idempotency key is remembered with its result in the
//! same atomic step, and a repeat within the key's retention gets that result.

pub mod embedded;
pub mod memory;
pub mod redis;
mod remember;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::id::CounterId;
use crate::idempotency::{IdempotencyKey, Origin};

pub use self::embedded::EmbeddedStore;
pub use self::memory::MemoryStore;
pub use self::redis::RedisStore;

/// What to add to which counter.
#[derive(Debug, Clone)]
pub struct Increment {
    /// Which counter.
    pub counter: CounterId,
    /// What to add; not 0.
    pub delta: i64,
    /// By what a repeat is known.
    pub key: Option<IdempotencyKey>,
}

/// What an increment came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The count after it.
    pub value: i64,
    /// When it was counted.
    pub at: UnixMillis,
    /// Whether this is the answer to an earlier increment with the same key.
    pub replayed: bool,
}

/// A point of wall-clock time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The time now; 0 on a clock set before 1970.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// Why a store could not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The count would leave the range of an `i64`. Nothing was changed.
    #[error(
        "adding {delta} to `{key}` would leave the range of a 64-bit count; nothing was changed"
    )]
    Overflow {
        /// The counter.
        key: Box<str>,
        /// What was to be added.
        delta: i64,
    },
    /// What is stored under the counter's name is not a count. Nothing was changed.
    #[error("`{key}` does not hold a count: {why}")]
    NotACount {
        /// Where it stands, as the store names it.
        key: Box<str>,
        /// What it holds instead.
        why: Arc<str>,
    },
    /// The key was used for another increment of this counter. Nothing was changed.
    #[error(
        "this idempotency key was used to add {first} to `{key}`, not {delta}; nothing was changed"
    )]
    KeyReused {
        /// The counter.
        key: Box<str>,
        /// What the key's increment added.
        first: i64,
        /// What was to be added.
        delta: i64,
    },
    /// There is no room to remember another key. Nothing was changed.
    #[error(
        "there is no room for another idempotency key: those of the {}s take all of their {memory} bytes; nothing was changed",
        origin.label()
    )]
    KeysFull {
        /// Whose keys they are.
        origin: Origin,
        /// The room that they have.
        memory: u64,
    },
    /// There is no room for another event. Nothing was changed.
    #[error("the outbox is full: {limit} events wait for Kafka; nothing was changed")]
    OutboxFull {
        /// The events that it may hold.
        limit: u64,
    },
    /// A cluster of Redis cannot keep a counter of this name: braces would place it elsewhere. Nothing was changed.
    #[error("resource_id must not contain braces when counts are in a Redis cluster")]
    Braces,
    /// The store is away or cannot take more. Nothing was changed.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// The store broke while it was at work: the increment may have been counted or not.
    #[error("{0}; whether the increment was counted is not known")]
    OutcomeUnknown(Arc<str>),
    /// The store itself is damaged or answers nonsense.
    #[error("{0}")]
    Broken(Arc<str>),
}

/// Keeps counts.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// `memory`, `embedded` or `redis`.
    fn kind(&self) -> &'static str;

    /// Bytes that remembered keys take, by [`Origin`].
    fn remembered(&self) -> [u64; Origin::ALL.len()];

    /// Drops keys that are long past their retention. For whoever calls it now and then, so that an idle store is empty.
    async fn forget(&self);

    /// Adds to one counter.
    async fn increment(&self, increment: Increment) -> Result<Counted, StoreError>;

    /// Reads one counter; 0 if it was never written.
    async fn get(&self, counter: &CounterId) -> Result<i64, StoreError>;

    /// Reads many counters in one round trip: one value each, in the same order.
    async fn get_many(&self, counters: Vec<CounterId>) -> Result<Vec<i64>, StoreError>;
}
