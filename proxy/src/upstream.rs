//! The upstream half of the gateway: clusters, their endpoints, balancing, connections, and unary gRPC calls.
//!
//! ```text
//! Upstreams -> Cluster -> attempts -> Selection (pick) -> Endpoint -> Lane (connections of one worker) -> call
//! ```
//!
//! Everything that has been learnt about an endpoint (load, health, connections) outlives a reload while its
//! cluster, address and protocol stay the same. Refused here: knowledge of routes, HTTP clients and JSON.

mod attempt;
mod attempts;
mod call;
mod circuit;
mod cluster;
mod concurrency;
mod connection;
mod counters;
mod endpoint;
mod error;
mod exchange;
mod health;
mod hedge;
mod history;
mod http;
mod http2;
mod lane;
mod load;
mod membership;
mod message;
mod method;
mod outliers;
mod pick;
mod policy;
mod probe;
mod reply;
mod resolve;
mod retries;
mod selection;
mod timeout;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_config::model as config;
use parking_lot::Mutex;
use tokio::runtime::Handle;

pub use attempt::Attempt;
pub(crate) use attempt::CLOCK_SLACK;
pub use call::Call;
pub use cluster::Cluster;
pub use concurrency::ConcurrencyView;
pub use counters::Outcome;
pub use endpoint::Endpoint;
pub use error::{CallError, code};
pub use http::{HttpCall, HttpReply};
pub(crate) use http::{connect, hurry};
pub use membership::Found;
pub use method::{Method, MethodError};
pub use policy::{CallPolicy, Repeats, Terms};
pub use reply::Reply;
pub use retries::{Reason as RetryReason, RetryPermit};
pub use selection::Tried;
pub use view::{ClusterView, EndpointView};

type Clusters = BTreeMap<Arc<str>, Arc<Cluster>>;

/// All clusters by name.
#[derive(Debug)]
pub struct Upstreams {
    clusters: ArcSwap<Clusters>,
    /// Held while a configuration is applied: one writer at a time.
    applying: Mutex<()>,
    workers: usize,
    runtime: Handle,
}

// === impl Upstreams ===

impl Upstreams {
    /// No clusters yet. Calls come from worker threads `0..workers`; what belongs to none of them, such as
    /// looking up host names, runs on `runtime`.
    #[must_use]
    pub fn new(workers: usize, runtime: Handle) -> Self {
        Self {
            clusters: ArcSwap::default(),
            applying: Mutex::new(()),
            workers: workers.max(1),
            runtime,
        }
    }

    /// Makes the clusters be these. Clusters and endpoints that stay keep what they know; removed ones finish
    /// what is in flight.
    pub fn apply(&self, wanted: &[Arc<config::Cluster>]) {
        let _one_at_a_time = self.applying.lock();
        let before = self.clusters.load_full();
        let mut after = Clusters::new();
        for config in wanted {
            let known = before.get(config.name.as_str()).cloned();
            let cluster = known.unwrap_or_else(|| Cluster::new(config, self.workers));
            cluster.apply(config, &self.runtime);
            after.insert(Arc::clone(cluster.name()), cluster);
        }
        let removed: Vec<_> = before
            .iter()
            .filter(|(name, _)| !after.contains_key(*name))
            .collect();
        self.clusters.store(Arc::new(after));
        for (_, cluster) in removed {
            cluster.retire();
        }
    }

    /// Looks whether endpoints that are new take connections, so that one that is down is known, and shown,
    /// before a request finds out.
    pub fn look_at_new(&self) {
        for endpoint in self.all().iter().flat_map(|cluster| cluster.members()) {
            if endpoint.claim_first_look() {
                probe::first_look(&endpoint, &self.runtime);
            }
        }
    }

    /// The cluster of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Cluster>> {
        self.clusters.load().get(name).cloned()
    }

    /// The clusters of a configuration, in its order. Those that have not been applied are left out.
    #[must_use]
    pub(crate) fn of(&self, wanted: &[Arc<config::Cluster>]) -> Arc<[Arc<Cluster>]> {
        let known = self.clusters.load();
        let found = wanted
            .iter()
            .filter_map(|config| known.get(config.name.as_str()));
        found.cloned().collect()
    }

    /// All clusters, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        self.clusters.load().values().cloned().collect()
    }
}
