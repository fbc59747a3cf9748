//! The log of what was counted, in the order in which it was counted, for a consumer in the same process.
//!
//! Events are numbered from 1 without gaps; numbers are never used twice. An increment and its event become durable
//! together. Events of one batch share one record. A consumer reads after the last number it has processed, keeps that
//! number together with its own state, and trims what it will not need again: nothing else removes an event.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::closed;
use super::writer::{Command, Shared};
use crate::store::StoreError;

/// The `source` of every event.
pub const SOURCE: &str = "highpress-counter";

/// One increment, as it was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number.
    pub sequence: u64,
    /// The same for the same event whenever it is read, and for no other event anywhere.
    pub event_id: String,
    /// What was counted.
    pub resource_id: String,
    /// What kind of count it is.
    pub counter_type: String,
    /// What was added.
    pub delta: i64,
    /// The count after it.
    pub new_value: i64,
    /// When, in unix milliseconds.
    pub timestamp: i64,
    /// Who counted it.
    pub source: String,
}

/// Reads and trims the log. Clones read the same log.
#[derive(Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
    queue: SyncSender<Command>,
}

impl EventLog {
    pub(super) fn new(shared: Arc<Shared>, queue: SyncSender<Command>) -> Self {
        Self { shared, queue }
    }

    /// The number of the latest event; 0 if there never was one.
    pub fn last(&self) -> u64 {
        *self.shared.last_event.borrow()
    }

    /// Tells this log from any other: numbers mean nothing in another one.
    pub fn id(&self) -> u64 {
        self.shared.log
    }

    /// Events up to and including this number are trimmed, or about to be.
    pub fn trimmed(&self) -> u64 {
        self.shared.trimmed()
    }

    /// At least one event after `sequence` and not many more than `max`, oldest first; none if there is none yet.
    pub async fn read_after(&self, sequence: u64, max: usize) -> Result<Vec<Event>, StoreError> {
        let last = self.last();
        if sequence >= last || max == 0 {
            return Ok(Vec::new());
        }
        let shared = self.shared.clone();
        let read = move || read(&shared, sequence, last, max);
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|_| Err(closed()))
    }

    /// Returns when there is an event after `sequence`; an error when the store is closed.
    pub async fn wait_after(&self, sequence: u64) -> Result<(), StoreError> {
        let mut last = self.shared.last_event.subscribe();
        let mut closing = self.shared.closed.subscribe();
        tokio::select! {
            // Neither sender can go before `self` does.
            _ = last.wait_for(|last| *last > sequence) => Ok(()),
            _ = closing.wait_for(|closed| *closed) => Err(closed()),
        }
    }

    /// Says that events up to and including `up_to` are not needed any more. They go soon, not at once.
    pub fn trim(&self, up_to: u64) {
        self.shared.trim_up_to(up_to);
        // A full queue means that the writer is busy: it looks at the mark after each batch anyway.
        let _ = self.queue.try_send(Command::Trim);
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog")
            .field("last", &self.last())
            .finish_non_exhaustive()
    }
}

fn read(shared: &Shared, sequence: u64, last: u64, max: usize) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    let mut after = sequence;
    // Each record holds at least one event, so this many records are enough; one at a time, so not many too many.
    while events.len() < max && after < last {
        let Some(entry) = shared.engine()?.entries(after + 1..=last, 1)?.pop() else {
            break;
        };
        after = entry.last();
        entry.append_to(&mut events, sequence);
    }
    Ok(events)
}

/// Where the log stands: its identity, its latest number, and up to where it was trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Drawn at random when the log began: makes event ids unique across logs.
    pub(super) log: u64,
    pub(super) last: u64,
    pub(super) trimmed: u64,
}

impl Cursor {
    pub(super) fn new_log() -> Self {
        // RandomState is seeded by the system: good enough to tell logs apart.
        Self {
            log: RandomState::new().hash_one(std::process::id()),
            last: 0,
            trimmed: 0,
        }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            bytes
                .get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_be_bytes)
        };
        Some(Self {
            log: number(0)?,
            last: number(8)?,
            trimmed: number(16)?,
        })
    }

    pub(super) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.log.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.last.to_be_bytes());
        bytes[16..].copy_from_slice(&self.trimmed.to_be_bytes());
        bytes
    }
}

/// The events of one batch, as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Entry {
    #[prost(fixed64, tag = "1")]
    pub(super) log: u64,
    /// The number of the first event.
    #[prost(uint64, tag = "2")]
    pub(super) first: u64,
    /// When the batch was counted, in unix milliseconds.
    #[prost(int64, tag = "3")]
    pub(super) timestamp: i64,
    #[prost(message, repeated, tag = "4")]
    pub(super) events: Vec<StoredEvent>,
}

/// One event, as stored.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct StoredEvent {
    /// `resource_id:counter_type`.
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(sint64, tag = "2")]
    pub(super) delta: i64,
    #[prost(sint64, tag = "3")]
    pub(super) new_value: i64,
}

impl Entry {
    fn last(&self) -> u64 {
        (self.first + self.events.len() as u64).saturating_sub(1)
    }

    fn append_to(self, events: &mut Vec<Event>, after: u64) {
        let Self {
            log,
            first,
            timestamp,
            events: stored,
        } = self;
        for (sequence, event) in (first..)
            .zip(stored)
            .filter(|(sequence, _)| *sequence > after)
        {
            // The key was made from a checked id.
            let (resource_id, counter_type) =
                event.key.rsplit_once(':').unwrap_or((&event.key, ""));
            events.push(Event {
                sequence,
                event_id: format!("{log:016x}-{sequence}"),
                resource_id: resource_id.to_owned(),
                counter_type: counter_type.to_owned(),
                delta: event.delta,
                new_value: event.new_value,
                timestamp,
                source: SOURCE.to_owned(),
            });
        }
    }
}
