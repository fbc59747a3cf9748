//! Counts on disk in one directory, in this process: acknowledged means fsynced.
//!
//! One writer thread takes all increments that wait, applies them as one atomic batch, syncs once and answers all of them (group
//! commit), so that the cost of a sync is shared. Idempotency keys are in the same batch; with [`Events::On`] each increment
//! leaves an event there too: see [`EventLog`]. Reads go straight to the tables. A directory belongs to one process at a time.
//! Engine: <https://docs.rs/fjall>.

mod batch;
mod engine;
mod events;
mod keys;
mod outbox;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use async_trait::async_trait;
use service_kit::Readiness;
use tokio::sync::oneshot;

use self::tables::Tables;
use self::writer::{Command, Place, Request, Shared, Writer};
use super::{Counted, Increment, Store, StoreError};
use crate::id::CounterId;
use crate::idempotency::{Origin, Terms};

pub use self::engine::OpenError;
pub use self::events::{Event, EventLog, SOURCE};

/// Increments that may wait for the writer. At this depth a disk is far behind: more would only wait longer.
const QUEUE: usize = 16 * 1024;
/// A read of more counters than this leaves the runtime's thread, because each may have to go to the disk.
const INLINE_READS: usize = 16;

/// Whether increments leave events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    /// No events.
    Off,
    /// One event for each increment, until it is trimmed.
    On,
    /// Likewise, and increments are refused while so many are not trimmed.
    AtMost(u64),
}

impl Events {
    /// How many events may be there at a time; none if there are no events.
    fn limit(self) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::On => Some(u64::MAX),
            Self::AtMost(limit) => Some(limit),
        }
    }
}

/// The store in a directory. Dropping it waits for the batch under way and gives the directory free.
pub struct EmbeddedStore {
    directory: PathBuf,
    queue: SyncSender<Command>,
    shared: Arc<Shared>,
    events: Events,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the directory, or makes it, and starts the writer. After a crash this is where the journal is replayed.
    pub async fn open(
        directory: &Path,
        events: Events,
        terms: Terms,
        readiness: Readiness,
    ) -> Result<Self, OpenError> {
        let place = Place {
            directory: directory.to_path_buf(),
            events,
            terms,
            readiness,
        };
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(place)).await;
        opened.unwrap_or_else(|error| Err(OpenError::Interrupted(error.to_string())))
    }

    fn open_blocking(place: Place) -> Result<Self, OpenError> {
        let (directory, events) = (place.directory.clone(), place.events);
        let tables = Tables::open(&directory, &place.terms)?;
        let shared = Arc::new(Shared::new(&tables));
        let (queue, commands) = sync_channel(QUEUE);
        let writer = Writer::new(place, commands, shared.clone(), tables);
        let writer = std::thread::Builder::new()
            .name("counter-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        Ok(Self {
            directory,
            queue,
            shared,
            events,
            writer: Some(writer),
        })
    }

    /// Gives every counter with its count.
    pub(crate) fn each_count(&self, take: impl FnMut(CounterId, i64)) -> Result<(), StoreError> {
        self.shared.engine()?.each_count(take)
    }

    /// The log of events, if the store was opened with it.
    pub fn events(&self) -> Option<EventLog> {
        match self.events {
            Events::Off => None,
            Events::On | Events::AtMost(_) => {
                Some(EventLog::new(self.shared.clone(), self.queue.clone()))
            }
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Waits for room if need be: the writer is alive until it has seen this.
        let _ = self.queue.send(Command::Close);
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the embedded store's writer panicked");
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("directory", &self.directory)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn remembered(&self) -> [u64; Origin::ALL.len()] {
        self.shared.key_bytes()
    }

    async fn forget(&self) {
        // A full queue means that the writer is busy, and next time is early enough.
        let _ = self.queue.try_send(Command::Forget);
    }

    async fn increment(&self, increment: Increment) -> Result<Counted, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .try_send(Command::Increment(Request { increment, reply }))
            .map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Unavailable(
                    "the disk is too slow: too many increments are waiting for it".into(),
                ),
                TrySendError::Disconnected(_) => closed(),
            })?;
        // The writer answers every request it takes; it can only vanish by a panic, with the batch in its hands.
        answer.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown(
                "the embedded store has stopped".into(),
            ))
        })
    }

    async fn get(&self, counter: &CounterId) -> Result<i64, StoreError> {
        self.shared.engine()?.count(counter)
    }

    async fn get_many(&self, counters: Vec<CounterId>) -> Result<Vec<i64>, StoreError> {
        let engine = self.shared.engine()?;
        let inline = counters.len() <= INLINE_READS;
        let read = move || {
            counters
                .iter()
                .map(|counter| engine.count(counter))
                .collect()
        };
        if inline {
            return read();
        }
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the embedded store is closed".into())
}
