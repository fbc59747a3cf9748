//! The counter's own metrics: how long the store takes, how often it fails and why, and what becomes of idempotency keys.
//! gRPC metrics come from service-kit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use service_kit::metrics::duration_histogram;
use tokio::time::Instant;

use crate::idempotency::Origin;
use crate::store::{Counted, Store, StoreError};

/// What a store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Increment,
    Get,
    GetMany,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Increment, Self::Get, Self::GetMany];

    fn label(self) -> &'static str {
        match self {
            Self::Increment => "increment",
            Self::Get => "get",
            Self::GetMany => "get_many",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    operation: &'static str,
    reason: &'static str,
}

/// Store latencies and errors. The histograms are looked up once, here, not once a call.
#[derive(Debug, Clone)]
pub(crate) struct StoreMetrics {
    durations: [Histogram; Operation::ALL.len()],
    errors: Family<ErrorLabels, Counter>,
}

impl StoreMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let durations =
            Family::<DurationLabels, Histogram>::new_with_constructor(duration_histogram);
        let errors = Family::default();
        registry.register_with_unit(
            "highpress_store_duration",
            "Time that the store took, waiting in its queue included",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(
            "highpress_store_errors",
            "What the store could not do",
            errors.clone(),
        );
        let durations = Operation::ALL.map(|operation| {
            durations.get_or_create_owned(&DurationLabels {
                operation: operation.label(),
            })
        });
        Self { durations, errors }
    }

    pub(crate) fn begin(&self, operation: Operation) -> Timer<'_> {
        Timer {
            metrics: self,
            operation,
            begun: Instant::now(),
        }
    }

    fn record(&self, operation: Operation, took: Duration, error: Option<&StoreError>) {
        self.durations[operation as usize].observe(took.as_secs_f64());
        if let Some(error) = error {
            let labels = ErrorLabels {
                operation: operation.label(),
                reason: reason(error),
            };
            self.errors.get_or_create(&labels).inc();
        }
    }
}

fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::Overflow { .. } => "overflow",
        StoreError::NotACount { .. } => "not_a_count",
        StoreError::KeyReused { .. } => "key_reused",
        StoreError::KeysFull { .. } => "keys_full",
        StoreError::OutboxFull { .. } => "outbox_full",
        StoreError::Braces => "braces",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::OutcomeUnknown(_) => "outcome_unknown",
        StoreError::Broken(_) => "broken",
    }
}

/// A call of the store under way. One that is given up is not a measurement of the store.
#[must_use = "the time counts when the timer ends"]
pub(crate) struct Timer<'a> {
    metrics: &'a StoreMetrics,
    operation: Operation,
    begun: Instant,
}

impl Timer<'_> {
    pub(crate) fn end<T>(self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.metrics
            .record(self.operation, self.begun.elapsed(), result.as_ref().err());
        result
    }
}

/// What became of an increment with an idempotency key.
#[derive(Debug, Clone, Copy)]
enum KeyOutcome {
    /// Counted, and the key remembered.
    Remembered,
    /// A repeat: answered as the first time.
    Replayed,
    /// The key was used for another increment.
    Reused,
    /// Refused, because no more keys fit.
    Refused,
}

impl KeyOutcome {
    const ALL: [Self; 4] = [
        Self::Remembered,
        Self::Replayed,
        Self::Reused,
        Self::Refused,
    ];

    fn of(result: &Result<Counted, StoreError>) -> Option<Self> {
        match result {
            Ok(counted) if counted.replayed => Some(Self::Replayed),
            Ok(_) => Some(Self::Remembered),
            Err(StoreError::KeyReused { .. }) => Some(Self::Reused),
            Err(StoreError::KeysFull { .. }) => Some(Self::Refused),
            Err(_) => None,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Remembered => "remembered",
            Self::Replayed => "replayed",
            Self::Reused => "reused",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    origin: &'static str,
    outcome: &'static str,
}

/// What becomes of idempotency keys, by who made them.
#[derive(Debug, Clone)]
pub(crate) struct KeyMetrics {
    outcomes: [[Counter; KeyOutcome::ALL.len()]; Origin::ALL.len()],
}

impl KeyMetrics {
    pub(crate) fn register(registry: &mut Registry, store: Arc<dyn Store>) -> Self {
        let family = Family::<KeyLabels, Counter>::default();
        registry.register(
            "highpress_idempotency_keys",
            "Increments that came with an idempotency key, by what became of them",
            family.clone(),
        );
        registry.register_collector(Box::new(KeyMemory(store)));
        let outcomes = Origin::ALL.map(|origin| {
            KeyOutcome::ALL.map(|outcome| {
                family.get_or_create_owned(&KeyLabels {
                    origin: origin.label(),
                    outcome: outcome.label(),
                })
            })
        });
        Self { outcomes }
    }

    pub(crate) fn record(&self, origin: Origin, result: &Result<Counted, StoreError>) {
        if let Some(outcome) = KeyOutcome::of(result) {
            self.outcomes[origin as usize][outcome as usize].inc();
        }
    }
}

/// The room that keys take, asked of the store at each scrape.
#[derive(Debug)]
struct KeyMemory(Arc<dyn Store>);

impl Collector for KeyMemory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "highpress_idempotency_memory",
            "Bytes that remembered idempotency keys take in the store, as reckoned against their bound",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        for (origin, bytes) in Origin::ALL.iter().zip(self.0.remembered()) {
            let labels = [("origin", origin.label())];
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            ConstGauge::new(bytes).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
