//! A topic of snapshots: the state of a partition as a whole, so that an instance can start where the log has been cut.
//!
//! ```text
//! key SOURCE/P/head     -> {"source", "position", "id", "slot", "chunks", "bytes"}     written last: what it names is whole
//! key SOURCE/P/SLOT/N   -> id u64, a piece of the records                              two slots in turn
//! ```
//! The topic is compacted, so it holds the last two snapshots of each partition. A snapshot that is torn, of another source or
//! from behind the end of the log is none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::context::{Context, Delivered};
use super::{Address, Topic, client};
use crate::tally::Snapshot;

/// Bytes of records in one message: well below what brokers take.
const CHUNK: usize = 512 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long all of a snapshot may take.
const WHOLE: Duration = Duration::from_secs(120);

/// The topic, and what is kept of it.
#[derive(Debug, Clone)]
pub(super) struct Snapshots {
    address: Address,
    topic: Topic,
    source: String,
    /// The id of the topic of events; empty if nobody tells it.
    log: String,
}

/// What names a whole snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    source: String,
    /// Positions are of this log alone.
    #[serde(default)]
    log: String,
    position: u64,
    id: u64,
    slot: u8,
    chunks: u32,
    bytes: u64,
}

/// What was read of one partition: the last head, and all chunks by slot and number.
#[derive(Debug, Default)]
struct Found {
    head: Option<Head>,
    chunks: HashMap<(u8, u32), Vec<u8>>,
}

impl Snapshots {
    pub(super) fn new(address: Address, topic: Topic, source: String) -> Self {
        Self {
            address,
            topic,
            source,
            log: String::new(),
        }
    }

    /// The same for this log.
    pub(super) fn of(&self, log: Option<&str>) -> Self {
        Self {
            log: log.unwrap_or_default().to_owned(),
            ..self.clone()
        }
    }

    /// Makes the topic, with as many partitions as the events have, unless it is there.
    pub(super) async fn make(&self, partitions: u32) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = client(&self.address).create()?;
        let count = i32::try_from(partitions)?;
        let new = NewTopic::new(self.topic.name(), count, TopicReplication::Fixed(-1))
            .set("cleanup.policy", "compact");
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        match admin.create_topics([&new], &options).await?.as_slice() {
            [Err((_, error))] if *error != RDKafkaErrorCode::TopicAlreadyExists => {
                anyhow::bail!("{error}")
            }
            _ => Ok(()),
        }
    }

    /// Writes a snapshot; waits until Kafka has all of it.
    pub(super) fn write(&self, partition: u32, snapshot: &Snapshot) -> anyhow::Result<()> {
        let failed = Arc::new(AtomicBool::new(false));
        let noting = failed.clone();
        let note: Delivered = Box::new(move |delivered| {
            noting.fetch_or(delivered.is_err(), Ordering::Relaxed);
        });
        let producer: BaseProducer<Context<Delivered>> = client(&self.address)
            .set("enable.idempotence", "true")
            .set("compression.type", "snappy")
            .set("message.timeout.ms", "60000")
            .create_with_context(Context(note))?;
        let place = self.place(&producer, partition)?;
        let before = self.read(partition)?.head;
        if before
            .as_ref()
            .is_some_and(|before| before.log == self.log && before.position >= snapshot.position)
        {
            // Another instance has come further: this one has been asleep.
            return Ok(());
        }
        let head = Head {
            source: self.source.clone(),
            log: self.log.clone(),
            position: snapshot.position,
            id: draw(),
            slot: before.map_or(0, |before| 1 - before.slot.min(1)),
            chunks: u32::try_from(snapshot.records.len().div_ceil(CHUNK))?,
            bytes: snapshot.records.len() as u64,
        };
        for (number, chunk) in snapshot.records.chunks(CHUNK).enumerate() {
            let key = format!("{}{}/{number}", self.prefix(partition), head.slot);
            let value = [&head.id.to_be_bytes(), chunk].concat();
            self.send(&producer, place, &key, &value)?;
        }
        producer.flush(WHOLE)?;
        if failed.load(Ordering::Relaxed) {
            anyhow::bail!("Kafka did not take all of it");
        }
        let value = serde_json::to_vec(&head)?;
        let key = format!("{}head", self.prefix(partition));
        self.send(&producer, place, &key, &value)?;
        producer.flush(PATIENCE)?;
        Ok(())
    }

    fn send(
        &self,
        producer: &BaseProducer<Context<Delivered>>,
        partition: i32,
        key: &str,
        value: &[u8],
    ) -> anyhow::Result<()> {
        let mut record = BaseRecord::to(self.topic.name())
            .partition(partition)
            .key(key)
            .payload(value);
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.flush(PATIENCE)?;
                    record = back;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// What the keys of a partition begin with.
    fn prefix(&self, partition: u32) -> String {
        format!("{}/{partition}/", self.source)
    }

    /// The partition of the topic for one of the events'.
    fn place(
        &self,
        producer: &BaseProducer<Context<Delivered>>,
        partition: u32,
    ) -> anyhow::Result<i32> {
        let metadata = producer
            .client()
            .fetch_metadata(Some(self.topic.name()), PATIENCE)?;
        let topic = metadata.topics().first();
        let count = topic.map_or(0, |topic| topic.partitions().len());
        place(partition, count)
    }

    /// The newest whole snapshot of a partition.
    pub(super) fn find(&self, partition: u32) -> anyhow::Result<Option<Snapshot>> {
        let Found { head, chunks } = self.read(partition)?;
        let Some(head) = head else {
            return Ok(None);
        };
        if head.source != self.source || head.log != self.log {
            tracing::warn!(
                partition,
                source = head.source,
                log = head.log,
                "a snapshot of other events is not used"
            );
            return Ok(None);
        }
        let mut records = Vec::with_capacity(usize::try_from(head.bytes).unwrap_or(0));
        for number in 0..head.chunks {
            let chunk = chunks.get(&(head.slot, number));
            match chunk.and_then(|chunk| chunk.split_first_chunk()) {
                Some((id, chunk)) if u64::from_be_bytes(*id) == head.id => {
                    records.extend_from_slice(chunk);
                }
                _ => {
                    tracing::warn!(partition, number, "a torn snapshot is not used");
                    return Ok(None);
                }
            }
        }
        let position = head.position;
        Ok((records.len() as u64 == head.bytes).then_some(Snapshot { position, records }))
    }

    /// The last head of a partition, and all chunks.
    fn read(&self, partition: u32) -> anyhow::Result<Found> {
        let consumer: BaseConsumer = client(&self.address)
            .set("enable.auto.commit", "false")
            .set("group.id", "highpress-analytics-snapshots")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(self.topic.name()), PATIENCE)?;
        let topic = metadata.topics().first();
        let count = topic.map_or(0, |topic| topic.partitions().len());
        let (mut found, prefix) = (Found::default(), self.prefix(partition));
        let Ok(place) = place(partition, count) else {
            return Ok(found);
        };
        let (start, end) = consumer.fetch_watermarks(self.topic.name(), place, PATIENCE)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.topic.name(), place, Offset::Beginning)?;
        // The end of what is there is told as an error of the partition.
        consumer.assign(&list)?;
        let (mut next, deadline) = (start, Instant::now() + WHOLE);
        while next < end {
            anyhow::ensure!(Instant::now() < deadline, "it takes too long to read");
            let Some(Ok(message)) = consumer.poll(PATIENCE / 10) else {
                // Compaction may have taken the last ones.
                if consumer
                    .position()?
                    .elements()
                    .iter()
                    .any(|at| at.offset() == Offset::Offset(end))
                {
                    break;
                }
                continue;
            };
            next = message.offset() + 1;
            take(&prefix, &message, &mut found);
        }
        Ok(found)
    }
}

/// Keeps a message that is one of this partition's.
fn take(prefix: &str, message: &rdkafka::message::BorrowedMessage<'_>, found: &mut Found) {
    let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
    let rest = key.and_then(|key| key.strip_prefix(prefix));
    let (Some(rest), Some(value)) = (rest, message.payload()) else {
        return;
    };
    if rest == "head" {
        found.head = serde_json::from_slice(value).ok();
    } else if let Some((slot, number)) = rest.split_once('/')
        && let (Ok(slot), Ok(number)) = (slot.parse(), number.parse())
    {
        found.chunks.insert((slot, number), value.to_vec());
    }
}

fn place(partition: u32, count: usize) -> anyhow::Result<i32> {
    let count = u32::try_from(count)?;
    anyhow::ensure!(count > 0, "there is no topic for snapshots");
    Ok(i32::try_from(partition % count)?)
}

/// A number that no other snapshot has.
fn draw() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}
