//! What a topic of events holds, read from its beginning, and whether it tells of each increment exactly once.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::kafka::Kafka;

/// How long Kafka may take to give the next message.
const PATIENCE: Duration = Duration::from_secs(20);

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Where it is.
    pub partition: i32,
    /// Its key.
    pub key: String,
    /// Its value.
    pub bytes: Vec<u8>,
}

impl Message {
    /// The value as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("the value is JSON")
    }
}

/// What the event of an increment says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// What was added.
    pub delta: i64,
    /// The count after it.
    pub new_value: i64,
}

/// All of a topic, repeats left out as the contract says: the highest number for each outbox and partition.
#[derive(Debug, Default)]
pub struct Told {
    /// The events of each counter, in their order.
    pub events: BTreeMap<String, Vec<Event>>,
    /// Messages that were repeats.
    pub repeats: u64,
    /// What is not as it should be: a repeat that differs, a number that is missing, a count that does not follow.
    pub problems: Vec<String>,
    highest: HashMap<(String, i32), u64>,
    seen: HashMap<String, Vec<u8>>,
    numbers: HashMap<String, Vec<u64>>,
}

/// What a counter's events come to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// How many there are.
    pub events: u64,
    /// What they add up to.
    pub deltas: i64,
    /// The value after the latest one.
    pub last: i64,
}

/// All messages, in the order of each partition. Reads to the ends that the topic had at the beginning.
///
/// # Panics
/// When Kafka does not answer.
pub async fn read(kafka: &Kafka, topic: &str) -> Vec<Message> {
    let ends = kafka.offsets(topic).await.len();
    let (broker, topic) = (kafka.address(), topic.to_owned());
    let read = tokio::task::spawn_blocking(move || read_all(broker, &topic, ends));
    read.await.expect("reading does not panic")
}

fn read_all(broker: SocketAddr, topic: &str, partitions: usize) -> Vec<Message> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.to_string())
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("the settings are right");
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        let partition = i32::try_from(partition).expect("few partitions");
        all.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a partition of the topic");
    }
    consumer.assign(&all).expect("partitions of the topic");
    let (mut open, mut messages) = (partitions, Vec::new());
    while open > 0 {
        match consumer.poll(PATIENCE).expect("Kafka answers") {
            Ok(message) => messages.push(Message {
                partition: message.partition(),
                key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                bytes: message.payload().unwrap_or_default().to_vec(),
            }),
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            // Of the connection: the library tries again.
            Err(_) => {}
        }
    }
    messages
}

impl Told {
    /// Takes all messages, in the order of each partition.
    pub fn new(messages: &[Message]) -> Self {
        let mut told = Self::default();
        for message in messages {
            told.take(message);
        }
        told.look_for_gaps();
        told
    }

    fn take(&mut self, message: &Message) {
        let value = message.value();
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (id, outbox) = (text("event_id"), text("outbox"));
        let number = value["seq"].as_u64().unwrap_or_default();
        if id != format!("{outbox}-{number}") {
            self.problems
                .push(format!("{id} is not made of outbox and number: {value}"));
        }
        let top = self
            .highest
            .entry((outbox.clone(), message.partition))
            .or_default();
        if number <= *top {
            self.repeats += 1;
            if self.seen.get(&id) != Some(&message.bytes) {
                self.problems
                    .push(format!("{id} is no repeat byte for byte: {value}"));
            }
            return;
        }
        *top = number;
        if self
            .seen
            .insert(id.clone(), message.bytes.clone())
            .is_some()
        {
            self.problems.push(format!("{id} is there twice"));
        }
        self.numbers.entry(outbox).or_default().push(number);
        let named = format!("{}:{}", text("resource_id"), text("counter_type"));
        if named != message.key {
            self.problems
                .push(format!("{id} has the key {}: {value}", message.key));
        }
        let (Some(delta), Some(new_value)) = (value["delta"].as_i64(), value["new_value"].as_i64())
        else {
            self.problems.push(format!("{id} has no numbers: {value}"));
            return;
        };
        let events = self.events.entry(named).or_default();
        if let Some(before) = events.last()
            && before.new_value.wrapping_add(delta) != new_value
        {
            self.problems
                .push(format!("{value} does not follow {}", before.new_value));
        }
        events.push(Event { delta, new_value });
    }

    fn look_for_gaps(&mut self) {
        for (outbox, numbers) in &mut self.numbers {
            numbers.sort_unstable();
            let first = numbers[0];
            if !(first..)
                .zip(&*numbers)
                .all(|(expected, is)| expected == *is)
            {
                self.problems
                    .push(format!("numbers of {outbox} are missing: {numbers:?}"));
            }
        }
    }
}

/// What the events of each counter come to.
///
/// # Panics
/// When anything is not as it should be.
pub fn sums(messages: &[Message]) -> HashMap<String, Sum> {
    let told = Told::new(messages);
    assert!(told.problems.is_empty(), "{:#?}", told.problems);
    let sum = |events: &[Event]| Sum {
        events: events.len() as u64,
        deltas: events
            .iter()
            .fold(0, |sum, event| i64::wrapping_add(sum, event.delta)),
        last: events.last().map_or(0, |event| event.new_value),
    };
    let named = told.events.iter();
    named
        .map(|(name, events)| (name.clone(), sum(events)))
        .collect()
}
