//! What operators see of clusters: endpoints with their state and load, connections and streams.

use std::sync::Arc;

use tokio::time::Instant;

use super::cluster::Cluster;
use super::endpoint::Endpoint;

/// A cluster at one moment.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// Its name.
    pub name: Arc<str>,
    /// The word for its balancing policy.
    pub policy: &'static str,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint at one moment.
#[derive(Debug, Clone)]
pub struct EndpointView {
    /// `host:port`, as the configuration has it.
    pub address: Arc<str>,
    /// Its share, relative to the others'.
    pub weight: u32,
    /// Whether requests go there.
    pub usable: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What its breaker does with requests.
    pub breaker: &'static str,
    /// Requests that it works on.
    pub in_flight: usize,
    /// Average latency in milliseconds, the recent past counting most.
    pub ewma_ms: f64,
    /// Open connections of the gateway's own lane, over all workers.
    pub connections: usize,
    /// Streams on them.
    pub streams: usize,
}

impl Cluster {
    /// The cluster as it is now.
    #[must_use]
    pub fn view(&self) -> ClusterView {
        let now = Instant::now();
        let policy = self.config().load_balancing.policy.as_str();
        let endpoints = self
            .members()
            .iter()
            .map(|endpoint| endpoint.view(now))
            .collect();
        ClusterView {
            name: Arc::clone(self.name()),
            policy,
            endpoints,
        }
    }
}

impl Endpoint {
    fn view(&self, now: Instant) -> EndpointView {
        let (connections, streams) = self.lanes.iter().fold((0, 0), |sum, lane| {
            let usage = lane.usage();
            (sum.0 + usage.0, sum.1 + usage.1)
        });
        EndpointView {
            address: Arc::clone(self.name()),
            weight: self.weight(),
            usable: self.health.is_usable(),
            reasons: self.health.reasons(),
            breaker: "admit",
            in_flight: self.load.in_flight(),
            ewma_ms: self.latency(now).as_secs_f64() * 1e3,
            connections,
            streams,
        }
    }
}
