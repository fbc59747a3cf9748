//! How lookups are doing, as metrics: whether they are answered, since when it is so, how often not.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// What is measured, by cluster; clones add to the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct DnsMetrics(Arc<Mutex<Vec<(String, Status)>>>);

#[derive(Debug)]
struct Reader(DnsMetrics);

/// How the lookups of a cluster are doing.
#[derive(Debug, Clone)]
pub(super) struct Status(Arc<Mutex<State>>);

#[derive(Debug, Clone)]
struct State {
    /// Why there is no answer; `None`: there is one.
    away: Option<String>,
    /// Nothing has been asked yet.
    starting: bool,
    since: SystemTime,
    failures: u64,
}

/// What a change is worth a line for.
pub(super) enum Turn {
    /// It answers, after so long.
    Back { after: Duration },
    /// It does not, or not for this reason before.
    Worse,
    /// Nothing new.
    Same,
}

/// A cluster that is measured until this is dropped.
#[derive(Debug)]
pub(crate) struct Measured {
    metrics: DnsMetrics,
    cluster: String,
}

impl DnsMetrics {
    /// Metrics of nothing yet.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(Reader(metrics.clone())));
        metrics
    }

    pub(super) fn measure(&self, cluster: &str) -> (Status, Measured) {
        let status = Status(Arc::new(Mutex::new(State {
            away: None,
            starting: true,
            since: SystemTime::now(),
            failures: 0,
        })));
        self.0.lock().push((cluster.to_owned(), status.clone()));
        let measured = Measured {
            metrics: self.clone(),
            cluster: cluster.to_owned(),
        };
        (status, measured)
    }

    fn all(&self) -> Vec<(String, State)> {
        let all = self.0.lock();
        let state =
            |(cluster, status): &(String, Status)| (cluster.clone(), status.0.lock().clone());
        all.iter().map(state).collect()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let mut all = self.metrics.0.lock();
        all.retain(|(cluster, _)| *cluster != self.cluster);
    }
}

impl Status {
    pub(super) fn answered(&self) -> Turn {
        let mut state = self.0.lock();
        let now = SystemTime::now();
        let (was_away, was_starting) = (state.away.take().is_some(), state.starting);
        state.starting = false;
        if !was_away && !was_starting {
            return Turn::Same;
        }
        let after = now.duration_since(state.since).unwrap_or_default();
        state.since = now;
        if was_away {
            Turn::Back { after }
        } else {
            Turn::Same
        }
    }

    pub(super) fn failed(&self, why: &str) -> Turn {
        let mut state = self.0.lock();
        state.failures += 1;
        if state.away.as_deref() == Some(why) {
            return Turn::Same;
        }
        if state.away.is_none() {
            state.since = SystemTime::now();
        }
        state.starting = false;
        state.away = Some(why.to_owned());
        Turn::Worse
    }
}

impl State {
    fn word(&self) -> &'static str {
        match (&self.away, self.starting) {
            (Some(_), _) => "away",
            (None, true) => "starting",
            (None, false) => "current",
        }
    }
}

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        gauge(
            &mut encoder,
            "highpress_dns_up",
            "1 while lookups are answered, 0 while what was known before is used",
            &all,
            |state| f64::from(u8::from(state.word() == "current")),
        )?;
        gauge(
            &mut encoder,
            "highpress_dns_since_timestamp_seconds",
            "Since when it is so, in unix time",
            &all,
            |state| {
                let since = state.since.duration_since(UNIX_EPOCH);
                since.unwrap_or_default().as_secs_f64()
            },
        )?;
        let mut family = encoder.encode_descriptor(
            "highpress_dns_failures",
            "Lookups to which no server gave an answer to go by",
            None,
            MetricType::Counter,
        )?;
        for (cluster, state) in &all {
            let labels = [("cluster", cluster.as_str())];
            ConstCounter::new(state.failures).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &[(String, State)],
    value: impl Fn(&State) -> f64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (cluster, state) in all {
        let labels = [("cluster", cluster.as_str()), ("state", state.word())];
        ConstGauge::new(value(state)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_it_fails_stays_and_only_news_is_told() {
        let (status, measured) = DnsMetrics::default().measure("a");
        assert!(matches!(status.answered(), Turn::Same));
        assert!(matches!(status.failed("SERVFAIL"), Turn::Worse));
        let since = status.0.lock().since;
        assert!(matches!(status.failed("SERVFAIL"), Turn::Same));
        assert!(matches!(status.failed("no answer"), Turn::Worse));
        assert_eq!(status.0.lock().since, since);
        assert!(matches!(status.answered(), Turn::Back { .. }));
        assert_eq!(status.0.lock().failures, 3);
        let metrics = measured.metrics.clone();
        drop(measured);
        assert!(metrics.all().is_empty());
    }
}
