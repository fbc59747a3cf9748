//! How everything that talks to Consul is doing, as metrics: whether it is answered, since when it is so, how often not.

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use consul::{State, Status, StatusHandle};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

type Watched = Vec<(String, StatusHandle)>;

/// What is measured; clones add to the same.
#[derive(Debug, Clone, Default)]
pub struct ConsulMetrics(Arc<Mutex<Watched>>);

#[derive(Debug)]
struct Reader(ConsulMetrics);

impl ConsulMetrics {
    /// Metrics of nothing yet.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(Reader(metrics.clone())));
        metrics
    }

    /// Measures one more: a registration, a watch. It takes the place of what had this name.
    pub fn add(&self, what: impl Into<String>, status: StatusHandle) {
        let what = what.into();
        let mut watched = self.0.lock();
        watched.retain(|(known, _)| *known != what);
        watched.push((what, status));
    }

    /// Measures it no longer.
    pub fn remove(&self, what: &str) {
        self.0.lock().retain(|(known, _)| known != what);
    }

    fn all(&self) -> Vec<(String, Status)> {
        let watched = self.0.lock();
        let status = |(what, status): &(String, StatusHandle)| (what.clone(), status.get());
        watched.iter().map(status).collect()
    }
}

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        gauge(
            &mut encoder,
            "highpress_consul_up",
            "1 while Consul answers with sense, 0 while what was known before is used",
            &all,
            |status| f64::from(u8::from(status.state == State::Current)),
        )?;
        gauge(
            &mut encoder,
            "highpress_consul_since_timestamp_seconds",
            "Since when it is so, in unix time",
            &all,
            |status| {
                let since = status.since.duration_since(UNIX_EPOCH);
                since.unwrap_or_default().as_secs_f64()
            },
        )?;
        gauge(
            &mut encoder,
            "highpress_consul_index",
            "The latest X-Consul-Index",
            &all,
            |status| status.index as f64,
        )?;
        let mut family = encoder.encode_descriptor(
            "highpress_consul_failures",
            "Queries to which Consul gave no answer to go by",
            None,
            MetricType::Counter,
        )?;
        for (what, status) in &all {
            let labels = [("what", what.as_str())];
            ConstCounter::new(status.failures).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &[(String, Status)],
    value: impl Fn(&Status) -> f64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (what, status) in all {
        let labels = [("what", what.as_str()), ("state", status.state.as_str())];
        ConstGauge::new(value(status)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
