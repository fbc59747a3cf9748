//! What can be asked of the state, and what it answers.
//!
//! Times are unix seconds given by the caller, never read from a clock, so that answers can be tested and events replayed.

use std::sync::Arc;

/// A half-open range of unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds {
    /// The first second in it.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
}

/// The width of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds, from midnight UTC.
    Day,
}

impl Resolution {
    /// From fine to coarse.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// The width in seconds.
    pub const fn width(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86400,
        }
    }

    /// For how many seconds back such buckets are kept: longer than any period that is made of them, for late events.
    pub const fn kept(self) -> i64 {
        match self {
            Self::Minute => 25 * 3600,
            Self::Hour => 32 * 86400,
            Self::Day => 400 * 86400,
        }
    }

    /// Its name in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The bucket that a second is in.
    pub const fn bucket(self, second: i64) -> i64 {
        second.div_euclid(self.width())
    }

    /// The smallest range of whole buckets around a range.
    pub const fn around(self, range: Seconds) -> Seconds {
        let width = self.width();
        Seconds {
            start: self.bucket(range.start) * width,
            end: (self.bucket(range.end - 1) + 1) * width,
        }
    }
}

/// The periods that rankings are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// The last 60 minutes.
    Hour,
    /// The last 24 hours.
    Day,
    /// The last 7 days.
    Week,
    /// The last 30 days.
    Month,
    /// For ever: the count itself.
    All,
}

impl Period {
    /// The rolling ones: all but [`Period::All`].
    pub const ROLLING: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// Its name in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::All => "all",
        }
    }

    /// Its length in seconds, and the buckets that it is made of; `None` for [`Period::All`].
    pub const fn window(self) -> Option<(i64, Resolution)> {
        match self {
            Self::Hour => Some((3600, Resolution::Minute)),
            Self::Day => Some((86400, Resolution::Minute)),
            Self::Week => Some((7 * 86400, Resolution::Hour)),
            Self::Month => Some((30 * 86400, Resolution::Hour)),
            Self::All => None,
        }
    }

    /// The seconds that it covers at a time: up to the end of the bucket that is filling.
    pub const fn range(self, now: i64) -> Seconds {
        match self.window() {
            Some((length, resolution)) => {
                let end = (resolution.bucket(now) + 1) * resolution.width();
                Seconds {
                    start: end - length,
                    end,
                }
            }
            None => Seconds {
                start: 0,
                end: now + 1,
            },
        }
    }
}

/// What to rank by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// One of the periods.
    Period(Period),
    /// Any range; widened to whole buckets of the finest resolution that is still kept.
    Range(Seconds),
}

/// The place of a counter in a ranking, after which the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its rank, from 1.
    pub rank: u32,
    /// Its value; too large by at most `error`.
    pub value: i128,
    /// By how much the value may be too large; 0 where it is exact.
    pub error: i128,
    /// Its resource.
    pub resource_id: Arc<str>,
}

/// Asks for a page of a ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopQuery {
    /// The type that is ranked.
    pub counter_type: String,
    /// What to rank by.
    pub over: Over,
    /// The most counters on the page.
    pub limit: usize,
    /// The last place of the page before.
    pub after: Option<Place>,
}

/// A page of a ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// The largest first; ties by resource.
    pub places: Vec<Place>,
    /// Whether there are more after them.
    pub more: bool,
    /// The seconds that were really covered.
    pub range: Seconds,
    /// Whether ranks and values are exact.
    pub exact: bool,
}

/// Asks for the buckets of one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesQuery {
    /// The type.
    pub counter_type: String,
    /// The resource.
    pub resource_id: String,
    /// Whole buckets.
    pub range: Seconds,
    /// Their width.
    pub resolution: Resolution,
}

/// The buckets of one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// One sum for each bucket.
    pub values: Vec<i128>,
    /// Whether all of the counter's events are in them.
    pub exact: bool,
}

/// What one partition has to say to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share<T> {
    /// The partition.
    pub partition: u32,
    /// How far it has been applied: of two answers for one partition the further one counts.
    pub position: u64,
    /// The unix second as of which the answer is true.
    pub as_of: i64,
    /// The answer.
    pub answer: T,
}

impl SeriesQuery {
    /// How many buckets it asks for.
    pub fn buckets(&self) -> usize {
        let buckets = (self.range.end - self.range.start) / self.resolution.width();
        usize::try_from(buckets).unwrap_or(0)
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that were new.
    pub applied: u64,
    /// Events that had been applied before, and were dropped.
    pub repeated: u64,
    /// New events too old for some buckets: they are in the count and in coarser buckets only.
    pub late: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Counters.
    pub counters: u64,
    /// Sums of one counter in one bucket.
    pub cells: u64,
    /// Bytes of memory that they take, about.
    pub bytes: u64,
}

/// The state cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The storage engine failed.
    #[error("storage in {dir}: {why}")]
    Storage {
        /// The directory.
        dir: String,
        /// What the engine says.
        why: String,
    },
    /// The directory holds something else than this program writes.
    #[error("{dir} holds what this program cannot read: {why}")]
    Foreign {
        /// The directory.
        dir: String,
        /// What was found.
        why: String,
    },
}
