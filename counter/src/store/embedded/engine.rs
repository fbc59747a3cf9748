//! The tables and what is in them: with `keys`, the only file that knows the layout on disk.
//!
//! `counts`: `resource_id:counter_type` -> the count, 8 bytes big-endian. `events`: the last sequence number of a batch -> the
//! batch's events. `meta`: `format` -> 1, `log` -> where the event log stands, `keys-…` -> where idempotency keys stand. It
//! refuses formats that it does not know.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch as WriteBatch, PersistMode,
};
use prost::Message as _;

use super::events::{Cursor, Entry};
use crate::id::CounterId;
use crate::store::StoreError;

const FORMAT: &[u8] = b"1";
const FORMAT_KEY: &str = "format";
const LOG_KEY: &str = "log";
/// Counts are small: this much memtable is some hundred thousand counters between two flushes.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The journal is replayed at start: this bounds how long that takes.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;

/// Why a directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It was written by another version.
    #[error("{} has the unknown format {found}: it was written by another version", .directory.display())]
    Format {
        /// The directory.
        directory: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// It cannot be made.
    #[error("{} cannot be made", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// It cannot be read or written.
    #[error("{} cannot be opened: {}", .0.display(), plain(.1))]
    Engine(PathBuf, fjall::Error),
    /// The writer's thread cannot be started.
    #[error("no thread for the writer")]
    Thread(#[source] io::Error),
    /// The process is ending.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

/// An open directory.
pub(super) struct Engine {
    database: Database,
    counts: Keyspace,
    events: Keyspace,
    meta: Keyspace,
}

impl Engine {
    pub(super) fn open(directory: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(directory)
            .map_err(|error| OpenError::Directory(directory.to_path_buf(), error))?;
        let failed = |error| match error {
            fjall::Error::Locked => OpenError::InUse(directory.to_path_buf()),
            error => OpenError::Engine(directory.to_path_buf(), error),
        };
        let engine = Self::open_tables(directory).map_err(failed)?;
        match engine.meta.get(FORMAT_KEY).map_err(failed)? {
            Some(format) if &*format == FORMAT => Ok(engine),
            Some(format) => Err(OpenError::Format {
                directory: directory.to_path_buf(),
                found: String::from_utf8_lossy(&format).into_owned(),
            }),
            None => {
                engine.meta.insert(FORMAT_KEY, FORMAT).map_err(failed)?;
                engine
                    .database
                    .persist(PersistMode::SyncAll)
                    .map_err(failed)?;
                Ok(engine)
            }
        }
    }

    fn open_tables(directory: &Path) -> fjall::Result<Self> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        Ok(Self {
            counts: open_table(&database, "counts")?,
            events: open_table(&database, "events")?,
            meta: open_table(&database, "meta")?,
            database,
        })
    }

    /// One count; 0 if it was never written.
    pub(super) fn count(&self, counter: &CounterId) -> Result<i64, StoreError> {
        let Some(stored) = self
            .counts
            .get(counter.key())
            .map_err(|error| unreadable(&error))?
        else {
            return Ok(0);
        };
        let bytes = <[u8; 8]>::try_from(&*stored).map_err(|_| StoreError::NotACount {
            key: counter.key().into(),
            why: format!("{} bytes instead of 8", stored.len()).into(),
        })?;
        Ok(i64::from_be_bytes(bytes))
    }

    /// Every counter with its count, in the order of their names.
    pub(super) fn each_count(
        &self,
        mut take: impl FnMut(CounterId, i64),
    ) -> Result<(), StoreError> {
        for guard in self.counts.iter() {
            let (key, value) = guard.into_inner().map_err(|error| unreadable(&error))?;
            let counter = std::str::from_utf8(&key)
                .ok()
                .and_then(|key| CounterId::from_key(key).ok());
            let count = <[u8; 8]>::try_from(&*value).map(i64::from_be_bytes);
            let (Some(counter), Ok(count)) = (counter, count) else {
                return Err(StoreError::Broken(
                    "what is in place of a count is none".into(),
                ));
            };
            take(counter, count);
        }
        Ok(())
    }

    /// Where the event log stands; a new log gets its identity here.
    pub(super) fn cursor(&self) -> Result<Cursor, OpenError> {
        let stored = self
            .meta
            .get(LOG_KEY)
            .map_err(|error| OpenError::Engine(PathBuf::from(LOG_KEY), error))?;
        Ok(stored
            .and_then(|bytes| Cursor::from_bytes(&bytes))
            .unwrap_or_else(Cursor::new_log))
    }

    /// Up to `max` entries that hold events in the range, oldest first.
    pub(super) fn entries(
        &self,
        range: RangeInclusive<u64>,
        max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let keys = range.start().to_be_bytes()..=range.end().to_be_bytes();
        let mut entries = Vec::new();
        for guard in self.events.range(keys).take(max) {
            let bytes = guard.value().map_err(|error| unreadable(&error))?;
            let entry = Entry::decode(&*bytes).map_err(|error| {
                StoreError::Broken(format!("an event cannot be read: {error}").into())
            })?;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The keys of up to `max` entries in the range, oldest first.
    pub(super) fn entry_keys(
        &self,
        range: RangeInclusive<u64>,
        max: usize,
    ) -> Result<Vec<u64>, StoreError> {
        let keys = range.start().to_be_bytes()..=range.end().to_be_bytes();
        let mut found = Vec::new();
        for guard in self.events.range(keys).take(max) {
            let key = guard.key().map_err(|error| unreadable(&error))?;
            found.extend(<[u8; 8]>::try_from(&*key).map(u64::from_be_bytes));
        }
        Ok(found)
    }

    /// Opens a table, or makes it.
    pub(super) fn table(&self, name: &str) -> fjall::Result<Keyspace> {
        open_table(&self.database, name)
    }

    /// Drops a table with all that is in it; its files go when nobody reads them any more.
    pub(super) fn drop_table(&self, table: Keyspace) -> fjall::Result<()> {
        self.database.delete_keyspace(table)
    }

    /// Lets the journal be cut. The engine looks at its length only when a table's memory is full and flushed, which a
    /// table that is dropped before need never be; `meta` is small, and so is flushing it.
    pub(super) fn relieve_journal(&self) -> fjall::Result<()> {
        self.meta.rotate_memtable().map(|_| ())
    }

    pub(super) fn table_names(&self) -> impl Iterator<Item = String> {
        let names = self.database.list_keyspace_names();
        names.into_iter().map(|name| name.to_string())
    }

    pub(super) fn meta(&self, key: &str) -> fjall::Result<Option<Vec<u8>>> {
        Ok(self.meta.get(key)?.map(|bytes| bytes.to_vec()))
    }

    /// An empty set of changes.
    pub(super) fn changes(&self) -> Changes<'_> {
        Changes {
            engine: self,
            batch: self.database.batch(),
        }
    }
}

/// Changes that become true together or not at all.
pub(super) struct Changes<'a> {
    engine: &'a Engine,
    batch: WriteBatch,
}

impl Changes<'_> {
    pub(super) fn set_count(&mut self, counter: &CounterId, value: i64) {
        self.batch
            .insert(&self.engine.counts, counter.key(), value.to_be_bytes());
    }

    /// Adds an entry whose last event has this number.
    pub(super) fn add_entry(&mut self, last: u64, entry: &Entry) {
        self.batch.insert(
            &self.engine.events,
            last.to_be_bytes(),
            entry.encode_to_vec(),
        );
    }

    pub(super) fn remove_entry(&mut self, last: u64) {
        self.batch.remove(&self.engine.events, last.to_be_bytes());
    }

    pub(super) fn set_cursor(&mut self, cursor: &Cursor) {
        self.batch
            .insert(&self.engine.meta, LOG_KEY, cursor.to_bytes());
    }

    pub(super) fn insert(&mut self, table: &Keyspace, key: &str, value: &[u8]) {
        self.batch.insert(table, key, value);
    }

    pub(super) fn set_meta(&mut self, key: &str, value: &[u8]) {
        self.batch.insert(&self.engine.meta, key, value);
    }

    /// Writes the changes and syncs them to the disk.
    pub(super) fn commit(self) -> fjall::Result<()> {
        self.batch.durability(Some(PersistMode::SyncData)).commit()
    }
}

fn open_table(database: &Database, name: &str) -> fjall::Result<Keyspace> {
    database.keyspace(name, || {
        KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
    })
}

pub(super) fn unreadable(error: &fjall::Error) -> StoreError {
    StoreError::Unavailable(format!("the embedded store cannot be read: {}", plain(error)).into())
}

/// The engine's error as a person reads it: the system's own words where there are some.
pub(super) fn plain(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) => error.to_string(),
        fjall::Error::Poisoned => "an earlier write failed".to_owned(),
        error => error.to_string(),
    }
}
