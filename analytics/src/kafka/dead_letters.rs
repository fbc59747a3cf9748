//! What is no event goes to a topic of its own, as it came, with where it was and why it is none.
//!
//! Headers: `reason`, `source-topic`, `source-partition`, `source-offset`. At least once: after a crash a letter may be
//! there twice. A letter that cannot be delivered is told in the log; the consumer goes on in any case.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ThreadedProducer};

use super::context::{Context, Delivered};
use super::message::Poison;
use super::{KafkaSettings, client};

const FLUSH: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// One line in the log for each of the first so many, then for every so many.
const TELL: u64 = 100;

/// The way to the topic of dead letters.
pub(super) struct DeadLetters {
    producer: ThreadedProducer<Context<Delivered>>,
    topic: String,
    added: AtomicU64,
}

impl DeadLetters {
    /// Connects, and sees to it that the topic is there.
    pub(super) fn new(settings: &KafkaSettings) -> KafkaResult<Self> {
        let topic = settings.dead_letters.name().to_owned();
        let producer = client(&settings.address)
            .set("enable.idempotence", "true")
            .set("compression.type", "snappy")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "30000")
            .create_with_context(Context(Box::new(told) as Delivered))?;
        let admin: AdminClient<DefaultClientContext> = client(&settings.address).create()?;
        tokio::spawn(make(admin, topic.clone()));
        Ok(Self {
            producer,
            topic,
            added: AtomicU64::new(0),
        })
    }

    /// Sends a message there.
    pub(super) fn add(&self, message: &BorrowedMessage<'_>, poison: &Poison) {
        let (partition, offset) = (message.partition(), message.offset());
        if self
            .added
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(TELL)
        {
            tracing::warn!(partition, offset, %poison, "a message is no event: it goes to {}", self.topic);
        }
        let header = |key, value: &str| (key, value.to_owned());
        let headers = [
            header("reason", &poison.to_string()),
            header("source-topic", message.topic()),
            header("source-partition", &partition.to_string()),
            header("source-offset", &offset.to_string()),
        ];
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                let value = Some(value.as_str());
                headers.insert(Header { key, value })
            });
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        record.key = message.key();
        record.payload = message.payload();
        let mut refused = self.producer.send(record);
        // A flood: wait for room once, then let go.
        if let Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) = refused {
            self.flush();
            refused = self.producer.send(record);
        }
        if let Err((error, _)) = refused {
            tracing::error!(partition, offset, %error, "a dead letter is lost");
        }
    }

    /// How many there have been.
    pub(super) fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    /// Waits a little until all are delivered.
    pub(super) fn flush(&self) {
        if self.producer.in_flight_count() > 0
            && let Err(error) = self.producer.flush(FLUSH)
        {
            tracing::warn!(%error, "dead letters are still under way");
        }
    }
}

/// Tells what becomes of a letter.
fn told(delivered: &DeliveryResult<'_>) {
    if let Err((error, letter)) = delivered {
        tracing::error!(%error, topic = letter.topic(), "a dead letter is lost");
    }
}

/// Makes the topic unless it is there; tries on while Kafka is away.
async fn make(admin: AdminClient<DefaultClientContext>, topic: String) {
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    loop {
        // -1: as the broker has it for new topics.
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(-1));
        match admin.create_topics([&new], &options).await.as_deref() {
            Ok([Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))]) => return,
            Ok([Err((_, error))]) => {
                tracing::warn!(%error, topic, "the topic for dead letters cannot be made");
                return;
            }
            _ => tokio::time::sleep(TRY_AGAIN).await,
        }
    }
}
