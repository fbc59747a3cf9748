//! The events of a topic, read from its beginning, by counter: what they say a count is, and whether they follow from each other.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use super::progress::Progress;
use crate::relay::KafkaTarget;

const PATIENCE: Duration = Duration::from_secs(10);

/// What the events of one counter say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) events: u64,
    /// It had a count before the first one.
    pub(super) before: bool,
    /// The value after the latest one.
    pub(super) last: i64,
    /// Events that do not follow from the one before.
    pub(super) breaks: u64,
}

/// A topic that is read on and on.
pub(super) struct Log {
    consumer: BaseConsumer,
    topic: String,
    /// The offset after what was read of each partition.
    next: Vec<i64>,
    highest: HashMap<(String, i32), u64>,
    pub(super) told: HashMap<String, Told>,
    /// Counters that are being compared: what they were before, and all that they have become since.
    watched: HashMap<String, Vec<i64>>,
    /// Messages that are no events.
    pub(super) strange: u64,
    /// Whether the beginning of the log is gone.
    pub(super) cut: bool,
}

impl Log {
    pub(super) fn open(target: &KafkaTarget) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = target
            .config()
            .set("group.id", "highpress-audit")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()?;
        let topic = target.topic().to_owned();
        let metadata = consumer
            .fetch_metadata(Some(&topic), PATIENCE)
            .context("Kafka does not answer")?;
        let partitions = metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len());
        anyhow::ensure!(partitions > 0, "there is no topic {topic}");
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(&topic, i32::try_from(partition)?, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        Ok(Self {
            consumer,
            topic,
            next: vec![0; partitions],
            highest: HashMap::new(),
            told: HashMap::new(),
            watched: HashMap::new(),
            strange: 0,
            cut: false,
        })
    }

    /// From now on remembers what becomes of these.
    pub(super) fn watch<'a>(&mut self, counters: impl Iterator<Item = &'a String>) {
        let last = |counter| self.told.get(counter).map_or(0, |told| told.last);
        self.watched = counters
            .map(|counter| (counter.clone(), vec![last(counter)]))
            .collect();
    }

    /// Whether a counter is this, or was since it is watched.
    pub(super) fn has_been(&self, counter: &str, value: i64) -> bool {
        let last = self.told.get(counter).map_or(0, |told| told.last);
        let watched = self.watched.get(counter);
        last == value || watched.is_some_and(|values| values.contains(&value))
    }

    /// Reads to the ends that the partitions have now.
    pub(super) fn read_on(&mut self) -> anyhow::Result<()> {
        let mut ends = Vec::with_capacity(self.next.len());
        for (partition, next) in (0..).zip(&mut self.next) {
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic, partition, PATIENCE)?;
            self.cut |= low > 0;
            *next = low.max(*next);
            ends.push(high);
        }
        let left = |next: &[i64]| -> i64 {
            ends.iter()
                .zip(next)
                .map(|(end, next)| (end - next).max(0))
                .sum()
        };
        let mut progress = Progress::new("events", u64::try_from(left(&self.next)).ok());
        while left(&self.next) > 0 {
            match self.consumer.poll(PATIENCE) {
                None => anyhow::bail!("Kafka does not answer"),
                // What is left before the end are marks that are no messages.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let at = usize::try_from(partition)?;
                    if let (Some(next), Some(end)) = (self.next.get_mut(at), ends.get(at)) {
                        *next = (*next).max(*end);
                    }
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    progress.add(1);
                    if let Some(next) = self.next.get_mut(usize::try_from(message.partition())?) {
                        *next = message.offset() + 1;
                    }
                    match message.payload().and_then(read) {
                        Some(event) => self.take(message.partition(), event),
                        None => self.strange += 1,
                    }
                }
            }
        }
        Ok(())
    }

    /// Leaves out repeats: what is not above the highest number of its outbox and partition.
    fn take(&mut self, partition: i32, event: Event) {
        let top = self.highest.entry((event.outbox, partition)).or_default();
        if event.number <= *top {
            return;
        }
        *top = event.number;
        if let Some(values) = self.watched.get_mut(&event.key) {
            values.push(event.new_value);
        }
        let told = self.told.entry(event.key).or_default();
        // What is brought in sets a count anew.
        let follows = told.events == 0
            || event.migrated
            || told.last.checked_add(event.delta) == Some(event.new_value);
        told.breaks += u64::from(!follows);
        told.before |= told.events == 0 && !event.migrated && event.new_value != event.delta;
        told.events += 1;
        told.last = event.new_value;
    }
}

struct Event {
    outbox: String,
    number: u64,
    key: String,
    delta: i64,
    new_value: i64,
    migrated: bool,
}

fn read(value: &[u8]) -> Option<Event> {
    let value: Value = serde_json::from_slice(value).ok()?;
    Some(Event {
        outbox: value["outbox"].as_str()?.to_owned(),
        number: value["seq"].as_u64()?,
        key: format!(
            "{}:{}",
            value["resource_id"].as_str()?,
            value["counter_type"].as_str()?
        ),
        delta: value["delta"].as_i64()?,
        new_value: value["new_value"].as_i64()?,
        migrated: value["source"] == "migrate",
    })
}
