//! The state on disk: counts, cells and positions in an embedded engine, each checkpoint one atomic batch.
//!
//! A crash finds the state of the last checkpoint together with the positions that belong to it, so the events after it are
//! applied again, from the source, to a state that has not seen them. Values are absolute; nothing is ever added on disk.
//!
//! ```text
//! counts:  type 0 resource                          -> count, i64
//! cells:   resolution u8, bucket i64, type 0 resource -> sum, i128     (order is time: retention drops a prefix)
//! meta:    "format" -> u32;  "source" -> identity;  "newest" -> i64;  "next" partition u32 -> u64
//! ```
//! All numbers big-endian, a bucket's sign bit flipped so that bytes sort like numbers. Ids have no control characters.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::memory::{Checkpoint, Memory};
use crate::state::{Resolution, StateError};

const FORMAT: u32 = 1;
const CACHE: u64 = 8 << 20;
const JOURNAL: u64 = 64 << 20;
/// Expired cells removed in one batch.
const REMOVE_AT_ONCE: usize = 10_000;

/// The stored state.
pub(super) struct Disk {
    dir: String,
    database: Database,
    counts: Keyspace,
    cells: Keyspace,
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
        let (counts, cells, meta) = (keyspace("counts")?, keyspace("cells")?, keyspace("meta")?);
        let disk = Self {
            dir: shown.clone(),
            database,
            counts,
            cells,
            meta,
        };
        disk.check_format()?;
        Ok(disk)
    }

    fn check_format(&self) -> Result<(), StateError> {
        let Some(found) = self
            .meta
            .get("format")
            .map_err(|error| self.failed(&error))?
        else {
            return self
                .meta
                .insert("format", FORMAT.to_be_bytes())
                .map_err(|error| self.failed(&error));
        };
        let found = number(&found).map(u32::from_be_bytes);
        if found == Some(FORMAT) {
            Ok(())
        } else {
            Err(self.foreign(&format!("format {found:?}, not {FORMAT}")))
        }
    }

    /// Reads everything.
    pub(super) fn load(&self) -> Result<Memory, StateError> {
        let mut memory = Memory::default();
        self.each(&self.meta, |key, value| {
            match key {
                b"format" => {}
                b"source" => memory.source = Some(std::str::from_utf8(value).ok()?.into()),
                b"newest" => memory.newest_ms = i64::from_be_bytes(number(value)?),
                _ => {
                    let partition = u32::from_be_bytes(number(key.strip_prefix(b"next")?)?);
                    let next = u64::from_be_bytes(number(value)?);
                    memory.positions.set(partition, next);
                }
            }
            Some(())
        })?;
        self.each(&self.counts, |key, value| {
            let (counter_type, resource) = split_name(key)?;
            let value = i64::from_be_bytes(number(value)?);
            memory.counters(counter_type).restore_count(resource, value);
            Some(())
        })?;
        self.each(&self.cells, |key, value| {
            let (resolution, bucket, name) = split_cell(key)?;
            let (counter_type, resource) = split_name(name)?;
            let sum = i128::from_be_bytes(number(value)?);
            let counters = memory.counters(counter_type);
            counters.restore_cell(resolution, bucket, resource, sum);
            Some(())
        })?;
        Ok(memory)
    }

    fn each(
        &self,
        keyspace: &Keyspace,
        mut one: impl FnMut(&[u8], &[u8]) -> Option<()>,
    ) -> Result<(), StateError> {
        for entry in keyspace.iter() {
            let (key, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
            one(&key, &value).ok_or_else(|| {
                self.foreign(&format!("an entry {:?}", String::from_utf8_lossy(&key)))
            })?;
        }
        Ok(())
    }

    /// Stores a checkpoint durably, and drops what is past its retention.
    pub(super) fn write(&self, checkpoint: &Checkpoint) -> Result<(), StateError> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for (counter_type, changes) in &checkpoint.types {
            for (resource, value) in &changes.counts {
                batch.insert(
                    &self.counts,
                    name(counter_type, resource),
                    value.to_be_bytes(),
                );
            }
            for (resolution, bucket, resource, sum) in &changes.cells {
                let mut key = bucket_key(*resolution, *bucket);
                key.extend_from_slice(&name(counter_type, resource));
                batch.insert(&self.cells, key, sum.to_be_bytes());
            }
        }
        for (partition, next) in checkpoint.positions.iter() {
            let key = [b"next".as_slice(), &partition.to_be_bytes()].concat();
            batch.insert(&self.meta, key, next.to_be_bytes());
        }
        if let Some(source) = &checkpoint.source {
            batch.insert(&self.meta, "source", source.as_bytes());
        }
        batch.insert(&self.meta, "newest", checkpoint.newest_ms.to_be_bytes());
        batch.commit().map_err(|error| self.failed(&error))?;
        checkpoint
            .oldest
            .iter()
            .try_for_each(|(resolution, oldest)| self.drop_before(*resolution, *oldest))
    }

    fn drop_before(&self, resolution: Resolution, oldest: i64) -> Result<(), StateError> {
        loop {
            let mut batch = self.database.batch();
            let expired = self
                .cells
                .range(bucket_key(resolution, i64::MIN)..bucket_key(resolution, oldest));
            for entry in expired.take(REMOVE_AT_ONCE) {
                batch.remove(
                    &self.cells,
                    entry.key().map_err(|error| self.failed(&error))?,
                );
            }
            let removed = batch.len();
            batch.commit().map_err(|error| self.failed(&error))?;
            if removed < REMOVE_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Forgets everything but the format.
    pub(super) fn clear(&self) -> Result<(), StateError> {
        // Positions last: what a crash leaves half-way is dropped again at the next start, from the same positions.
        for keyspace in [&self.cells, &self.counts, &self.meta] {
            keyspace.clear().map_err(|error| self.failed(&error))?;
        }
        self.check_format()
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

fn number<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn name(counter_type: &str, resource: &str) -> Vec<u8> {
    [counter_type.as_bytes(), &[0], resource.as_bytes()].concat()
}

fn split_name(name: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(name).ok()?.split_once('\0')
}

fn bucket_key(resolution: Resolution, bucket: i64) -> Vec<u8> {
    let tag = match resolution {
        Resolution::Minute => 0,
        Resolution::Hour => 1,
        Resolution::Day => 2,
    };
    let mut key = vec![tag];
    key.extend_from_slice(&(bucket ^ i64::MIN).to_be_bytes());
    key
}

fn split_cell(key: &[u8]) -> Option<(Resolution, i64, &[u8])> {
    let (tag, rest) = key.split_first()?;
    let (bucket, name) = rest.split_at_checked(8)?;
    let resolution = *Resolution::ALL.get(usize::from(*tag))?;
    Some((
        resolution,
        i64::from_be_bytes(number(bucket)?) ^ i64::MIN,
        name,
    ))
}
