//! Counts of injected faults, by route. A route that a reload keeps goes on counting where it was.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::counter;

/// What was done to the requests of one route.
#[derive(Debug, Default)]
pub struct FaultCounts {
    delays: AtomicU64,
    aborts: AtomicU64,
}

/// The counts of all routes that inject faults.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<BTreeMap<Arc<str>, Arc<FaultCounts>>>);

// === impl FaultCounts ===

impl FaultCounts {
    /// A request was made to wait.
    pub fn delayed(&self) {
        self.delays.fetch_add(1, Relaxed);
    }

    /// A request was answered with an error.
    pub fn aborted(&self) {
        self.aborts.fetch_add(1, Relaxed);
    }

    /// How many waited, and how many got an error.
    pub fn get(&self) -> (u64, u64) {
        (self.delays.load(Relaxed), self.aborts.load(Relaxed))
    }
}

// === impl Faults ===

impl Faults {
    pub(super) fn of(&self, route: &str) -> Arc<FaultCounts> {
        self.0.lock().entry(route.into()).or_default().clone()
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "highpress_faults_injected",
            "Requests that a route harmed on purpose",
            None,
            MetricType::Counter,
        )?;
        for (route, counts) in self.0.lock().iter() {
            let (delays, aborts) = counts.get();
            for (kind, count) in [("delay", delays), ("abort", aborts)] {
                counter(&mut family, &[("route", &**route), ("kind", kind)], count)?;
            }
        }
        Ok(())
    }
}
