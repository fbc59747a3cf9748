//! Where the partitions end: how far the answers are behind, and whether Kafka is there at all.
//!
//! A client of its own asks twice a second; `/status` and metrics ask anew, because a lag of 0 says that nothing is unread
//! at that moment. While Kafka does not answer nobody knows, and the lag is told as at least 1.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;

use super::context::Context;
use super::log_id::LogId;
use super::{KafkaSettings, client};
use crate::event::Positions;
use crate::source::{Head, Lag, Log};
use crate::status::unix_millis;

const PERIOD: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
/// How long somebody who looks at a page may have to wait.
const PATIENCE_OF_A_PAGE: Duration = Duration::from_millis(400);
/// How often the number of partitions is asked for, in periods.
const PARTITIONS_EVERY: u32 = 20;
/// Steps of a partition's end that are remembered: an hour of them, if it moves all the time.
const STEPS: usize = 7200;

/// What is known of the partitions' ends.
pub(super) struct Ends {
    consumer: BaseConsumer<Context<()>>,
    topic: String,
    known: Mutex<Known>,
    log_id: Mutex<LogId>,
    /// How often the topic was found to be made anew.
    renewals: AtomicU64,
    waiting: watch::Sender<Option<String>>,
    stopped: AtomicBool,
    thread: std::sync::OnceLock<std::thread::Thread>,
}

#[derive(Debug, Default)]
struct Known {
    partitions: BTreeMap<u32, Partition>,
    /// When all ends were told last, in unix milliseconds; 0 before.
    at_ms: i64,
    failed: Option<String>,
    /// Which log the topic was last.
    log: Option<Log>,
    /// The partitions that are this process' own; `None` before the group has said so.
    own: Option<BTreeSet<u32>>,
    /// Those that were taken away and not given anew yet: until then they may be nobody's.
    leaving: BTreeSet<u32>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Ends as they moved, and when that was seen.
    steps: VecDeque<(u64, i64)>,
    /// The timestamp of the message that was read last.
    read_ms: i64,
    /// The first step that was seen: what is before it was there before.
    first: u64,
}

impl Ends {
    /// Begins to ask.
    pub(super) fn start(settings: &KafkaSettings) -> anyhow::Result<Arc<Self>> {
        let waiting = format!("an answer from {}", settings.address);
        let ends = Arc::new(Self {
            consumer: client(&settings.address).create_with_context(Context(()))?,
            topic: settings.address.topic().to_owned(),
            known: Mutex::default(),
            log_id: Mutex::new(LogId::new(
                settings.address.brokers(),
                settings.address.topic(),
            )),
            renewals: AtomicU64::new(0),
            waiting: watch::Sender::new(Some(waiting)),
            stopped: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let asking = ends.clone();
        let thread = std::thread::Builder::new()
            .name("kafka-ends".to_owned())
            .spawn(move || asking.run())?;
        let _ = ends.thread.set(thread.thread().clone());
        Ok(ends)
    }

    /// Stops asking.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.look();
    }

    /// Asks at once: something is strange.
    pub(super) fn look(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Which log the topic is, asked now; `None` while nobody tells.
    pub(super) fn log(&self) -> Option<Log> {
        let log = self.log_id.lock().ask(PATIENCE)?;
        let mut known = self.known.lock();
        let renewed = known.log.as_ref().is_some_and(|before| before.id != log.id);
        if renewed {
            let none = |partition| (partition, Partition::default());
            known.partitions = (0..log.partitions).map(none).collect();
            self.renewals.fetch_add(1, Ordering::Relaxed);
        }
        known.log = Some(log.clone());
        Some(log)
    }

    /// Moves when the topic is found to be made anew.
    pub(super) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    /// What is waited for, as it changes.
    pub(super) fn waiting(&self) -> watch::Receiver<Option<String>> {
        self.waiting.subscribe()
    }

    /// These partitions are this process' own too: said before they are read, so that they count as unread.
    pub(super) fn assigned(&self, partitions: &BTreeSet<u32>) {
        let mut known = self.known.lock();
        known.leaving.clear();
        known.own.get_or_insert_default().extend(partitions);
        drop(known);
        self.tell();
    }

    /// These are not any more.
    pub(super) fn revoked(&self, partitions: &BTreeSet<u32>) {
        let mut known = self.known.lock();
        known.leaving.extend(partitions);
        if let Some(own) = &mut known.own {
            own.retain(|partition| !partitions.contains(partition));
        }
    }

    /// The group has been left.
    pub(super) fn set_left(&self) {
        self.known.lock().own = None;
        self.tell();
    }

    /// A message with this timestamp was read.
    pub(super) fn read(&self, partition: u32, at_ms: i64) {
        self.known
            .lock()
            .partitions
            .entry(partition)
            .or_default()
            .read_ms = at_ms;
    }

    /// The oldest offset of a partition that is there, and the end.
    pub(super) fn range(&self, partition: u32) -> Option<(u64, u64)> {
        let asked = self
            .consumer
            .fetch_watermarks(&self.topic, partition.cast_signed(), PATIENCE);
        let (oldest, end) = asked.ok()?;
        Some((oldest.cast_unsigned(), end.cast_unsigned()))
    }

    fn run(&self) {
        let mut round = 0_u32;
        while !self.stopped.load(Ordering::Relaxed) {
            // What the library has to say, so that it does not pile up.
            while self.consumer.poll(Duration::ZERO).is_some() {}
            if round.is_multiple_of(PARTITIONS_EVERY) || self.known.lock().partitions.is_empty() {
                round = 0;
                if let Err(why) = self.count_partitions() {
                    self.failed(why);
                }
            }
            round += 1;
            match self.ask(PATIENCE) {
                Ok(()) => drop(self.log()),
                Err(error) => self.failed(error.to_string()),
            }
            self.tell();
            std::thread::park_timeout(PERIOD);
        }
    }

    fn count_partitions(&self) -> Result<(), String> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), PATIENCE)
            .map_err(|error| error.to_string())?;
        let count = metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len());
        if count == 0 {
            return Err(format!("there is no topic {}", self.topic));
        }
        let mut known = self.known.lock();
        for partition in 0..u32::try_from(count).unwrap_or(u32::MAX) {
            known.partitions.entry(partition).or_default();
        }
        Ok(())
    }

    /// Asks for all ends and remembers them.
    fn ask(&self, patience: Duration) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for partition in self.known.lock().partitions.keys() {
            // "For the time -1" is what the protocol calls the end.
            list.add_partition_offset(&self.topic, partition.cast_signed(), Offset::End)?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        // Before the answer: what is written meanwhile may be in it, nothing older can be missing.
        let at_ms = unix_millis();
        let found = self.consumer.offsets_for_times(list, patience)?;
        let mut ends = Vec::new();
        for element in found.elements() {
            element.error()?;
            let Offset::Offset(end) = element.offset() else {
                return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset));
            };
            ends.push((element.partition().cast_unsigned(), end.cast_unsigned()));
        }
        let mut known = self.known.lock();
        for (partition, end) in ends {
            known
                .partitions
                .entry(partition)
                .or_default()
                .seen(end, at_ms);
        }
        known.at_ms = known.at_ms.max(at_ms);
        known.failed = None;
        Ok(())
    }

    fn failed(&self, why: String) {
        self.known.lock().failed = Some(why);
    }

    fn tell(&self) {
        let known = self.known.lock();
        let waiting = match (&known.failed, &known.own) {
            (Some(why), _) => Some(why.clone()),
            (None, _) if known.at_ms == 0 => return,
            (None, None) => Some("the consumer group assigns no partitions yet".to_owned()),
            (None, Some(_)) => None,
        };
        drop(known);
        self.waiting.send_if_modified(|told| {
            let changed = *told != waiting;
            *told = waiting;
            changed
        });
    }
}

impl Partition {
    fn seen(&mut self, end: u64, at_ms: i64) {
        if self.steps.is_empty() {
            self.first = end;
        }
        // An earlier end: the topic was made anew, and what was known of it is nothing.
        if self.steps.back().is_some_and(|(last, _)| end < *last) {
            self.steps.clear();
        }
        if self.steps.back().is_none_or(|(last, _)| end > *last) {
            self.steps.push_back((end, at_ms));
        }
        if self.steps.len() > STEPS {
            self.steps.pop_front();
        }
    }

    fn end(&self) -> Option<u64> {
        self.steps.back().map(|(end, _)| *end)
    }

    /// How many are unread, and since when.
    fn unread(&self, next: u64) -> (u64, Option<i64>) {
        let end = self.end().unwrap_or(next);
        // What has been read beyond the end is of another log, of which nothing has been read.
        let unread = match end.checked_sub(next) {
            Some(unread) => unread,
            None => end.max(1),
        };
        let seen = self.steps.iter().find(|(end, _)| *end > next);
        let since = seen.map(|(end, at)| {
            // What was there before anybody looked is as old as what stands before it.
            if *end == self.first && self.read_ms > 0 {
                self.read_ms.min(*at)
            } else {
                *at
            }
        });
        (unread, since)
    }
}

impl Known {
    // An age in seconds needs no more digits than a double has.
    #[allow(clippy::cast_precision_loss, reason = "ages are told as doubles")]
    fn lag(&self, applied: &Positions) -> Lag {
        let now = unix_millis();
        let mut lag = Lag::default();
        let mut oldest = None;
        for (partition, known) in &self.partitions {
            let elsewhere = |own: &BTreeSet<u32>| !own.contains(partition);
            if self.own.as_ref().is_some_and(elsewhere) && elsewhere(&self.leaving) {
                continue;
            }
            let (unread, since) = known.unread(applied.next(*partition));
            lag.messages += unread;
            oldest = match (oldest, since) {
                (Some(a), Some(b)) => Some(i64::min(a, b)),
                (a, b) => a.or(b),
            };
        }
        if self.failed.is_some() || self.at_ms == 0 {
            lag.messages = lag.messages.max(1);
            oldest = oldest.or((self.at_ms > 0).then_some(self.at_ms));
        }
        if lag.messages > 0 {
            lag.seconds = oldest.map_or(0.0, |since| (now - since).max(0) as f64 / 1000.0);
        }
        lag
    }
}

impl Head for Arc<Ends> {
    fn lag(&self, applied: &Positions) -> Lag {
        let asked = if self.known.lock().failed.is_some() {
            // It is known to be away: a page need not wait to see it again.
            Ok(())
        } else {
            self.ask(PATIENCE_OF_A_PAGE)
        };
        let mut lag = self.known.lock().lag(applied);
        if asked.is_err() {
            lag.messages = lag.messages.max(1);
        }
        lag
    }

    fn as_of(&self, partition: u32, position: u64, newest: i64, now: i64) -> i64 {
        let known = self.known.lock();
        let end = known.partitions.get(&partition).and_then(Partition::end);
        if end.is_some_and(|end| position >= end) {
            known.at_ms.div_euclid(1000).min(now)
        } else {
            newest.min(now)
        }
    }

    fn partitions(&self) -> Option<u32> {
        let known = self.known.lock();
        let partitions = u32::try_from(known.partitions.len()).ok()?;
        (known.at_ms > 0).then_some(partitions)
    }
}
