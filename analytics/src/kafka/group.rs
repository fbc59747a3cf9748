//! A member of the consumer group: what happens when partitions come and go.
//!
//! The library calls from within `poll`, so the thread that delivers stands still meanwhile: what it has read is delivered
//! first, then the consumer is told, and its answer waited for. A partition comes with the position at which its state
//! stands; it goes when its events are stored, so that the next owner's are never behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::context;
use super::ends::Ends;
use crate::event::{Batch, Positions};
use crate::source::{Delivery, SourceError};

/// How often the end of a partition is asked again before it is believed to be before what has been read.
const ASK_AGAIN: usize = 5;
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// The library's other end.
pub(super) struct Member {
    pub(super) topic: String,
    pub(super) deliveries: mpsc::Sender<Result<Delivery, SourceError>>,
    pub(super) ends: Arc<Ends>,
    pub(super) reading: Mutex<Reading>,
}

/// What has been read and is not delivered yet.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) batches: BTreeMap<u32, Batch>,
    /// The offset that each partition is to go on with.
    pub(super) next: BTreeMap<u32, u64>,
}

/// The consumer does not take deliveries any more: the thread is to end.
#[derive(Debug)]
pub(super) struct Gone;

impl Member {
    /// Delivers what has been read.
    pub(super) fn flush(&self) -> Result<(), Gone> {
        let batches = std::mem::take(&mut self.reading.lock().batches);
        batches
            .into_values()
            .try_for_each(|batch| self.deliver(Delivery::Batch(batch)))
    }

    fn deliver(&self, delivery: Delivery) -> Result<(), Gone> {
        self.deliveries
            .blocking_send(Ok(delivery))
            .map_err(|_| Gone)
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: Vec<u32>,
    ) -> Result<TopicPartitionList, Gone> {
        let (reply, positions) = oneshot::channel();
        self.deliver(Delivery::Assigned(partitions.clone(), reply))?;
        let positions = positions.blocking_recv().map_err(|_| Gone)?;
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let next = positions.next(partition);
            self.check_end(consumer, partition, next)?;
            self.reading.lock().next.insert(partition, next);
            let offset = Offset::Offset(next.cast_signed());
            // The offset is not negative and the list is ours: it cannot be refused.
            let _ = list.add_partition_offset(&self.topic, partition.cast_signed(), offset);
        }
        Ok(list)
    }

    /// A position behind the end is one of another log, or of one that lost its last part: then the partition starts anew. A broker that has just come back
    /// may tell an end that is too early, so it is asked more than once.
    fn check_end(
        &self,
        consumer: &BaseConsumer<Self>,
        partition: u32,
        wanted: u64,
    ) -> Result<(), Gone> {
        let mut found = None;
        for _ in 0..ASK_AGAIN {
            let asked =
                consumer.fetch_watermarks(&self.topic, partition.cast_signed(), ASK_PAUSE * 4);
            match asked {
                Ok((_, end)) if end.cast_unsigned() >= wanted => return Ok(()),
                Ok((_, end)) => found = Some(end.cast_unsigned()),
                // Nothing is known, so nothing is wrong.
                Err(_) => return Ok(()),
            }
            std::thread::park_timeout(ASK_PAUSE);
        }
        let Some(end) = found else { return Ok(()) };
        let shorter = SourceError::Shorter {
            partition,
            wanted,
            end,
        };
        let _ = self.deliveries.blocking_send(Err(shorter));
        Err(Gone)
    }

    fn revoke(&self, partitions: &BTreeSet<u32>) -> Result<(), Gone> {
        self.flush()?;
        let (reply, stored) = oneshot::channel();
        self.deliver(Delivery::Revoked(
            partitions.iter().copied().collect(),
            reply,
        ))?;
        stored.blocking_recv().map_err(|_| Gone)?;
        let mut reading = self.reading.lock();
        reading
            .next
            .retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }
}

impl ConsumerContext for Member {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        cause: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions: BTreeSet<u32> = list
            .elements()
            .iter()
            .map(|element| element.partition().cast_unsigned())
            .collect();
        let done = if cause == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(?partitions, "partitions assigned");
            self.ends.assigned(&partitions);
            let list = self.assign(consumer, partitions.iter().copied().collect());
            // The rest of a stopped consumer gets nothing to read.
            consumer.incremental_assign(&list.unwrap_or_default())
        } else {
            tracing::info!(?partitions, "partitions revoked");
            let _ = self.revoke(&partitions);
            self.ends.revoked(&partitions);
            consumer.incremental_unassign(list)
        };
        if let Err(error) = done {
            tracing::error!(%error, "Kafka's library refuses the assignment");
        }
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        context::failed(&error, reason);
    }
}

impl Reading {
    /// Where each partition that is read goes on.
    pub(super) fn positions(&self) -> Positions {
        self.next
            .iter()
            .map(|(partition, next)| (*partition, *next))
            .collect()
    }
}
