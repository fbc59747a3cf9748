//! What operators see of clusters: endpoints with their state and load, connections and streams.

use std::sync::Arc;

use balance::SlowStart;
use mesh_config::model::{Labels, Place};
use tokio::time::Instant;

use super::checks::CheckView;
use super::cluster::Cluster;
use super::concurrency::ConcurrencyView;
use super::endpoint::Endpoint;
use super::health::Cause;
use super::membership::Found;

/// A cluster at one moment.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// Its name.
    pub name: Arc<str>,
    /// The word for its balancing policy.
    pub policy: &'static str,
    /// Whether too few endpoints are usable, so that all within reach take requests.
    pub panic: bool,
    /// Tries beyond the first that its budget would allow now.
    pub retry_budget_left: u32,
    /// How much it may have in flight.
    pub concurrency: ConcurrencyView,
    /// Where the gateway is, as far as that is known, if it prefers endpoints near it.
    pub place: Option<Place>,
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
    /// The part of it that it has for now, while it starts slowly.
    pub effective_weight: f64,
    /// What is known of it beside that.
    pub labels: Arc<Labels>,
    /// Whether requests go there.
    pub usable: bool,
    /// Whether it takes requests although discovery has lost it.
    pub held: bool,
    /// Whether it is left out for doing worse than it should.
    pub ejected: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What the gateway's own checks say, if there are any.
    pub check: Option<CheckView>,
    /// What its breaker does with requests.
    pub breaker: &'static str,
    /// Why, and for how long still, if it does not admit them.
    pub breaker_reason: Option<String>,
    /// Requests that it works on.
    pub in_flight: usize,
    /// Average latency in milliseconds, the recent past counting most.
    pub ewma_ms: f64,
    /// Open connections, over all workers.
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
        let slow = self.selections.load().all().slow_start();
        let endpoints = self
            .members()
            .iter()
            .map(|endpoint| endpoint.view(self.panics(), slow, now))
            .chain(self.left_out().iter().map(EndpointView::left_out))
            .collect();
        ClusterView {
            name: Arc::clone(self.name()),
            policy,
            panic: self.panics(),
            retry_budget_left: self.retry_budget_left(now),
            concurrency: self.concurrency().view(),
            place: self.place(),
            endpoints,
        }
    }
}

impl EndpointView {
    /// One that discovery knows and the balancer does not.
    fn left_out(found: &Found) -> Self {
        Self {
            address: found.address.to_string().into(),
            weight: found.weight,
            effective_weight: 0.0,
            labels: Arc::clone(&found.labels),
            usable: false,
            held: false,
            ejected: false,
            reasons: found.out.iter().cloned().collect(),
            check: None,
            breaker: "admit",
            breaker_reason: None,
            in_flight: 0,
            ewma_ms: 0.0,
            connections: 0,
            streams: 0,
        }
    }
}

impl Endpoint {
    fn view(&self, panic: bool, slow: Option<SlowStart>, now: Instant) -> EndpointView {
        let part = slow.map_or(1.0, |slow| slow.relative(self.usable_since(), now));
        let (connections, streams) = self.lanes.iter().fold((0, 0), |sum, lane| {
            let usage = lane.usage();
            (sum.0 + usage.0, sum.1 + usage.1)
        });
        let mut reasons = self.health.reasons(now);
        if panic && !self.health.is_usable() && self.health.is_within_reach() {
            reasons.push("takes requests all the same: too few endpoints are usable".to_owned());
        }
        let held = self.held();
        reasons.extend(held.clone());
        EndpointView {
            address: Arc::clone(self.name()),
            weight: self.weight(),
            effective_weight: f64::from(self.weight()) * part,
            labels: self.labels(),
            usable: self.health.is_usable(),
            held: held.is_some(),
            ejected: self.health.has(Cause::Ejected),
            reasons,
            check: self.checks.view(),
            breaker: self.circuit.word(now),
            breaker_reason: self.circuit.reason(now),
            in_flight: self.load.in_flight(),
            ewma_ms: self.latency(now).as_secs_f64() * 1e3,
            connections: connections + self.sockets.count(),
            streams,
        }
    }
}
