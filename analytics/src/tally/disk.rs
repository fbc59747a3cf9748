//! The state on disk: each partition's records and position in an embedded engine, each checkpoint one atomic batch.
//!
//! A crash finds the state of the last checkpoint together with the position that belongs to it, so the events after it are
//! applied again, from the source, to a state that has not seen them. Values are absolute; nothing is ever added on disk.
//!
//! ```text
//! records:  partition u32, generation u32, record's key -> record's value      (see `records`)
//! meta:     "format" -> u32;  "source" -> identity;  "log" -> partitions u32, id;  "partition" u32 -> its generation, u32
//! ```
//! A state that is stored anew gets the next generation, which the same batch makes the one that counts.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::records::{Reader, bucket_key};
use super::shard::{Changes, Shard};
use crate::source::Log;
use crate::state::StateError;

const FORMAT: u32 = 2;
const CACHE: u64 = 8 << 20;
const JOURNAL: u64 = 64 << 20;
/// Records removed in one batch.
const REMOVE_AT_ONCE: usize = 10_000;

/// The stored state.
pub(super) struct Disk {
    dir: String,
    database: Database,
    records: Keyspace,
    meta: Keyspace,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens a directory, or makes it.
    pub(super) fn open(dir: &Path) -> Result<Self, StateError> {
        let shown = dir.display().to_string();
        let failed = |error: fjall::Error| storage(&shown, &error);
        std::fs::create_dir_all(dir).map_err(|error| failed(error.into()))?;
        let database = Database::builder(dir)
            .cache_size(CACHE)
            .max_journaling_size(JOURNAL)
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let keyspace = |name| {
            database
                .keyspace(name, KeyspaceCreateOptions::default)
                .map_err(failed)
        };
        let (records, meta) = (keyspace("records")?, keyspace("meta")?);
        let disk = Self {
            dir: shown.clone(),
            database,
            records,
            meta,
        };
        disk.check_format()?;
        Ok(disk)
    }

    fn check_format(&self) -> Result<(), StateError> {
        let Some(found) = self.get("format")? else {
            return self.set("format", &FORMAT.to_be_bytes());
        };
        let found = Reader(&found).u32();
        if found == Some(FORMAT) {
            Ok(())
        } else {
            Err(self.foreign(&format!("format {found:?}, not {FORMAT}")))
        }
    }

    /// The source that the state is of.
    pub(super) fn source(&self) -> Result<Option<String>, StateError> {
        let source = self.get("source")?;
        Ok(source.map(|source| String::from_utf8_lossy(&source).into_owned()))
    }

    pub(super) fn set_source(&self, source: &str) -> Result<(), StateError> {
        self.set("source", source.as_bytes())
    }

    /// The log that the positions are of.
    pub(super) fn log(&self) -> Result<Option<Log>, StateError> {
        let Some(stored) = self.get("log")? else {
            return Ok(None);
        };
        let (partitions, id) = stored.split_first_chunk().unwrap_or((&[0; 4], &[]));
        Ok(Some(Log {
            partitions: u32::from_be_bytes(*partitions),
            id: String::from_utf8_lossy(id).into_owned(),
        }))
    }

    pub(super) fn set_log(&self, log: &Log) -> Result<(), StateError> {
        let value = [&log.partitions.to_be_bytes()[..], log.id.as_bytes()].concat();
        self.set("log", &value)
    }

    fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<fjall::UserValue>, StateError> {
        self.meta.get(key).map_err(|error| self.failed(&error))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        batch.insert(&self.meta, key, value);
        batch.commit().map_err(|error| self.failed(&error))
    }

    /// The partitions that are stored.
    pub(super) fn partitions(&self) -> Result<Vec<u32>, StateError> {
        let mut partitions = Vec::new();
        for entry in self.meta.prefix("partition") {
            let key = entry.key().map_err(|error| self.failed(&error))?;
            let partition = key.strip_prefix(b"partition".as_slice());
            let partition = partition.and_then(|number| Reader(number).u32());
            partitions.push(partition.ok_or_else(|| self.foreign("a partition's name"))?);
        }
        Ok(partitions)
    }

    fn generation(&self, partition: u32) -> Result<Option<u32>, StateError> {
        let found = self.get(generation_key(partition))?;
        Ok(found.and_then(|generation| Reader(&generation).u32()))
    }

    /// Reads a partition; one that is not stored is empty.
    pub(super) fn load(&self, partition: u32, now: i64) -> Result<Shard, StateError> {
        let mut shard = Shard::default();
        if let Some(generation) = self.generation(partition)? {
            for entry in self.records.prefix(prefix(partition, generation)) {
                let (key, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
                let record = key.get(8..).unwrap_or_default();
                shard
                    .restore(record, &value)
                    .ok_or_else(|| self.foreign(&format!("an entry {}", key.escape_ascii())))?;
            }
        }
        shard.settle(now);
        Ok(shard)
    }

    /// Stores a partition's checkpoint durably, and drops what is past its retention.
    pub(super) fn write(&self, partition: u32, changes: &Changes) -> Result<(), StateError> {
        let stored = self.generation(partition)?;
        let generation = match stored {
            Some(stored) if changes.anew => stored.wrapping_add(1),
            Some(stored) => stored,
            None => {
                // What a crash has left of a partition that was forgotten must not come back.
                self.remove(&partition.to_be_bytes(), None)?;
                0
            }
        };
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        let prefix = prefix(partition, generation);
        for (key, value) in changes.records.iter() {
            batch.insert(&self.records, [&prefix, key].concat(), value);
        }
        if stored != Some(generation) {
            batch.insert(
                &self.meta,
                generation_key(partition),
                generation.to_be_bytes(),
            );
        }
        batch.commit().map_err(|error| self.failed(&error))?;
        if let Some(stored) = stored.filter(|stored| *stored != generation) {
            self.remove(&self::prefix(partition, stored), None)?;
        }
        changes.oldest.iter().try_for_each(|(resolution, oldest)| {
            let all = [&prefix[..], &bucket_key(*resolution, i64::MIN)].concat();
            let kept = [&prefix[..], &bucket_key(*resolution, *oldest)].concat();
            self.remove(&all, Some(&kept))
        })
    }

    /// Removes what begins with a prefix, or what stands from one key to before another.
    fn remove(&self, from: &[u8], to: Option<&[u8]>) -> Result<(), StateError> {
        loop {
            let mut batch = self.database.batch();
            let found = match to {
                Some(to) => self.records.range(from..to),
                None => self.records.prefix(from),
            };
            for entry in found.take(REMOVE_AT_ONCE) {
                let key = entry.key().map_err(|error| self.failed(&error))?;
                batch.remove(&self.records, key);
            }
            let removed = batch.len();
            batch.commit().map_err(|error| self.failed(&error))?;
            if removed < REMOVE_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Forgets a partition.
    pub(super) fn clear(&self, partition: u32) -> Result<(), StateError> {
        let Some(generation) = self.generation(partition)? else {
            return Ok(());
        };
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        batch.remove(&self.meta, generation_key(partition));
        batch.commit().map_err(|error| self.failed(&error))?;
        self.remove(&prefix(partition, generation), None)
    }

    fn failed(&self, error: &fjall::Error) -> StateError {
        storage(&self.dir, error)
    }

    fn foreign(&self, why: &str) -> StateError {
        StateError::Foreign {
            dir: self.dir.clone(),
            why: why.to_owned(),
        }
    }
}

fn storage(dir: &str, error: &fjall::Error) -> StateError {
    let why = match error {
        fjall::Error::Locked => "in use by another process".to_owned(),
        fjall::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    StateError::Storage {
        dir: dir.to_owned(),
        why,
    }
}

fn prefix(partition: u32, generation: u32) -> [u8; 8] {
    (u64::from(partition) << 32 | u64::from(generation)).to_be_bytes()
}

fn generation_key(partition: u32) -> Vec<u8> {
    [b"partition".as_slice(), &partition.to_be_bytes()].concat()
}
