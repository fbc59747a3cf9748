//! The event log as an outbox for the relay: one shard, read and trimmed by this process alone.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;

use super::events::{Event, EventLog};
use crate::outbox::{Chunk, Entry, Lines, Outbox, Position, Trim, Unsent};
use crate::store::{StoreError, UnixMillis};

/// Events read for each entry that is asked for: the log is asked for events.
const EVENTS_AN_ENTRY: usize = 64;

#[async_trait]
impl Outbox for EventLog {
    async fn unsent(&self) -> Result<Unsent, StoreError> {
        let trimmed = self.trimmed();
        let oldest = self.read_after(trimmed, 1).await?;
        Ok(Unsent {
            events: self.last().saturating_sub(trimmed),
            oldest: oldest.first().map(|event| UnixMillis(event.timestamp)),
        })
    }

    async fn lease(&self, _owner: &str) -> Result<Vec<u32>, StoreError> {
        Ok(vec![0])
    }

    async fn leave(&self, _owner: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn read(
        &self,
        _shard: u32,
        after: Option<Position>,
        max: usize,
    ) -> Result<Chunk, StoreError> {
        let after = after.map_or_else(|| self.trimmed(), |position| position.0);
        let events = self
            .read_after(after, max.saturating_mul(EVENTS_AN_ENTRY))
            .await?;
        let entries = events
            .chunks(EVENTS_AN_ENTRY)
            .map(|events| entry(self.id(), events))
            .collect();
        Ok(Chunk {
            entries,
            server: Arc::default(),
        })
    }

    async fn trim(&self, _shard: u32, through: &Trim) -> Result<(), StoreError> {
        EventLog::trim(self, through.last);
        Ok(())
    }
}

fn entry(log: u64, events: &[Event]) -> Entry {
    let mut text = String::new();
    let mut keys = Vec::with_capacity(events.len());
    for event in events {
        let start = text.len();
        // Writing to memory cannot fail.
        let _ = write!(text, "{}:{}", event.resource_id, event.counter_type);
        keys.push(start..text.len());
    }
    let mut lines = Lines::new(text.into());
    for (key, event) in keys.into_iter().zip(events) {
        lines.push(key, event.delta, event.new_value, event.timestamp);
    }
    let sequence = |event: Option<&Event>| event.map_or(0, |event| event.sequence);
    Entry {
        position: Position(sequence(events.last()), 0),
        outbox: format!("{log:016x}").into(),
        first: sequence(events.first()),
        lines,
    }
}
