//! Where events come from.
//!
//! A source delivers each partition's events in order, from the positions that the state has stored; events that it
//! delivers again are harmless, gaps are not. It is told what has been stored durably, so that it may forget it. One that no
//! longer has the events that are wanted begins with the oldest that it has, and says so in the log.
//!
//! Which partitions are this process' own may change: the source says so in order with the events, and waits until the
//! state is there or stored.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::event::{Batch, Positions};
use crate::tally::Snapshot;

/// How far the answers are behind the events.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lag {
    /// Events not applied yet; 0 only when there is none at this moment.
    pub messages: u64,
    /// The age of the oldest of them.
    pub seconds: f64,
}

/// What a source delivers.
#[derive(Debug)]
pub enum Delivery {
    /// Events.
    Batch(Batch),
    /// These partitions are this process' own from now on. The answer: where each of all its partitions goes on.
    Assigned(Vec<u32>, oneshot::Sender<Positions>),
    /// These are somebody else's from now on. The answer: all their events are applied and stored.
    Revoked(Vec<u32>, oneshot::Sender<()>),
    /// Events are away, for this reason, or back: the source goes on by itself.
    Waiting(Option<String>),
}

/// What tells the events of a source from those that are there after it was made anew under the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Another one for each.
    pub id: String,
    /// A counter's events are in another partition if there is another number of them.
    pub partitions: u32,
}

/// Why a source cannot deliver.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It may work again later: the consumer says so in `/readyz` and tries on.
    #[error("events are away: {0}")]
    Away(Box<dyn Error + Send + Sync>),
    /// The stored positions cannot be of this source: the state of this partition starts again from its beginning.
    #[error(
        "position {wanted} of partition {partition} was to be next, but the events end before {end}"
    )]
    Foreign {
        /// The partition.
        partition: u32,
        /// The position that the state wanted to go on from.
        wanted: u64,
        /// The position after the last event that there is.
        end: u64,
    },
    /// The events end before the stored position, but they tell repeats from new ones: they are read again from their beginning.
    #[error(
        "position {wanted} of partition {partition} was to be next, but the log ends at {end}: it has lost its last part, or is another one"
    )]
    Shorter {
        /// The partition.
        partition: u32,
        /// The position that the state wanted to go on from.
        wanted: u64,
        /// The position after the last event that there is.
        end: u64,
    },
}

/// Tells how far a source's end is from what has been applied; may be asked at any time, from any thread.
pub trait Head: Send + Sync + 'static {
    /// The distance from `applied` to the newest event, at this moment.
    fn lag(&self, applied: &Positions) -> Lag;

    /// The unix second as of which a partition's answers are true that has been applied up to a position, the newest of its
    /// events being of the second `newest`. Asks nobody.
    fn as_of(&self, partition: u32, position: u64, newest: i64, now: i64) -> i64 {
        let applied = [(partition, position)].into_iter().collect();
        match self.lag(&applied).messages {
            0 => now,
            _ => newest.min(now),
        }
    }

    /// How many partitions there are, if that is known.
    fn partitions(&self) -> Option<u32>;
}

/// A stream of events with positions.
pub trait Source: fmt::Debug + Send + 'static {
    /// The name of the source for logs and `/status`.
    fn name(&self) -> &str;

    /// What tells this source's events from those of any other: positions mean nothing in another one.
    fn identity(&self) -> String;

    /// Which log this is now; `None`: that is never told, or nobody tells at the moment.
    fn log(&mut self) -> impl Future<Output = Option<Log>> + Send {
        std::future::ready(None)
    }

    /// The partitions that are this process' own for ever; all others are told by [`Delivery::Assigned`].
    fn fixed(&self) -> &[u32];

    /// What tells the lag.
    fn head(&self) -> Box<dyn Head>;

    /// Prepares to deliver from these positions on. Called before the first `next`, and again after an error.
    fn start(&mut self, from: &Positions) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// What comes next, waiting for it; first of all whether events are there. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Delivery, SourceError>> + Send;

    /// Everything before these positions is stored durably.
    fn stored(
        &mut self,
        positions: &Positions,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// How often snapshots are kept; `None`: never.
    fn keeps_every(&self) -> Option<Duration> {
        None
    }

    /// Keeps a partition's snapshot where other instances find it, after this returned.
    fn keep(&mut self, _partition: u32, _snapshot: Snapshot) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// The snapshot to go on from instead of a position, if there is a better one.
    fn restore(
        &mut self,
        _partition: u32,
        _position: u64,
    ) -> impl Future<Output = Option<Snapshot>> + Send {
        std::future::ready(None)
    }

    /// Lets go of what it holds; nothing is asked of it any more.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
