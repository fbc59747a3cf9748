//! What came of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies and errors, as they are counted.
#[derive(Debug)]
pub(crate) struct Report {
    latencies: Histogram<u64>,
    ok: u64,
    bytes: u64,
    errors: BTreeMap<String, u64>,
    took: Duration,
}

impl Report {
    /// An empty one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Nanoseconds up to a minute, to three digits.
        let latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self {
            latencies,
            ok: 0,
            bytes: 0,
            errors: BTreeMap::new(),
            took: Duration::ZERO,
        })
    }

    /// Counts an answer that was as it should be.
    pub(crate) fn answered(&mut self, latency: Duration, bytes: usize) {
        self.latencies
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.ok += 1;
        self.bytes += bytes as u64;
    }

    /// Counts one that was not, or none at all.
    pub(crate) fn failed(&mut self, why: impl Into<String>) {
        *self.errors.entry(why.into()).or_default() += 1;
    }

    /// Ends the run.
    pub(crate) fn finish(&mut self, took: Duration) {
        self.took = took;
    }

    /// How many requests have come to an end.
    pub(crate) fn ended(&self) -> u64 {
        self.ok + self.errors.values().sum::<u64>()
    }

    /// Were all answers good?
    pub(crate) fn clean(&self) -> bool {
        self.errors.is_empty() && self.ok > 0
    }

    /// The result, latencies in microseconds.
    pub(crate) fn json(&self) -> Value {
        let quantile = |share: f64| {
            Duration::from_nanos(self.latencies.value_at_quantile(share)).as_secs_f64() * 1e6
        };
        let seconds = self.took.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds
            } else {
                0.0
            }
        };
        let rounded = |value: f64| (value * 10.0).round() / 10.0;
        json!({
            "ok": self.ok,
            "errors": self.errors,
            "seconds": seconds,
            "rps": per_second(self.ok).round(),
            "body_bytes": self.bytes,
            "p50_us": rounded(quantile(0.5)),
            "p90_us": rounded(quantile(0.9)),
            "p99_us": rounded(quantile(0.99)),
            "p999_us": rounded(quantile(0.999)),
            "max_us": rounded(quantile(1.0)),
        })
    }
}
