//! The state: rankings, series and positions of each partition, in memory; written through to an embedded engine at checkpoints.
//!
//! ```text
//! event -> shard of its partition -> counters of its type: count (the `all` ranking)
//!                                                         minute, hour and day buckets -> rolling windows
//! question -> each shard's share, for whoever puts the shares of all instances together
//! ```
//! Exact while it fits the memory that it may take; beyond, the smaller counters of the largest type go, and answers say what
//! they may be wrong by (`floors`). Windows are sums that events enter and old buckets leave, so an answer costs its own
//! length, not the number of counters. One lock for each partition: the consumer applies in short turns, questions read.

mod buckets;
mod counters;
mod disk;
mod floors;
mod leaders;
mod names;
mod prune;
mod ranking;
mod records;
mod row;
mod seen;
mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};

use self::disk::Disk;
use self::ranking::covered;
use self::shard::Shard;
use crate::event::{Batch, Positions};
use crate::source::Log;
use crate::state::{Applied, Over, Series, SeriesQuery, Share, Size, StateError, Top, TopQuery};

/// Events applied in one turn of the lock: questions wait for no more than that.
const TURN: usize = 256;
/// How long the state of a partition that went is still served: its next owner has to read first.
const GRACE: i64 = 60;

/// The state of all partitions that this process knows.
#[derive(Debug)]
pub struct Tally {
    shards: RwLock<BTreeMap<u32, Arc<Held>>>,
    disk: Option<Disk>,
    /// The bytes that it may take.
    memory: u64,
    source: Mutex<Option<String>>,
    /// The log that positions are of.
    log: Mutex<Option<Log>>,
    /// When partitions were assigned last.
    assigned_at: AtomicI64,
}

#[derive(Debug)]
struct Held {
    shard: RwLock<Shard>,
    own: AtomicBool,
    /// Since when it has not been this process' own.
    released_at: AtomicI64,
}

/// What became of what was counted when the log is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// It is not.
    Same,
    /// It is kept, and the new log is read from its beginning.
    Rewound,
    /// It is gone: counters are in other partitions now.
    Cleared,
}

/// The state of a partition as a whole, to start another process with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where its events go on.
    pub position: u64,
    /// The records.
    pub records: Vec<u8>,
}

impl Tally {
    /// A state that is gone with the process, of at most so many bytes.
    pub fn in_memory(memory: u64) -> Self {
        Self {
            shards: RwLock::default(),
            disk: None,
            memory,
            source: Mutex::default(),
            log: Mutex::default(),
            assigned_at: AtomicI64::new(0),
        }
    }

    /// A state that goes on from the last checkpoint in a directory, which is made when there is none.
    pub fn open(dir: &Path, memory: u64, now: i64) -> Result<Self, StateError> {
        let disk = Disk::open(dir)?;
        let mut shards = BTreeMap::new();
        for partition in disk.partitions()? {
            let held = Held::new(disk.load(partition, now)?, now);
            shards.insert(partition, Arc::new(held));
        }
        Ok(Self {
            source: Mutex::new(disk.source()?),
            log: Mutex::new(disk.log()?),
            shards: RwLock::new(shards),
            disk: Some(disk),
            ..Self::in_memory(memory)
        })
    }

    /// Where to go on in each partition: everything before has been applied, exactly once.
    pub fn positions(&self) -> Positions {
        let shards = self.shards.read();
        let position = |(partition, held): (&u32, &Arc<Held>)| (*partition, held.shard.read().next);
        shards.iter().map(position).collect()
    }

    /// The partitions that are this process' own.
    pub fn own(&self) -> Vec<u32> {
        let shards = self.shards.read();
        let own = shards
            .iter()
            .filter(|(_, held)| held.own.load(Ordering::Relaxed));
        own.map(|(partition, _)| *partition).collect()
    }

    /// From now on events come from the source with this identity. If they came from another one, everything is forgotten
    /// and this is true.
    pub fn adopt(&self, source: &str) -> Result<bool, StateError> {
        let known = self.source.lock().clone();
        if known.as_deref() == Some(source) {
            return Ok(false);
        }
        if known.is_some() {
            let partitions: Vec<u32> = self.shards.read().keys().copied().collect();
            for partition in partitions {
                self.clear(partition)?;
            }
        }
        if let Some(disk) = &self.disk {
            disk.set_source(source)?;
        }
        *self.source.lock() = Some(source.to_owned());
        Ok(known.is_some())
    }

    /// From now on positions are of this log. If they were of another one, all partitions go on from its beginning, and this
    /// says what became of what was counted.
    pub fn follow(&self, log: &Log, now: i64) -> Result<Followed, StateError> {
        let known = self.log.lock().clone();
        if known.as_ref() == Some(log) {
            return Ok(Followed::Same);
        }
        let followed = match known.filter(|known| known.id != log.id) {
            None => Followed::Same,
            Some(known) => {
                let kept = known.partitions == log.partitions;
                let mut all: BTreeSet<u32> = self.shards.read().keys().copied().collect();
                if let Some(disk) = &self.disk {
                    all.extend(disk.partitions()?);
                }
                for partition in all {
                    if kept {
                        self.rewind(partition, now)?;
                    } else {
                        self.clear(partition)?;
                    }
                }
                if kept {
                    Followed::Rewound
                } else {
                    Followed::Cleared
                }
            }
        };
        // Last: a crash before it does all of it again.
        if let Some(disk) = &self.disk {
            disk.set_log(log)?;
        }
        *self.log.lock() = Some(log.clone());
        Ok(followed)
    }

    /// A partition goes on from its beginning: what was counted stays, repeats are told by their outboxes.
    pub fn rewind(&self, partition: u32, now: i64) -> Result<(), StateError> {
        let held = self.held(partition, now)?;
        held.shard.write().next = 0;
        self.store(partition, &held, now).map(drop)
    }

    /// These partitions are this process' own from now on: what is stored of them is in memory when this returns.
    pub fn assign(&self, partitions: &[u32], now: i64) -> Result<Positions, StateError> {
        for partition in partitions {
            let held = self.held(*partition, now)?;
            held.own.store(true, Ordering::Relaxed);
        }
        self.assigned_at.store(now, Ordering::Relaxed);
        Ok(self.positions())
    }

    /// These are somebody else's. They are still served for a while, until their next owner has read them.
    pub fn release(&self, partitions: &[u32], now: i64) {
        let shards = self.shards.read();
        for held in partitions
            .iter()
            .filter_map(|partition| shards.get(partition))
        {
            held.own.store(false, Ordering::Relaxed);
            held.released_at.store(now, Ordering::Relaxed);
        }
    }

    fn held(&self, partition: u32, now: i64) -> Result<Arc<Held>, StateError> {
        if let Some(held) = self.shards.read().get(&partition) {
            return Ok(held.clone());
        }
        let shard = match &self.disk {
            Some(disk) => disk.load(partition, now)?,
            None => Shard::default(),
        };
        let held = Arc::new(Held::new(shard, now));
        let mut shards = self.shards.write();
        Ok(shards.entry(partition).or_insert(held).clone())
    }

    /// Applies what is new in a batch.
    pub fn apply(&self, batch: &Batch, now: i64) -> Result<Applied, StateError> {
        let held = self.held(batch.partition(), now)?;
        let mut done = Applied::default();
        let mut events = batch.events();
        while events.len() > 0 {
            let mut shard = held.shard.write();
            let part = shard.apply(events.by_ref().take(TURN), now);
            done.applied += part.applied;
            done.repeated += part.repeated;
            done.late += part.late;
        }
        // Each partition has an equal part: names are spread over them evenly.
        let part = self.memory / self.shards.read().len().max(1) as u64;
        let mut shard = held.shard.write();
        shard.reach(batch);
        // Several times: the largest type may not be all of it.
        for _ in 0..3 {
            if shard.size().bytes > part {
                shard.prune();
            }
        }
        Ok(done)
    }

    /// Stores everything applied so far durably, together with the positions that it returns.
    pub fn checkpoint(&self, now: i64) -> Result<Positions, StateError> {
        self.drop_released(now);
        let shards = self.shards.read().clone();
        let mut positions = Positions::default();
        for (partition, held) in shards {
            positions.set(partition, self.store(partition, &held, now)?);
        }
        Ok(positions)
    }

    /// Stores what changed of a partition; gives the position that it goes with.
    fn store(&self, partition: u32, held: &Held, now: i64) -> Result<u64, StateError> {
        let changes = {
            let mut shard = held.shard.write();
            shard.advance(now);
            shard.take_changes()
        };
        if let Some(disk) = &self.disk
            && let Err(error) = disk.write(partition, &changes)
        {
            // What changed is not listed any more: next time everything is stored.
            held.shard.write().anew = true;
            return Err(error);
        }
        Ok(changes.next)
    }

    /// Partitions that went leave memory once others have had the time to read them; the disk keeps them.
    fn drop_released(&self, now: i64) {
        let assigned_at = self.assigned_at.load(Ordering::Relaxed);
        self.shards.write().retain(|_, held| {
            let released_at = held.released_at.load(Ordering::Relaxed);
            held.own.load(Ordering::Relaxed)
                || assigned_at < released_at
                || assigned_at == 0
                || now < released_at.max(assigned_at) + GRACE
        });
    }

    /// Forgets a partition: its events will be applied from the beginning.
    pub fn clear(&self, partition: u32) -> Result<(), StateError> {
        let mut shards = self.shards.write();
        if let Some(disk) = &self.disk {
            disk.clear(partition)?;
        }
        shards.remove(&partition);
        Ok(())
    }

    /// A partition as a whole; `None` if it is not this process' own.
    pub fn snapshot(&self, partition: u32) -> Option<Snapshot> {
        let held = self.shards.read().get(&partition)?.clone();
        let shard = held.shard.read();
        held.own.load(Ordering::Relaxed).then(|| Snapshot {
            position: shard.next,
            records: shard.all().0,
        })
    }

    /// Puts a partition that was kept elsewhere in the place of what is known of it.
    pub fn install(&self, partition: u32, snapshot: &Snapshot, now: i64) -> Result<(), StateError> {
        let torn = || StateError::Foreign {
            dir: "the snapshot".to_owned(),
            why: format!("what it says of partition {partition}"),
        };
        let mut shard = Shard::default();
        let mut read = 0;
        for (key, value) in records::read(&snapshot.records) {
            read += key.len() + value.len() + 6;
            shard.restore(key, value).ok_or_else(torn)?;
        }
        if read != snapshot.records.len() || shard.next != snapshot.position {
            return Err(torn());
        }
        shard.settle(now);
        shard.anew = true;
        let held = self.held(partition, now)?;
        *held.shard.write() = shard;
        Ok(())
    }

    /// Each partition's page of a ranking. `as_of` says for a partition, its position and the second of its newest event
    /// as of when that is true.
    pub fn top(
        &self,
        query: &TopQuery,
        now: i64,
        as_of: impl Fn(u32, u64, i64) -> i64,
    ) -> Vec<Share<Top>> {
        self.shares(now, as_of, |shard| {
            let top = shard.top(query, now);
            top.unwrap_or_else(|| nothing(query, now))
        })
    }

    /// Each partition's buckets of a counter.
    pub fn series(
        &self,
        query: &SeriesQuery,
        now: i64,
        as_of: impl Fn(u32, u64, i64) -> i64,
    ) -> Vec<Share<Option<Series>>> {
        self.shares(now, as_of, |shard| {
            let series = shard.series(query, now);
            let nothing = shard.has_nothing(&query.counter_type, query.range, now);
            match series {
                // It is not known here, and may have gone from here.
                None if !nothing => Some(Series {
                    values: vec![0; query.buckets()],
                    exact: false,
                }),
                other => other,
            }
        })
    }

    fn shares<T>(
        &self,
        now: i64,
        as_of: impl Fn(u32, u64, i64) -> i64,
        answer: impl Fn(&Shard) -> T,
    ) -> Vec<Share<T>> {
        let shards = self.shards.read().clone();
        let share = |(partition, held): (u32, Arc<Held>)| {
            let mut shard = held.shard.read();
            if !shard.stands_at(now) {
                drop(shard);
                held.shard.write().advance(now);
                shard = held.shard.read();
            }
            Share {
                partition,
                position: shard.next,
                as_of: as_of(partition, shard.next, shard.newest_ms.div_euclid(1000)),
                answer: answer(&shard),
            }
        };
        shards.into_iter().map(share).collect()
    }

    /// How much is kept.
    pub fn size(&self) -> Size {
        let mut size = Size::default();
        for held in self.shards.read().values() {
            let part = held.shard.read().size();
            size.counters += part.counters;
            size.cells += part.cells;
            size.bytes += part.bytes;
        }
        size
    }
}

impl Held {
    fn new(shard: Shard, now: i64) -> Self {
        Self {
            shard: RwLock::new(shard),
            own: AtomicBool::new(false),
            released_at: AtomicI64::new(now),
        }
    }
}

/// The answer for a type that has no counters.
pub(crate) fn nothing(query: &TopQuery, now: i64) -> Top {
    let range = match query.over {
        Over::Period(period) => period.range(now),
        Over::Range(range) => covered(range, now).1,
    };
    Top {
        places: Vec::new(),
        more: false,
        range,
        exact: true,
    }
}
