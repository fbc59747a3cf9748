//! What is known of the outbox and of the way to Kafka: for `/status`, `GetStatus`, metrics and the log.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::timeout;

use crate::outbox::{Outbox, Unsent};

/// The longest that somebody who asks is kept waiting for the store.
const PATIENCE: Duration = Duration::from_secs(1);

/// What waits, and what is in the way.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// None if increments leave no events.
    outbox: Option<Arc<dyn Outbox>>,
    limit: u64,
    /// What was true when it was last asked; none if the store did not answer.
    unsent: Mutex<Option<Unsent>>,
    troubled: AtomicBool,
    trouble: Mutex<Option<Arc<str>>>,
    sent: Counter,
    failures: Counter,
}

impl Backlog {
    pub(crate) fn new(outbox: Option<Arc<dyn Outbox>>, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            outbox,
            limit,
            unsent: Mutex::new(Some(Unsent::default())),
            troubled: AtomicBool::new(false),
            trouble: Mutex::new(None),
            sent: Counter::default(),
            failures: Counter::default(),
        })
    }

    pub(crate) fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register(
            "highpress_outbox_sent",
            "Events that Kafka acknowledged to this instance, resends included",
            self.sent.clone(),
        );
        registry.register(
            "highpress_outbox_troubles",
            "How often the way to Kafka failed, by this instance's account",
            self.failures.clone(),
        );
        registry.register_collector(Box::new(Gauges(self.clone())));
    }

    /// Asks the store what is true now.
    pub(crate) async fn refresh(&self) {
        let Some(outbox) = &self.outbox else {
            return;
        };
        let unsent = timeout(PATIENCE, outbox.unsent()).await;
        *self.unsent.lock() = unsent.ok().and_then(Result::ok);
    }

    /// What was true at the last refresh; none if the store did not tell.
    pub(crate) fn unsent(&self) -> Option<Unsent> {
        *self.unsent.lock()
    }

    /// What keeps events from Kafka.
    pub(crate) fn why(&self) -> Option<Arc<str>> {
        self.trouble.lock().clone()
    }

    /// Whether there is anything to send.
    pub(crate) fn is_on(&self) -> bool {
        self.outbox.is_some()
    }

    /// Takes note of an acknowledged event.
    pub(super) fn sent(&self) {
        self.sent.inc();
        self.works();
    }

    /// Takes note that nothing is in the way.
    pub(super) fn works(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            self.troubled.store(false, Ordering::Relaxed);
            *self.trouble.lock() = None;
            tracing::info!("Kafka takes events again");
        }
    }

    /// Takes note of what is in the way; told when it changes.
    pub(super) fn trouble(&self, why: &str) {
        let mut trouble = self.trouble.lock();
        if trouble.as_deref() != Some(why) {
            self.failures.inc();
            tracing::warn!(%why, "events wait in the outbox; trying again until Kafka takes them");
            *trouble = Some(why.into());
        }
        self.troubled.store(true, Ordering::Relaxed);
    }
}

/// The backlog as metrics.
#[derive(Debug)]
struct Gauges(Arc<Backlog>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(encoder)
        };
        // No sample is better than a wrong one when the store is away.
        if let Some(unsent) = self.0.unsent() {
            gauge(
                "highpress_outbox_unsent",
                "Events that are counted but not known to be in Kafka",
                unsent.events,
            )?;
        }
        gauge(
            "highpress_outbox_limit",
            "Events that the outbox may hold before increments are refused",
            self.0.limit,
        )?;
        gauge(
            "highpress_outbox_degraded",
            "1 while Kafka does not take events",
            u64::from(self.0.why().is_some()),
        )
    }
}
