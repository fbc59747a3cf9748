//! The counter's own metrics: how long the store takes, and how often it fails and why. gRPC metrics come from service-kit.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use service_kit::metrics::duration_histogram;
use tokio::time::Instant;

use crate::store::StoreError;

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
