//! The outbox: events that are counted but not yet in Kafka, as the relay sees them.
//!
//! A store that keeps one appends each increment's event in the same atomic step as the count. Events stand in shards; all those of
//! one counter stand in one shard, numbered without gaps. Whoever relays reads a shard from its first entry on, and trims
//! what Kafka has acknowledged: nothing else removes an event.
//!
//! Why several relays cannot disorder a shard, leases or not: each sends events that follow each other, from the first one that
//! was not trimmed when it began, and what was trimmed is in Kafka. So whenever an event is appended to a partition, all
//! those before it have been appended already, and a resend is a repeat that its number gives away. Trimming what is
//! acknowledged is right whoever does it. Leases spare work; nothing depends on a clock.

mod event;
pub(crate) mod partition;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use self::event::OutboxEvent;
pub(crate) use self::partition::partition;
use crate::store::{StoreError, UnixMillis};

/// What waits in an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unsent {
    /// Events that are not known to be in Kafka.
    pub(crate) events: u64,
    /// When the oldest of them was counted.
    pub(crate) oldest: Option<UnixMillis>,
}

impl Unsent {
    /// The age of the oldest event in whole seconds, begun ones counted: 0 only when nothing waits.
    pub(crate) fn oldest_seconds(&self, now: UnixMillis) -> u64 {
        let age = |oldest: UnixMillis| (now.0.saturating_sub(oldest.0) / 1000).max(0) + 1;
        match self.oldest {
            Some(oldest) if self.events > 0 => age(oldest).unsigned_abs(),
            _ => u64::from(self.events > 0),
        }
    }
}

/// Where an entry stands in its shard; later entries have larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub(crate) u64, pub(crate) u64);

/// Some events that stand in the outbox as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    /// The shard's name, for ever.
    pub(crate) outbox: Box<str>,
    /// The number of the first event.
    pub(crate) first: u64,
    /// The key and `new_value delta timestamp` of each event.
    pub(crate) lines: Lines,
}

/// The events of an entry, as stored: no allocation for each of them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    text: Box<str>,
    /// Where each event begins: key, value, delta, time.
    events: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    key: (usize, usize),
    delta: i64,
    new_value: i64,
    timestamp: i64,
}

impl Lines {
    /// An empty set over this text.
    pub(crate) fn new(text: Box<str>) -> Self {
        Self {
            text,
            events: Vec::new(),
        }
    }

    /// Adds an event whose key stands in this range of the text.
    pub(crate) fn push(
        &mut self,
        key: std::ops::Range<usize>,
        delta: i64,
        new_value: i64,
        timestamp: i64,
    ) {
        self.events.push(Line {
            key: (key.start, key.end),
            delta,
            new_value,
            timestamp,
        });
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events", self.events.len())
    }
}

impl Entry {
    /// How many events it holds.
    pub(crate) fn len(&self) -> usize {
        self.lines.events.len()
    }

    /// The number of its last event.
    pub(crate) fn last(&self) -> u64 {
        (self.first + self.len() as u64).saturating_sub(1)
    }

    /// Its events, in the order in which they were counted.
    pub(crate) fn events(&self) -> impl Iterator<Item = OutboxEvent<'_>> {
        let text = &*self.lines.text;
        (self.first..)
            .zip(&self.lines.events)
            .map(|(sequence, line)| {
                OutboxEvent {
                    // The ranges were taken from this text.
                    key: text.get(line.key.0..line.key.1).unwrap_or_default(),
                    delta: line.delta,
                    new_value: line.new_value,
                    timestamp: line.timestamp,
                    sequence,
                }
            })
    }
}

/// A part of a shard.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) entries: Vec<Entry>,
    /// Which server this came from. From another one, the shard is to be read from its beginning.
    pub(crate) server: Arc<String>,
}

/// The outbox of a store.
#[async_trait]
pub(crate) trait Outbox: fmt::Debug + Send + Sync + 'static {
    /// What waits now.
    async fn unsent(&self) -> Result<Unsent, StoreError>;

    /// Takes part in the work, or goes on doing so: which shards are this relay's until it asks again, soon.
    async fn lease(&self, owner: &str) -> Result<Vec<u32>, StoreError>;

    /// Leaves the work to others.
    async fn leave(&self, owner: &str) -> Result<(), StoreError>;

    /// Entries of a shard after a position, or from the first one on; `max` or a few more.
    async fn read(
        &self,
        shard: u32,
        after: Option<Position>,
        max: usize,
    ) -> Result<Chunk, StoreError>;

    /// Removes the entry and all before it, because Kafka has them.
    async fn trim(&self, shard: u32, through: &Trim) -> Result<(), StoreError>;
}

/// The last entry that may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trim {
    pub(crate) position: Position,
    /// The number of its last event.
    pub(crate) last: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unsent_is_the_only_zero() {
        let now = UnixMillis(10_000);
        let unsent = |events, oldest: Option<i64>| Unsent {
            events,
            oldest: oldest.map(UnixMillis),
        };
        assert_eq!(unsent(0, None).oldest_seconds(now), 0);
        assert_eq!(unsent(1, Some(10_000)).oldest_seconds(now), 1);
        assert_eq!(unsent(1, Some(7_999)).oldest_seconds(now), 3);
        assert_eq!(
            unsent(1, Some(20_000)).oldest_seconds(now),
            1,
            "a clock set back"
        );
        assert_eq!(unsent(1, None).oldest_seconds(now), 1);
    }
}
