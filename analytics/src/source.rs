//! Where events come from.
//!
//! A source delivers each partition's events in order, from the positions that the state has stored; events that it
//! delivers again are harmless, gaps are not. It is told what has been stored durably, so that it may forget it. One that no
//! longer has the events that are wanted begins with the oldest that it has, and says so in the log.

use std::error::Error;
use std::fmt;
use std::future::Future;

use crate::event::{Batch, Positions};

/// How far the answers are behind the events.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lag {
    /// Events not applied yet; 0 only when there is none at this moment.
    pub messages: u64,
    /// The age of the oldest of them.
    pub seconds: f64,
}

/// Why a source cannot deliver.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It may work again later: the consumer says so in `/readyz` and tries on.
    #[error("events are away: {0}")]
    Away(Box<dyn Error + Send + Sync>),
    /// The stored positions cannot be of this source: the state starts again from its beginning.
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
}

/// Tells how far a source's end is from what has been applied; may be asked at any time, from any thread.
pub trait Head: Send + Sync + 'static {
    /// The distance from `applied` to the newest event.
    fn lag(&self, applied: &Positions) -> Lag;
}

/// A stream of events with positions.
pub trait Source: fmt::Debug + Send + 'static {
    /// The name of the source for logs and `/status`.
    fn name(&self) -> &str;

    /// What tells this source's events from those of any other: positions mean nothing in another one.
    fn identity(&self) -> String;

    /// What tells the lag.
    fn head(&self) -> Box<dyn Head>;

    /// Prepares to deliver from these positions on. Called before the first `next`, and again after an error.
    fn start(&mut self, from: &Positions) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// The next events, waiting for some. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Batch, SourceError>> + Send;

    /// Everything before these positions is stored durably.
    fn stored(
        &mut self,
        positions: &Positions,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;
}
