//! The exact state: every counter, every bucket, in memory; written through to an embedded engine at checkpoints.
//!
//! ```text
//! event -> counts (the `all` ranking)
//!       -> minute, hour and day buckets -> rolling windows (hour, day: minutes; week, month: hours)
//! ```
//! Windows are sums that events enter and old buckets leave, so an answer costs its own length, not the number of counters.
//! What it keeps is bounded by the counters times the buckets of their retention. One lock: the consumer applies batches,
//! queries read.

mod buckets;
mod counters;
mod disk;
mod memory;
mod order;
mod window;

use std::path::Path;

use parking_lot::RwLock;

use self::disk::Disk;
use self::memory::Memory;
use crate::event::{Batch, Positions};
use crate::state::{Applied, SeriesQuery, Size, State, StateError, Top, TopQuery};

/// Exact rankings and series.
#[derive(Debug)]
pub struct ExactState {
    memory: RwLock<Memory>,
    disk: Option<Disk>,
}

impl ExactState {
    /// A state that is gone with the process.
    pub fn in_memory() -> Self {
        Self {
            memory: RwLock::new(Memory::default()),
            disk: None,
        }
    }

    /// A state that goes on from the last checkpoint in a directory, which is made when there is none.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let disk = Disk::open(dir)?;
        let memory = disk.load()?;
        Ok(Self {
            memory: RwLock::new(memory),
            disk: Some(disk),
        })
    }
}

impl State for ExactState {
    fn positions(&self) -> Positions {
        self.memory.read().positions.clone()
    }

    fn adopt(&self, source: &str) -> Result<bool, StateError> {
        let known = self.memory.read().source.clone();
        let other = known.is_some_and(|known| &*known != source);
        if other {
            self.clear()?;
        }
        self.memory.write().source = Some(source.into());
        Ok(other)
    }

    fn newest_ms(&self) -> i64 {
        self.memory.read().newest_ms
    }

    fn apply(&self, batch: &Batch, now: i64) -> Applied {
        self.memory.write().apply(batch, now)
    }

    fn checkpoint(&self, now: i64) -> Result<Positions, StateError> {
        let changes = {
            let mut memory = self.memory.write();
            memory.advance(now);
            memory.take_changes()
        };
        if let Some(disk) = &self.disk
            && let Err(error) = disk.write(&changes)
        {
            self.memory.write().put_back(&changes);
            return Err(error);
        }
        Ok(changes.positions)
    }

    fn clear(&self) -> Result<(), StateError> {
        let mut memory = self.memory.write();
        if let Some(disk) = &self.disk {
            disk.clear()?;
        }
        *memory = Memory::default();
        Ok(())
    }

    fn top(&self, query: &TopQuery, now: i64) -> Top {
        if let Some(top) = self.memory.read().top(query, now) {
            return top;
        }
        let mut memory = self.memory.write();
        memory.prepare(query, now);
        memory
            .top(query, now)
            .unwrap_or_else(|| memory.nothing(query, now))
    }

    fn series(&self, query: &SeriesQuery) -> Vec<i128> {
        self.memory.read().series(query)
    }

    fn size(&self) -> Size {
        self.memory.read().size()
    }
}
