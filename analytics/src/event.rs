//! What analytics counts: one event for each increment, in the order of its partition.
//!
//! Positions belong to whoever keeps the events (an embedded log, a Kafka topic); here they are only compared and stored.

use std::collections::BTreeMap;

/// One increment that was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where the event stands in its partition; grows with each event.
    pub position: u64,
    /// What is counted.
    pub resource_id: Box<str>,
    /// What kind of count it is.
    pub counter_type: Box<str>,
    /// What was added.
    pub delta: i64,
    /// The count after it.
    pub new_value: i64,
    /// When it was counted, in unix milliseconds.
    pub timestamp_ms: i64,
}

impl Event {
    /// The unix second of the event.
    pub fn second(&self) -> i64 {
        self.timestamp_ms.div_euclid(1000)
    }
}

/// Events of one partition, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Which partition they are from.
    pub partition: u32,
    /// The events; those of one counter are always in the same partition.
    pub events: Vec<Event>,
}

/// How far each partition has been applied: the position of the next event that is wanted, 0 at first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<u32, u64>);

impl Positions {
    /// The position of the next event that is wanted from a partition.
    pub fn next(&self, partition: u32) -> u64 {
        self.0.get(&partition).copied().unwrap_or(0)
    }

    /// Sets it.
    pub fn set(&mut self, partition: u32, next: u64) {
        self.0.insert(partition, next);
    }

    /// The partitions that are known, with their next positions.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().map(|(partition, next)| (*partition, *next))
    }
}
