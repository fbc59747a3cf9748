//! The upstream half of the gateway: clusters, their endpoints, balancing, connections, and gRPC calls.
//!
//! ```text
//! Upstreams -> Cluster -> attempts -> Selection (pick) -> Endpoint -> Lane (connections of one worker) -> call
//! ```
//!
//! Everything that has been learnt about an endpoint (load, health, connections) outlives a reload while its
//! cluster, address and protocol stay the same. Refused here: knowledge of routes, HTTP clients and JSON.

mod aim;
mod attempt;
mod attempts;
mod call;
mod checks;
mod circuit;
mod cluster;
mod concurrency;
mod connection;
mod control;
mod counters;
mod endpoint;
mod error;
mod exchange;
mod health;
mod hedge;
mod history;
mod http;
mod http2;
mod joining;
mod lane;
mod membership;
mod message;
mod method;
mod outliers;
mod policy;
mod probe;
mod publishing;
mod reply;
mod resolve;
mod retries;
mod selection;
mod stream;
mod subset;
mod timeout;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
pub use mesh_config::model::Labels;
use mesh_config::model::{self as config, Place};
use parking_lot::Mutex;
use tokio::runtime::Handle;

pub use aim::Aim;
pub use attempt::Attempt;
pub(crate) use attempt::CLOCK_SLACK;
pub use call::Call;
pub use checks::{CheckOutcome, CheckView};
pub use cluster::Cluster;
pub use concurrency::ConcurrencyView;
pub use counters::Outcome;
pub use endpoint::Endpoint;
pub use error::{CallError, NoRetry, code};
pub use http::{HttpCall, HttpReply};
pub(crate) use http::{connect, hurry};
pub use membership::Found;
pub use method::{Method, MethodError};
pub(crate) use policy::RetryTerms;
pub use policy::{CallPolicy, Repeats, Terms};
pub use reply::Reply;
pub use retries::{Reason as RetryReason, RetryPermit};
pub use selection::Tried;
pub use stream::{Await, Next, Opened, Stream, StreamCall};
pub use view::{ClusterView, EndpointView};

type Clusters = BTreeMap<Arc<str>, Arc<Cluster>>;

/// All clusters by name.
#[derive(Debug)]
pub struct Upstreams {
    clusters: ArcSwap<Clusters>,
    /// What clusters are parted into, by `CLUSTER/PART`.
    parts: ArcSwap<Clusters>,
    /// Held while a configuration is applied: one writer at a time.
    applying: Mutex<()>,
    runtime: Handle,
    control: Arc<control::Control>,
    /// Where the gateway is, as far as discovery knows.
    place: ArcSwap<Place>,
}

// === impl Upstreams ===

impl Upstreams {
    /// No clusters yet. Calls come from worker threads `0..workers`; what belongs to none of them, such as
    /// looking up host names, runs on `runtime`.
    #[must_use]
    pub fn new(workers: usize, runtime: Handle) -> Self {
        Self::of_gateway(workers, runtime, String::new())
    }

    /// The same for the gateway that is known by `identity` and by which its order of endpoints is its own.
    #[must_use]
    pub fn of_gateway(workers: usize, runtime: Handle, identity: String) -> Self {
        let control = control::Control::new(workers, runtime.clone(), identity);
        Self {
            clusters: ArcSwap::default(),
            parts: ArcSwap::default(),
            applying: Mutex::new(()),
            runtime,
            control: Arc::new(control),
            place: ArcSwap::default(),
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
            let cluster = known.unwrap_or_else(|| Cluster::new(config, &self.control));
            cluster.place_found(&self.place.load());
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

    /// Discovery has found out where the gateway is. What the configuration says of it goes before.
    pub fn place_found(&self, place: Place) {
        let _one_at_a_time = self.applying.lock();
        let place = Arc::new(place);
        self.place.store(Arc::clone(&place));
        for cluster in self.all() {
            cluster.place_found(&place);
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

    /// All clusters and their parts, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        let (clusters, parts) = (self.clusters.load(), self.parts.load());
        let mut all: Vec<_> = clusters.values().chain(parts.values()).cloned().collect();
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Makes the parts of a cluster be these, by their names within it, each with a configuration of its own. Those that stay
    /// keep what they know; removed ones finish what is in flight.
    pub(crate) fn set_parts(
        &self,
        cluster: &str,
        parts: &[(String, Arc<config::Cluster>)],
    ) -> Vec<Arc<Cluster>> {
        let _one_at_a_time = self.applying.lock();
        let of_cluster = |name: &str| {
            let rest = name.strip_prefix(cluster);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let known = Clusters::clone(&self.parts.load()).into_iter();
        let (mut before, mut all): (Clusters, Clusters) =
            known.partition(|(name, _)| of_cluster(name));
        let mut made = Vec::new();
        for (label, config) in parts {
            let name: Arc<str> = format!("{cluster}/{label}").into();
            let known = before.remove(&name);
            let part = known.unwrap_or_else(|| Cluster::named(name.clone(), config, &self.control));
            part.place_found(&self.place.load());
            part.apply(config, &self.runtime);
            all.insert(name, Arc::clone(&part));
            made.push(part);
        }
        self.parts.store(Arc::new(all));
        before.values().for_each(|part| part.retire());
        made
    }
}
