//! One shard on its way to Kafka: read, send, wait for acknowledgements, trim, in this order and from the beginning on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::kafka::{Pending, Producer};
use crate::outbox::{Entry, Outbox, Position, Trim, partition};
use crate::store::StoreError;

/// Events of one shard that may be on their way at a time.
const WINDOW: usize = 32 * 1024;
/// Events that one read should bring, roughly: how many entries that is depends on how full they are.
const READ_EVENTS: usize = 4096;
const FEWEST_ENTRIES: usize = 8;
const MOST_ENTRIES: usize = 1024;
/// How long an idle shard is left alone.
const IDLE: Duration = Duration::from_millis(20);
/// How long to wait when the store fails.
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// A shard and what of it is on its way.
pub(super) struct Shard {
    number: u32,
    outbox: Arc<dyn Outbox>,
    producer: Producer,
    partitions: u32,
    acknowledged: Arc<Notify>,
    flying: VecDeque<Flying>,
    /// Events in `flying`.
    events: usize,
    /// What was read last; none at the beginning.
    after: Option<Position>,
    server: Option<Arc<String>>,
    entries: usize,
    value: Vec<u8>,
}

/// An entry that was sent.
struct Flying {
    trim: Trim,
    events: usize,
    pending: Arc<Pending>,
}

impl Shard {
    pub(super) fn new(
        number: u32,
        outbox: Arc<dyn Outbox>,
        producer: Producer,
        partitions: u32,
    ) -> Self {
        Self {
            number,
            outbox,
            producer,
            partitions,
            acknowledged: Arc::default(),
            flying: VecDeque::new(),
            events: 0,
            after: None,
            server: None,
            entries: FEWEST_ENTRIES,
            value: Vec::new(),
        }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(error) = self.step().await {
                tracing::debug!(shard = self.number, %error, "the outbox cannot be used now");
                self.begin_again();
                sleep(STORE_PAUSE).await;
            }
        }
    }

    /// What is in the outbox may be another server's next time, so nothing is taken as read.
    fn begin_again(&mut self) {
        self.flying.clear();
        (self.events, self.after, self.server) = (0, None, None);
    }

    async fn step(&mut self) -> Result<(), StoreError> {
        self.trim().await?;
        let full = self.events >= WINDOW;
        let read = if full { 0 } else { self.read().await? };
        match (read, self.flying.is_empty()) {
            (0, true) => sleep(IDLE).await,
            // More may have come when some are acknowledged.
            (0, false) => {
                let _ = timeout(IDLE, self.acknowledged.notified()).await;
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes what Kafka has from the front on.
    async fn trim(&mut self) -> Result<(), StoreError> {
        let mut through = None;
        while let Some(front) = self.flying.front()
            && front.pending.is_done()
        {
            through = Some(front.trim);
            self.events -= front.events;
            self.flying.pop_front();
        }
        if let Some(through) = through {
            self.outbox.trim(self.number, &through).await?;
        }
        if self.flying.is_empty() {
            // All that was read is trimmed: whatever is there now has not been read.
            self.after = None;
        }
        Ok(())
    }

    /// Reads and sends; how many entries that were.
    async fn read(&mut self) -> Result<usize, StoreError> {
        let chunk = self
            .outbox
            .read(self.number, self.after, self.entries)
            .await?;
        if self.server.get_or_insert_with(|| chunk.server.clone()) != &chunk.server {
            return Err(StoreError::Unavailable("it is another server now".into()));
        }
        let events: usize = chunk.entries.iter().map(Entry::len).sum();
        if chunk.entries.len() >= self.entries {
            self.entries = match events {
                few if few < READ_EVENTS / 2 => (self.entries * 2).min(MOST_ENTRIES),
                many if many > READ_EVENTS * 2 => (self.entries / 2).max(FEWEST_ENTRIES),
                _ => self.entries,
            };
        }
        for entry in &chunk.entries {
            self.send(entry).await;
            // A long backlog must not keep increments from this thread.
            yield_now().await;
        }
        Ok(chunk.entries.len())
    }

    async fn send(&mut self, entry: &Entry) {
        let pending = Pending::new(entry.len(), self.acknowledged.clone());
        self.flying.push_back(Flying {
            trim: Trim {
                position: entry.position,
                last: entry.last(),
            },
            events: entry.len(),
            pending: pending.clone(),
        });
        self.events += entry.len();
        self.after = Some(entry.position);
        for event in entry.events() {
            self.value.clear();
            event.write_value(&entry.outbox, &mut self.value);
            let partition = partition(event.key.as_bytes(), self.partitions);
            // A topic has fewer partitions than that.
            let partition = i32::try_from(partition).unwrap_or(i32::MAX);
            self.producer
                .send(partition, event.key, &self.value, event.timestamp, &pending)
                .await;
        }
    }
}
