//! The counter's embedded event log as a source for analytics: what would go through Kafka, in one process.
//!
//! Sequence numbers are positions. What analytics has stored is trimmed from the log, so the log holds what a crash would
//! have to read again, and no more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highpress_analytics::event::{Batch, Event, Origin, Positions};
use highpress_analytics::source::{Delivery, Head, Lag, Source, SourceError};
use highpress_counter::store::UnixMillis;
use highpress_counter::store::embedded::{self, EventLog};

/// The log is one stream.
const PARTITION: u32 = 0;
/// Events read at once: enough to be fast at catching up, few enough that queries do not wait for them.
const AT_ONCE: usize = 2048;

/// The log, and how far it has been delivered.
pub(crate) struct CounterEvents {
    log: EventLog,
    /// The sequence number of the last event delivered.
    delivered: u64,
    /// Whether it has been said that events are there.
    told: bool,
    waiting_since: Arc<AtomicI64>,
}

/// Tells the distance to the end of the log.
struct LogHead {
    log: EventLog,
    /// The unix millisecond of the oldest event that may be unread; meaningless while none is.
    waiting_since: Arc<AtomicI64>,
}

impl CounterEvents {
    pub(crate) fn new(log: EventLog) -> Self {
        Self {
            log,
            delivered: 0,
            told: false,
            waiting_since: Arc::new(AtomicI64::new(UnixMillis::now().0)),
        }
    }
}

impl fmt::Debug for CounterEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterEvents")
            .field("log", &self.log)
            .field("delivered", &self.delivered)
            .finish_non_exhaustive()
    }
}

impl Head for LogHead {
    // An age in seconds needs no more digits than a double has.
    #[allow(clippy::cast_precision_loss, reason = "ages are told as doubles")]
    fn lag(&self, applied: &Positions) -> Lag {
        let messages = self.log.last().saturating_sub(last(applied));
        let waited = UnixMillis::now().0 - self.waiting_since.load(Ordering::Relaxed);
        Lag {
            messages,
            seconds: if messages == 0 {
                0.0
            } else {
                waited.max(0) as f64 / 1000.0
            },
        }
    }

    fn partitions(&self) -> Option<u32> {
        Some(1)
    }
}

impl Source for CounterEvents {
    fn name(&self) -> &str {
        "the embedded counter"
    }

    fn identity(&self) -> String {
        format!("embedded:{:016x}", self.log.id())
    }

    fn fixed(&self) -> &[u32] {
        &[PARTITION]
    }

    fn head(&self) -> Box<dyn Head> {
        Box::new(LogHead {
            log: self.log.clone(),
            waiting_since: self.waiting_since.clone(),
        })
    }

    async fn start(&mut self, from: &Positions) -> Result<(), SourceError> {
        let (end, wanted) = (self.log.last() + 1, from.next(PARTITION));
        if wanted > end {
            return Err(SourceError::Foreign {
                partition: PARTITION,
                wanted,
                end,
            });
        }
        let trimmed = self.log.trimmed();
        if last(from) < trimmed {
            tracing::warn!(
                trimmed,
                "earlier events are gone, because the rankings that they were in are: rankings begin with what comes now"
            );
        }
        self.delivered = last(from).max(trimmed);
        self.told = false;
        Ok(())
    }

    async fn next(&mut self) -> Result<Delivery, SourceError> {
        if !std::mem::replace(&mut self.told, true) {
            return Ok(Delivery::Waiting(None));
        }
        loop {
            if self.log.last() <= self.delivered {
                self.log.wait_after(self.delivered).await.map_err(away)?;
                self.waiting_since
                    .store(UnixMillis::now().0, Ordering::Relaxed);
            }
            let events = self
                .log
                .read_after(self.delivered, AT_ONCE)
                .await
                .map_err(away)?;
            if let (Some(first), Some(last)) = (events.first(), events.last()) {
                self.waiting_since.store(first.timestamp, Ordering::Relaxed);
                let mut batch = Batch::new(PARTITION, first.sequence);
                events
                    .iter()
                    .for_each(|counted| batch.push(&event(counted)));
                self.delivered = last.sequence;
                return Ok(Delivery::Batch(batch));
            }
        }
    }

    async fn stored(&mut self, positions: &Positions) -> Result<(), SourceError> {
        self.log.trim(last(positions));
        Ok(())
    }
}

/// The sequence number of the last event that was applied: they start at 1.
fn last(applied: &Positions) -> u64 {
    applied.next(PARTITION).saturating_sub(1)
}

fn event(event: &embedded::Event) -> Event<'_> {
    Event {
        position: event.sequence,
        origin: Origin::Log,
        resource_id: &event.resource_id,
        counter_type: &event.counter_type,
        delta: event.delta,
        new_value: event.new_value,
        timestamp_ms: event.timestamp,
    }
}

fn away(error: highpress_counter::store::StoreError) -> SourceError {
    SourceError::Away(Box::new(error))
}
