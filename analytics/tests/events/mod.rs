//! Events as the counter's relay sends them, and the program that counts them.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::time::Duration;

use proto::analytics::analytics_service_client::AnalyticsServiceClient;
use proto::analytics::{TopCountersRequest, TopCountersResponse};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde_json::{Value, json};
use testkit::wait::{PATIENCE, within};
use testkit::{Http1, Kafka, Program, Running, eventually};
use tonic::transport::Channel;

/// How long analytics may take to read all: after a kill its group has to notice first.
const CATCH_UP: Duration = Duration::from_secs(60);

/// One counter shard's outbox and its relay.
pub(crate) struct Events {
    topic: String,
    producer: FutureProducer,
    outbox: String,
    sequence: u64,
    counts: BTreeMap<String, i64>,
}

impl Events {
    /// Makes the topic.
    pub(crate) async fn new(kafka: &Kafka, topic: &str, partitions: u32) -> Self {
        kafka.create_topic(topic, partitions, &[]).await;
        Self::on(kafka, topic)
    }

    /// Another outbox' events for a topic that is there.
    pub(crate) fn on(kafka: &Kafka, topic: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", kafka.address().to_string())
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "snappy")
            .set("reconnect.backoff.max.ms", "200")
            .set("topic.metadata.refresh.interval.ms", "500")
            .create()
            .unwrap();
        Self {
            topic: topic.to_owned(),
            producer,
            outbox: format!("outbox-{:08x}", rand()),
            sequence: 0,
            counts: BTreeMap::new(),
        }
    }

    /// Counts: what was sent, for checking.
    pub(crate) async fn add(&mut self, resource: &str, delta: i64) -> Value {
        let event = self.next(resource, delta, now_ms());
        self.send(&event).await;
        event
    }

    /// The next event, not sent.
    pub(crate) fn next(&mut self, resource: &str, delta: i64, timestamp: i64) -> Value {
        let count = self.counts.entry(resource.to_owned()).or_default();
        *count += delta;
        self.sequence += 1;
        json!({
            "event_id": format!("{}-{}", self.outbox, self.sequence), "resource_id": resource,
            "counter_type": "like", "delta": delta, "new_value": *count, "timestamp": timestamp,
            "source": "counter", "outbox": self.outbox, "seq": self.sequence,
        })
    }

    /// Sends, and waits until Kafka has it.
    pub(crate) async fn send(&self, event: &Value) {
        let resource = event["resource_id"].as_str().unwrap();
        self.send_raw(
            format!("{resource}:like").as_bytes(),
            event.to_string().as_bytes(),
        )
        .await;
    }

    /// An increment of `delta` more by somebody who knows only the contract's fields.
    pub(crate) async fn send_without_outbox(&mut self, before: &Value, delta: i64) {
        let mut event = before.clone();
        let fields = event.as_object_mut().unwrap();
        fields.remove("outbox");
        fields.remove("seq");
        fields["event_id"] = json!("somebody's");
        fields["delta"] = json!(delta);
        let count = before["new_value"].as_i64().unwrap() + delta;
        fields["new_value"] = json!(count);
        let resource = before["resource_id"].as_str().unwrap().to_owned();
        self.send(&event).await;
        self.counts.insert(resource, count);
    }

    pub(crate) async fn send_raw(&self, key: &[u8], value: &[u8]) {
        let record = FutureRecord::to(&self.topic).key(key).payload(value);
        let sent = self.producer.send(record, PATIENCE);
        within("Kafka to take an event", PATIENCE * 2, sent)
            .await
            .unwrap();
    }

    /// Sends many at once.
    pub(crate) async fn send_all(&self, events: &[Value]) {
        let sends = events.iter().map(|event| self.send(event));
        futures_util::future::join_all(sends).await;
    }

    /// What each counter is now, in the order of a ranking.
    pub(crate) fn counts(&self) -> Vec<(String, i64)> {
        let mut counts: Vec<_> = self.counts.clone().into_iter().collect();
        counts.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        counts
    }
}

/// Messages of a topic's only partition from its beginning.
pub(crate) async fn read(kafka: &Kafka, topic: &str, count: usize) -> Vec<OwnedMessage> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.address().to_string())
        .set("group.id", format!("reader-{:08x}", rand()))
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut messages = Vec::new();
    while messages.len() < count {
        let what = format!("message {} of {topic}", messages.len());
        let message = within(&what, PATIENCE, consumer.recv()).await.unwrap();
        messages.push(message.detach());
    }
    messages
}

/// The heads of snapshots in the first so many messages of a partition.
pub(crate) async fn read_partition(
    kafka: &Kafka,
    topic: &str,
    partition: usize,
    count: usize,
) -> Vec<Value> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.address().to_string())
        .set("group.id", format!("reader-{:08x}", rand()))
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    let partition = i32::try_from(partition).unwrap();
    list.add_partition_offset(topic, partition, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let mut heads = Vec::new();
    let mut next = 0;
    while next < count {
        let what = format!("message {next} of {topic}");
        let message = within(&what, PATIENCE, consumer.recv()).await.unwrap();
        next = usize::try_from(message.offset()).unwrap() + 1;
        if message.key().unwrap().ends_with(b"/head") {
            heads.push(serde_json::from_slice(message.payload().unwrap()).unwrap());
        }
    }
    heads
}

/// How to start the program, on a directory of its own.
pub(crate) struct Analytics {
    args: Vec<String>,
    data: tempfile::TempDir,
}

/// The program, running.
pub(crate) struct Started {
    pub(crate) running: Running,
    client: AnalyticsServiceClient<Channel>,
}

impl Analytics {
    pub(crate) fn new(kafka: &Kafka, topic: &str) -> Self {
        let source = kafka.url(topic);
        let group = format!("group-{topic}");
        Self {
            args: vec!["--source".to_owned(), source, "--group".to_owned(), group],
            data: tempfile::tempdir().unwrap(),
        }
    }

    #[must_use]
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub(crate) async fn start(&self) -> Started {
        self.start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(&self, listen: &str) -> Started {
        let running = Program::new("highpress-analytics")
            .args(["--listen", listen, "--admin", "127.0.0.1:0", "--data"])
            .arg(self.data.path())
            .args(&self.args)
            .env("HIGHPRESS_LOG", "info,highpress_analytics=debug")
            .start()
            .await;
        let url = format!("http://{}", running.address("grpc"));
        let channel = Channel::from_shared(url).unwrap().connect_lazy();
        Started {
            running,
            client: AnalyticsServiceClient::new(channel),
        }
    }
}

impl Started {
    pub(crate) async fn kill(&self) {
        self.running.kill().await;
    }

    pub(crate) async fn stop(&self) {
        let status = self.running.stop_within(PATIENCE).await;
        assert!(status.success(), "{status}: {}", self.running.logs());
    }

    /// Waits until nothing is unread.
    pub(crate) async fn caught_up(&self) {
        eventually("analytics to read all", CATCH_UP, async || {
            match (self.lag().await, self.waiting().await.as_str()) {
                (0, "") => Ok(()),
                (lag, waiting) => Err(format!("{lag} unread, waiting for {waiting:?}")),
            }
        })
        .await;
    }

    pub(crate) async fn status(&self) -> Value {
        let mut admin = Http1::connect(self.running.address("admin")).await;
        admin.get("/status").await.json()
    }

    pub(crate) async fn lag(&self) -> u64 {
        self.status().await["lag"]["messages"].as_u64().unwrap()
    }

    /// What `/readyz` waits for; empty when it is ready.
    pub(crate) async fn waiting(&self) -> String {
        let mut admin = Http1::connect(self.running.address("admin")).await;
        let ready = admin.get("/readyz").await;
        if ready.status == 200 {
            String::new()
        } else {
            ready.text()
        }
    }

    /// Waits until `/readyz` names this.
    pub(crate) async fn waits_for(&self, what: &str) -> String {
        eventually(
            &format!("to wait for {what}"),
            PATIENCE,
            async || match self.waiting().await {
                waiting if waiting.contains(what) => Ok(waiting),
                other => Err(other),
            },
        )
        .await
    }

    pub(crate) async fn metrics(&self) -> String {
        let mut admin = Http1::connect(self.running.address("admin")).await;
        admin.get("/metrics").await.text()
    }

    /// The first 1,000 places of a period.
    pub(crate) async fn ranking(&self, period: &str) -> TopCountersResponse {
        let request = TopCountersRequest {
            counter_type: "like".to_owned(),
            limit: Some(1000),
            period: period.to_owned(),
            ..TopCountersRequest::default()
        };
        let asked = self.client.clone().get_top_counters(request).await;
        asked.unwrap().into_inner()
    }

    pub(crate) async fn top(&self, period: &str) -> Vec<(String, i64)> {
        let top = self.ranking(period).await;
        top.counters
            .into_iter()
            .map(|counter| (counter.resource_id, counter.value))
            .collect()
    }

    pub(crate) async fn as_of(&self) -> i64 {
        self.ranking("all").await.as_of
    }

    pub(crate) fn client(&self) -> AnalyticsServiceClient<Channel> {
        self.client.clone()
    }
}

pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn rand() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) as u32
}
