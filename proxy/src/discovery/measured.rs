//! What a cluster's watches are measured by, for as long as they go on.

use consul::StatusHandle;
use service_kit::consul::ConsulMetrics;

/// Watches that are measured; dropped with them.
#[derive(Debug)]
pub(super) struct Measured {
    metrics: ConsulMetrics,
    names: Vec<String>,
}

impl Measured {
    pub(super) fn new(metrics: ConsulMetrics) -> Self {
        Self {
            metrics,
            names: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, name: String, status: StatusHandle) {
        self.metrics.add(name.clone(), status);
        self.names.push(name);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        for name in &self.names {
            self.metrics.remove(name);
        }
    }
}
