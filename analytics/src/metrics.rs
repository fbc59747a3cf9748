//! What analytics measures: events, lag, checkpoints, queries. gRPC calls are counted by the service kit's metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use service_kit::metrics::duration_histogram;

use crate::state::Applied;
use crate::status::ServiceStatus;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    result: &'static str,
}

/// The service's metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    events: Family<EventLabels, Counter>,
    pub(crate) late_events: Counter,
    pub(crate) checkpoint_seconds: Histogram,
    pub(crate) checkpoint_failures: Counter,
    pub(crate) source_failures: Counter,
    pub(crate) renewals: Counter,
    pub(crate) query_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            events: Family::default(),
            late_events: Counter::default(),
            checkpoint_seconds: duration_histogram(),
            checkpoint_failures: Counter::default(),
            source_failures: Counter::default(),
            renewals: Counter::default(),
            query_seconds: duration_histogram(),
        };
        registry.register(
            "highpress_analytics_events",
            "Events read: applied, repeated or poison",
            metrics.events.clone(),
        );
        registry.register(
            "highpress_analytics_late_events",
            "Events too old for some of the buckets",
            metrics.late_events.clone(),
        );
        registry.register(
            "highpress_analytics_checkpoint_duration_seconds",
            "Time to store a checkpoint",
            metrics.checkpoint_seconds.clone(),
        );
        registry.register(
            "highpress_analytics_checkpoint_failures",
            "Checkpoints that could not be stored",
            metrics.checkpoint_failures.clone(),
        );
        registry.register(
            "highpress_analytics_source_failures",
            "Times that the source could not deliver",
            metrics.source_failures.clone(),
        );
        registry.register(
            "highpress_analytics_source_renewals",
            "Times that the topic of events was found to be made anew",
            metrics.renewals.clone(),
        );
        registry.register(
            "highpress_analytics_query_duration_seconds",
            "Time to answer from the state",
            metrics.query_seconds.clone(),
        );
        metrics
    }

    pub(crate) fn applied(&self, applied: &Applied, poison: u64) {
        for (result, count) in [
            ("applied", applied.applied),
            ("repeated", applied.repeated),
            ("poison", poison),
        ] {
            self.events
                .get_or_create(&EventLabels { result })
                .inc_by(count);
        }
        self.late_events.inc_by(applied.late);
    }
}

/// Asks the service at each scrape for what it knows at that moment.
#[derive(Debug)]
pub(crate) struct StatusCollector(pub(crate) Arc<ServiceStatus>);

impl Collector for StatusCollector {
    // Counts beyond 2^53 lose their last digits in a gauge, as in Prometheus itself.
    #[allow(clippy::cast_precision_loss, reason = "Prometheus has only doubles")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let lag = self.0.lag();
        let size = self.0.tally().size();
        for (name, help, value) in [
            (
                "highpress_consumer_lag_messages",
                "Events not applied yet",
                lag.messages as f64,
            ),
            (
                "highpress_consumer_lag_seconds",
                "Age of the oldest event not applied yet",
                lag.seconds,
            ),
            (
                "highpress_analytics_counters",
                "Counters known",
                size.counters as f64,
            ),
            (
                "highpress_analytics_cells",
                "Sums of one counter in one bucket that are kept",
                size.cells as f64,
            ),
            (
                "highpress_analytics_memory_bytes",
                "Memory that counters and sums take, about",
                size.bytes as f64,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}
