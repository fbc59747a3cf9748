//! Events from a topic of Kafka: a member of a consumer group that stores its positions with its state, not in Kafka.
//!
//! ```text
//! thread `poll`:  client library -> message -> event or dead letter -> batches -> channel -> consumer, state
//!                 rebalance: partitions come (the state says where they go on) and go (when their events are stored)
//! thread `ends`:  where each partition ends, twice a second and when somebody asks: lag, and whether Kafka is there
//! ```
//! The group's offsets are committed after the state is stored, for tools that show lag; nothing here reads them. Nothing
//! that is in a topic stops the consumer: what is no event goes to a topic for dead letters.

mod address;
mod context;
mod dead_letters;
mod ends;
mod group;
mod log_id;
mod message;
mod poll;
mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::dead_letters::DeadLetters;
use self::ends::Ends;
use self::poll::Poll;
use self::snapshots::Snapshots;
use crate::event::Positions;
use crate::source::{Delivery, Head, Log, Source, SourceError};
use crate::tally::Snapshot;

pub use self::address::{Address, Topic};

/// Deliveries under way: the client library itself reads ahead.
const UNDER_WAY: usize = 4;
/// How long leaving the group may take at the end.
const LEAVE: Duration = Duration::from_secs(5);

/// What to read, as whom.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// The topic.
    pub address: Address,
    /// The consumer group: instances of the same one share the partitions.
    pub group: String,
    /// Where messages go that are no events.
    pub dead_letters: Topic,
    /// Where snapshots are kept, if anywhere.
    pub snapshots: Option<Topic>,
    /// How often they are written.
    pub snapshot_interval: Duration,
}

/// A topic of Kafka as a source.
pub struct KafkaSource {
    settings: KafkaSettings,
    name: String,
    ends: Arc<Ends>,
    snapshots: Option<Snapshots>,
    /// The positions of the snapshots that were written last, and the log that they are of.
    kept: Positions,
    log: Option<String>,
    /// The snapshot that is being written.
    keeping: Option<JoinHandle<()>>,
    running: Option<Running>,
}

/// What lives from one start to the next.
struct Running {
    deliveries: mpsc::Receiver<Result<Delivery, SourceError>>,
    waiting: watch::Receiver<Option<String>>,
    told: bool,
    stored: Arc<Mutex<Option<Positions>>>,
    thread: std::thread::JoinHandle<()>,
}

impl KafkaSource {
    /// A source that is not connected yet.
    pub fn new(settings: KafkaSettings) -> anyhow::Result<Self> {
        let ends = Ends::start(&settings)?;
        let address = settings.address.clone();
        let identity = identity(&address);
        let topic = settings.snapshots.clone();
        Ok(Self {
            name: settings.address.to_string(),
            snapshots: topic.map(|topic| Snapshots::new(address, topic, identity)),
            kept: Positions::default(),
            log: None,
            keeping: None,
            settings,
            ends,
            running: None,
        })
    }

    async fn stop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        // The thread ends when nobody takes what it delivers.
        let Running {
            deliveries, thread, ..
        } = running;
        drop(deliveries);
        let left = tokio::task::spawn_blocking(move || thread.join());
        match tokio::time::timeout(LEAVE, left).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => tracing::error!("the thread that reads Kafka failed"),
            Err(_) => tracing::warn!("Kafka does not let go: leaving the group without its answer"),
        }
    }
}

impl Source for KafkaSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> String {
        identity(&self.settings.address)
    }

    fn fixed(&self) -> &[u32] {
        &[]
    }

    fn head(&self) -> Box<dyn Head> {
        Box::new(self.ends.clone())
    }

    async fn log(&mut self) -> Option<Log> {
        let ends = self.ends.clone();
        let log = tokio::task::spawn_blocking(move || ends.log())
            .await
            .ok()??;
        if self.log.as_ref() != Some(&log.id) {
            self.kept = Positions::default();
            self.log = Some(log.id.clone());
        }
        Some(log)
    }

    async fn start(&mut self, _: &Positions) -> Result<(), SourceError> {
        self.stop().await;
        let away = |error: rdkafka::error::KafkaError| SourceError::Away(Box::new(error));
        let (sender, deliveries) = mpsc::channel(UNDER_WAY);
        let stored = Arc::new(Mutex::new(None));
        let dead_letters = DeadLetters::new(&self.settings).map_err(away)?;
        let poll = Poll::new(
            &self.settings,
            sender,
            stored.clone(),
            self.ends.clone(),
            dead_letters,
        )
        .map_err(away)?;
        let thread = std::thread::Builder::new()
            .name("kafka-poll".to_owned())
            .spawn(move || poll.run())
            .map_err(|error| SourceError::Away(Box::new(error)))?;
        self.running = Some(Running {
            deliveries,
            waiting: self.ends.waiting(),
            told: false,
            stored,
            thread,
        });
        Ok(())
    }

    async fn next(&mut self) -> Result<Delivery, SourceError> {
        let Some(running) = &mut self.running else {
            return Err(SourceError::Away("it was not started".into()));
        };
        if !running.told {
            running.told = true;
            return Ok(Delivery::Waiting(
                running.waiting.borrow_and_update().clone(),
            ));
        }
        tokio::select! {
            // The state of the connection first: it must not wait behind a backlog.
            biased;
            Ok(()) = running.waiting.changed() => {
                Ok(Delivery::Waiting(running.waiting.borrow_and_update().clone()))
            }
            delivery = running.deliveries.recv() => match delivery {
                Some(delivery) => delivery,
                None => Err(SourceError::Away("the thread that reads it ended".into())),
            },
        }
    }

    async fn stored(&mut self, positions: &Positions) -> Result<(), SourceError> {
        if let Some(running) = &self.running {
            *running.stored.lock() = Some(positions.clone());
        }
        Ok(())
    }

    fn keeps_every(&self) -> Option<Duration> {
        self.snapshots
            .is_some()
            .then_some(self.settings.snapshot_interval)
    }

    async fn keep(&mut self, partition: u32, snapshot: Snapshot) {
        let (Some(snapshots), Some(partitions)) = (&self.snapshots, self.ends.partitions()) else {
            return;
        };
        if self.kept.next(partition) >= snapshot.position {
            return;
        }
        // One at a time: each holds a whole partition in memory.
        if let Some(keeping) = self.keeping.take() {
            let _ = keeping.await;
        }
        self.kept.set(partition, snapshot.position);
        let snapshots = snapshots.of(self.log.as_deref());
        self.keeping = Some(tokio::spawn(async move {
            if let Err(error) = write(snapshots, partitions, partition, snapshot).await {
                tracing::warn!(partition, %error, "a snapshot was not written; the next one will be");
            }
        }));
    }

    async fn restore(&mut self, partition: u32, position: u64) -> Option<Snapshot> {
        let snapshots = self.snapshots.as_ref()?.of(self.log.as_deref());
        let (oldest, end) = self.ends.range(partition)?;
        if position > 0 && position >= oldest {
            return None;
        }
        let found = tokio::task::spawn_blocking(move || snapshots.find(partition)).await;
        match found.ok()? {
            Ok(found) => found.filter(|found| (position + 1..=end).contains(&found.position)),
            Err(error) => {
                tracing::warn!(partition, %error, "no snapshot can be read: going on from the log");
                None
            }
        }
    }

    async fn close(&mut self) {
        self.stop().await;
        self.ends.stop();
    }
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSource")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn identity(address: &Address) -> String {
    format!("kafka:{}", address.topic())
}

async fn write(
    snapshots: Snapshots,
    partitions: u32,
    partition: u32,
    snapshot: Snapshot,
) -> anyhow::Result<()> {
    snapshots.make(partitions).await?;
    let position = snapshot.position;
    tokio::task::spawn_blocking(move || snapshots.write(partition, &snapshot)).await??;
    tracing::debug!(partition, position, "a snapshot was written");
    Ok(())
}

/// What every client of the cluster has. It comes back within a second of the broker: an outage ends when it ends.
fn client(address: &Address) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address.brokers())
        .set("client.id", "highpress-analytics")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true")
        .set("topic.metadata.refresh.interval.ms", "5000")
        // Broken connections are told once, by `ends`, not in each line of the library.
        .set("log.connection.close", "false");
    config
}
