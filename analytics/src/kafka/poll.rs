//! The thread that reads: messages into batches, what is none into the dead letters, stored positions into the group.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::dead_letters::DeadLetters;
use super::ends::Ends;
use super::group::{Gone, Member};
use super::message::Message;
use super::{KafkaSettings, client};
use crate::event::{Batch, Positions};
use crate::source::{Delivery, SourceError};

/// Events in one delivery: enough to be fast, few enough that answers do not wait for them.
const AT_ONCE: usize = 1024;
/// How long to wait for a message; also how soon the thread sees that it is to end.
const WAIT: Duration = Duration::from_millis(100);
const ASK: Duration = Duration::from_secs(2);

/// The reading end of the group's member.
pub(super) struct Poll {
    consumer: BaseConsumer<Member>,
    stored: Arc<Mutex<Option<Positions>>>,
    dead_letters: DeadLetters,
    /// The log that is read, as `ends` counts them.
    renewals: u64,
}

impl Poll {
    pub(super) fn new(
        settings: &KafkaSettings,
        deliveries: mpsc::Sender<Result<Delivery, SourceError>>,
        stored: Arc<Mutex<Option<Positions>>>,
        ends: Arc<Ends>,
        dead_letters: DeadLetters,
    ) -> KafkaResult<Self> {
        let topic = settings.address.topic();
        let renewals = ends.renewals();
        let member = Member {
            topic: topic.to_owned(),
            deliveries,
            ends,
            reading: Mutex::default(),
        };
        let consumer: BaseConsumer<Member> = client(&settings.address)
            .set("group.id", &settings.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The oldest there is, where what is wanted is gone.
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1000")
            .set("queued.max.messages.kbytes", "32768")
            .set("fetch.queue.backoff.ms", "5")
            .create_with_context(member)?;
        consumer.subscribe(&[topic])?;
        Ok(Self {
            consumer,
            stored,
            dead_letters,
            renewals,
        })
    }

    /// Reads until nobody takes what is delivered; then commits what is stored and leaves the group.
    pub(super) fn run(self) {
        while self.step().is_ok() {}
        self.commit(CommitMode::Sync);
        self.dead_letters.flush();
        // Closing revokes what is left; nobody is there to be told.
        self.member().ends.set_left();
    }

    fn member(&self) -> &Member {
        self.consumer.context()
    }

    /// Reads until there is nothing more at the moment, or enough for a delivery.
    fn step(&self) -> Result<(), Gone> {
        self.commit(CommitMode::Async);
        self.same_log()?;
        let mut wait = WAIT;
        let before = self.dead_letters.added();
        loop {
            if self.member().deliveries.is_closed() {
                return Err(Gone);
            }
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    if self.take(&message) >= AT_ONCE {
                        break;
                    }
                }
                Some(Err(error)) => self.failed(&error)?,
                None => break,
            }
            wait = Duration::ZERO;
        }
        // A position behind a dead letter is delivered once the letter is.
        if self.dead_letters.added() > before {
            self.dead_letters.flush();
        }
        self.member().flush()
    }

    /// Positions mean nothing in another log: then everything begins again.
    fn same_log(&self) -> Result<(), Gone> {
        let member = self.member();
        if member.ends.renewals() == self.renewals {
            return Ok(());
        }
        let renewed = SourceError::Away(format!("{} was made anew", member.topic).into());
        let _ = member.deliveries.blocking_send(Err(renewed));
        Err(Gone)
    }

    /// Puts a message into its partition's batch; gives how long that is.
    fn take(&self, message: &BorrowedMessage<'_>) -> usize {
        let partition = message.partition().cast_unsigned();
        let offset = message.offset().cast_unsigned();
        let mut reading = self.member().reading.lock();
        let reading = &mut *reading;
        let Some(next) = reading.next.get_mut(&partition) else {
            // Read ahead of a partition that is somebody else's by now.
            return 0;
        };
        if offset < *next {
            // The library began at the beginning: the end was before what is wanted.
            self.member().ends.look();
            return 0;
        }
        if offset > *next {
            self.gap(partition, *next);
        }
        *next = offset + 1;
        let batch = reading
            .batches
            .entry(partition)
            .or_insert_with(|| Batch::new(partition, offset));
        match Message::read(message.payload()) {
            Ok(event) => batch.push(&event.event(offset)),
            Err(poison) => {
                batch.skip(offset);
                self.dead_letters.add(message, &poison);
            }
        }
        if let Some(at) = message.timestamp().to_millis() {
            self.member().ends.read(partition, at);
        }
        batch.len() + usize::try_from(batch.skipped()).unwrap_or(usize::MAX)
    }

    /// Says so if messages are missing because the log was cut; markers of transactions leave gaps too.
    fn gap(&self, partition: u32, wanted: u64) {
        let topic = &self.member().topic;
        let asked = self
            .consumer
            .fetch_watermarks(topic, partition.cast_signed(), ASK);
        if let Ok((oldest, _)) = asked
            && oldest.cast_unsigned() > wanted
        {
            tracing::warn!(
                partition,
                wanted,
                oldest,
                "the log has been cut: reading from the oldest event that there is. Counts of all time stay right, \
                 because events carry them; what was counted in between is missing from periods and series"
            );
        }
    }

    /// A fatal error needs a new client; everything else the library tries again by itself.
    fn failed(&self, error: &KafkaError) -> Result<(), Gone> {
        if !matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            tracing::debug!(%error, "Kafka's library");
            return Ok(());
        }
        let fatal = SourceError::Away(Box::new(error.clone()));
        let _ = self.member().deliveries.blocking_send(Err(fatal));
        Err(Gone)
    }

    /// Commits what has been stored since, for tools that show lag.
    fn commit(&self, mode: CommitMode) {
        let Some(stored) = self.stored.lock().take() else {
            return;
        };
        let member = self.member();
        let own = member.reading.lock().positions();
        let mut list = TopicPartitionList::new();
        for (partition, _) in own.iter() {
            let offset = Offset::Offset(stored.next(partition).cast_signed());
            // The offset is not negative and the list is ours: it cannot be refused.
            let _ = list.add_partition_offset(&member.topic, partition.cast_signed(), offset);
        }
        if list.count() == 0 {
            return;
        }
        if let Err(error) = self.consumer.commit(&list, mode) {
            tracing::debug!(%error, "positions were not committed");
        }
    }
}
