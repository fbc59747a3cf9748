//! What analytics counts: one event for each increment, in the order of its partition.
//!
//! Positions belong to whoever keeps the events (an embedded log, a Kafka topic); here they are only compared and stored. A
//! batch keeps the text of all its events in one piece, so that reading half a million events a second does not allocate
//! for each of them.

use std::collections::BTreeMap;
use std::ops::Range;

/// One increment that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Where the event stands in its partition; grows with each event.
    pub position: u64,
    /// What tells a repeat of it from the next event.
    pub origin: Origin<'a>,
    /// What is counted.
    pub resource_id: &'a str,
    /// What kind of count it is.
    pub counter_type: &'a str,
    /// What was added.
    pub delta: i64,
    /// The count after it.
    pub new_value: i64,
    /// When it was counted, in unix milliseconds.
    pub timestamp_ms: i64,
}

impl Event<'_> {
    /// The unix second of the event.
    pub fn second(&self) -> i64 {
        self.timestamp_ms.div_euclid(1000)
    }
}

/// Where an event was made, which tells whether it has been seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The log itself never repeats an event at another position.
    Log,
    /// One of an outbox' events, whose numbers grow within a partition: what is not above the highest is a repeat.
    Outbox {
        /// The outbox' lifelong name.
        name: &'a str,
        /// The event's number in it.
        sequence: u64,
    },
    /// Only an id, hashed: compared with those of the last so many events.
    Id(u64),
}

/// Events of one partition, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    partition: u32,
    next: u64,
    skipped: u64,
    text: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    position: u64,
    origin: EntryOrigin,
    resource_id: Range<u32>,
    counter_type: Range<u32>,
    delta: i64,
    new_value: i64,
    timestamp_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum EntryOrigin {
    Log,
    Outbox { name: Range<u32>, sequence: u64 },
    Id(u64),
}

impl Batch {
    /// An empty batch of a partition, of events from a position on; those of one counter are always in the same partition.
    pub fn new(partition: u32, from: u64) -> Self {
        Self {
            partition,
            next: from,
            ..Self::default()
        }
    }

    /// Adds an event; the batch then reaches to behind it.
    pub fn push(&mut self, event: &Event<'_>) {
        let origin = match event.origin {
            Origin::Log => EntryOrigin::Log,
            Origin::Id(id) => EntryOrigin::Id(id),
            Origin::Outbox { name, sequence } => EntryOrigin::Outbox {
                name: self.outbox(name),
                sequence,
            },
        };
        let entry = Entry {
            position: event.position,
            origin,
            resource_id: self.keep(event.resource_id),
            counter_type: self.keep(event.counter_type),
            delta: event.delta,
            new_value: event.new_value,
            timestamp_ms: event.timestamp_ms,
        };
        self.next = event.position + 1;
        self.entries.push(entry);
    }

    /// What stands at this position is no event; the batch then reaches to behind it.
    pub fn skip(&mut self, position: u64) {
        self.next = position + 1;
        self.skipped += 1;
    }

    /// How many positions were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Which partition the events are from.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The position after everything that the batch stands for.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The events in their order.
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        self.entries.iter().map(|entry| Event {
            position: entry.position,
            origin: match &entry.origin {
                EntryOrigin::Log => Origin::Log,
                EntryOrigin::Id(id) => Origin::Id(*id),
                EntryOrigin::Outbox { name, sequence } => Origin::Outbox {
                    name: self.slice(name),
                    sequence: *sequence,
                },
            },
            resource_id: self.slice(&entry.resource_id),
            counter_type: self.slice(&entry.counter_type),
            delta: entry.delta,
            new_value: entry.new_value,
            timestamp_ms: entry.timestamp_ms,
        })
    }

    /// Keeps an outbox' name, once if all events are from the same one.
    fn outbox(&mut self, name: &str) -> Range<u32> {
        if let Some(Entry {
            origin: EntryOrigin::Outbox { name: last, .. },
            ..
        }) = self.entries.last()
            && self.slice(last) == name
        {
            return last.clone();
        }
        self.keep(name)
    }

    fn keep(&mut self, text: &str) -> Range<u32> {
        let at = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let start = at(self.text.len());
        self.text.push_str(text);
        start..at(self.text.len())
    }

    fn slice(&self, range: &Range<u32>) -> &str {
        let range = range.start as usize..range.end as usize;
        self.text.get(range).unwrap_or_default()
    }
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

impl FromIterator<(u32, u64)> for Positions {
    fn from_iter<T: IntoIterator<Item = (u32, u64)>>(positions: T) -> Self {
        Self(positions.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let event = |position, name| Event {
            position,
            origin: Origin::Outbox { name, sequence: 7 },
            resource_id: "Straße",
            counter_type: "like",
            delta: -1,
            new_value: 41,
            timestamp_ms: -1,
        };
        let events = [
            event(3, "one"),
            event(4, "one"),
            event(9, "two"),
            Event {
                origin: Origin::Id(5),
                ..event(10, "")
            },
        ];
        let mut batch = Batch::new(2, 3);
        events.iter().for_each(|event| batch.push(event));
        assert_eq!(batch.events().collect::<Vec<_>>(), events);
        assert_eq!((batch.partition(), batch.next(), batch.len()), (2, 11, 4));
        assert_eq!(events[0].second(), -1);
    }
}
