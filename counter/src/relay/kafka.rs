//! The producer: idempotent, acknowledged by all replicas, snappy, never giving up on one message and going on with the next.
//!
//! `message.timeout.ms=0` and `enable.gapless.guarantee` make librdkafka stop rather than leave a gap:
//! <https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md>. It refuses URLs with anything but brokers and a topic.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::{Backlog, Trouble};

/// Messages that may wait in the producer, of all shards together.
const QUEUE: usize = 200_000;
/// Pause when the producer takes no more.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// How long no acknowledgement may come while messages wait before it is told.
const STALL: Duration = Duration::from_secs(5);

/// Where events go: `kafka://HOST:PORT[,HOST:PORT]/TOPIC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaTarget {
    brokers: String,
    topic: String,
}

impl KafkaTarget {
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// What every client of it is configured with.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "highpress-counter")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        config
    }
}

impl fmt::Display for KafkaTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.brokers, self.topic)
    }
}

impl FromStr for KafkaTarget {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("not a Kafka URL: {url:?}; write kafka://HOST:PORT/TOPIC");
        let (brokers, topic) = url
            .strip_prefix("kafka://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(wrong)?;
        let is_broker = |broker: &str| {
            broker.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains('@') && port.parse::<u16>().is_ok()
            })
        };
        // Kafka's own rule for names.
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_topic = (1..=249).contains(&topic.len()) && topic.bytes().all(legal);
        if !is_topic || !brokers.split(',').all(is_broker) {
            return Err(wrong());
        }
        Ok(Self {
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
        })
    }
}

/// Messages of one entry that are not acknowledged yet.
#[derive(Debug)]
pub(super) struct Pending {
    left: AtomicUsize,
    acknowledged: Arc<Notify>,
}

impl Pending {
    pub(super) fn new(messages: usize, acknowledged: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(messages),
            acknowledged,
        })
    }

    /// Whether Kafka has all of them.
    pub(super) fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }
}

/// What the producer's own threads tell.
pub(super) struct Context {
    backlog: Arc<Backlog>,
    failed: watch::Sender<Option<Arc<str>>>,
    waiting: AtomicU64,
    acknowledged: AtomicU64,
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.fail(reason),
            Some(RDKafkaErrorCode::AllBrokersDown) => self.backlog.trouble("all brokers are away"),
            // Of one broker, or of one try: librdkafka tries again.
            _ => {}
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Self::DeliveryOpaque) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.backlog.sent();
                if pending.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    pending.acknowledged.notify_one();
                }
            }
            Err((error, _)) => self.fail(&error.to_string()),
        }
    }
}

impl Context {
    /// The first reason is the one that says most.
    fn fail(&self, why: &str) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                *failed = Some(why.into());
            }
            first
        });
    }
}

/// A producer, and what became of it.
#[derive(Clone)]
pub(super) struct Producer {
    inner: Arc<ThreadedProducer<Context>>,
    topic: Arc<str>,
    /// When something was acknowledged last, or nothing waited.
    progress: Arc<parking_lot::Mutex<(u64, Instant)>>,
}

impl Producer {
    pub(super) fn start(target: &KafkaTarget, backlog: Arc<Backlog>) -> Result<Self, Trouble> {
        let context = Context {
            backlog,
            failed: watch::Sender::new(None),
            waiting: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
        };
        let inner = target
            .config()
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("compression.codec", "snappy")
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", "10000")
            .set("socket.timeout.ms", "15000")
            .set("retry.backoff.ms", "50")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", QUEUE.to_string())
            .create_with_context(context)
            .map_err(|error| Trouble::new(error.to_string()))?;
        Ok(Self {
            inner: Arc::new(inner),
            topic: target.topic().into(),
            progress: Arc::new(parking_lot::Mutex::new((0, Instant::now()))),
        })
    }

    pub(super) fn inner(&self) -> &Arc<ThreadedProducer<Context>> {
        &self.inner
    }

    /// Hands a message over, waiting for room if need be.
    pub(super) async fn send(
        &self,
        partition: i32,
        key: &str,
        value: &[u8],
        timestamp: i64,
        pending: &Arc<Pending>,
    ) {
        let context = self.inner.client().context();
        context.waiting.fetch_add(1, Ordering::Relaxed);
        let mut record = BaseRecord::with_opaque_to(&self.topic, pending.clone())
            .partition(partition)
            .key(key)
            .payload(value)
            .timestamp(timestamp);
        loop {
            match self.inner.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    sleep(FULL_PAUSE).await;
                }
                Err((error, _)) => {
                    // The session ends by this, and the caller with it.
                    context.fail(&error.to_string());
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Returns when a message cannot be delivered, with the reason.
    pub(super) async fn failed(&self) -> Arc<str> {
        let mut failed = self.inner.client().context().failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // The sender lives in `self`.
            Err(_) => Arc::from("the producer is gone"),
        }
    }

    /// Whether everything that was handed over is acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.inner
            .client()
            .context()
            .waiting
            .load(Ordering::Relaxed)
            == 0
    }

    /// Tells if messages wait and none is acknowledged for long, as when a broker hangs.
    pub(super) fn look_for_stall(&self) {
        let context = self.inner.client().context();
        let acknowledged = context.acknowledged.load(Ordering::Relaxed);
        let idle = context.waiting.load(Ordering::Relaxed) == 0;
        let mut progress = self.progress.lock();
        if idle || progress.0 != acknowledged {
            *progress = (acknowledged, Instant::now());
        } else if progress.1.elapsed() > STALL {
            context.backlog.trouble("Kafka acknowledges nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_target_is_brokers_and_a_topic() {
        let target: KafkaTarget = "kafka://a:1,b:2/counter-events".parse().unwrap();
        assert_eq!(
            (&*target.brokers, &*target.topic),
            ("a:1,b:2", "counter-events")
        );
        assert_eq!(target.to_string(), "kafka://a:1,b:2/counter-events");
        for url in [
            "kafka://",
            "kafka://a:1",
            "kafka://a:1/",
            "kafka://a/t",
            "kafka://a:1,/t",
            "kafka://a:1/t/u",
            "kafka://u:p@a:1/t",
            "kafka://a:1/t?x",
        ] {
            assert!(url.parse::<KafkaTarget>().is_err(), "{url}");
        }
    }
}
