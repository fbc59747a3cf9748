//! What a configuration means once it has been checked: one immutable [`Snapshot`].
//!
//! Nothing in here can hold a value that the rest of the gateway would have to check again: names are
//! spelled well, timeouts are longer than zero, weights and limits are not zero, every route's cluster exists
//! and speaks what the route needs. Only this crate builds a snapshot.

mod address;
mod cluster;
mod consul;
mod cors;
mod descriptor;
mod destination;
mod dns;
mod health_check;
mod labels;
mod listener;
mod matching;
mod name;
mod pattern;
mod place;
mod quantity;
mod rate;
mod resilience;
mod retry;
mod route;
mod services;
mod shaping;
mod share;
mod subset;
mod transcode;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::consul::{Announced, Asked, Consul, ConsulEndpoints, ConsulToken};
pub use address::Address;
pub(crate) use address::is_host_name;
pub use cluster::{
    BalancingPolicy, Cluster, Connections, Endpoint, Endpoints, Limits, LoadBalancing, Locality,
    MessageCoding, PerEndpointLimits, Protocol, RingSize,
};
pub use cors::{Cors, Origin};
pub use descriptor::{
    BreakingChanges, DescriptorFile, DescriptorSource, LearntDescriptors, ServiceConfig,
};
pub use destination::{
    Canary, ConditionField, Destination, Destinations, FieldCondition, HashOn, Mirror,
};
pub use dns::{DnsEndpoints, DnsName, Family, Resolver};
pub use health_check::{CheckQuestion, CheckStatus, HealthCheck};
pub use labels::{Labels, Metadata};
pub use listener::{Admin, EdgeLimits, Listener, Protocols};
pub use matching::{FieldMatch, HostPattern, HttpMethod, Match, PathMatch, ValueMatch};
pub use name::{ClusterName, ProfileName, RouteName, ServiceName};
pub use pattern::Pattern;
pub use place::Place;
pub use quantity::{ByteSize, Timeout};
pub use rate::{RateKey, RateLimit, RateStore, RedisUrl, WhenAway};
pub use resilience::{AdaptiveConcurrency, Breaker, OutlierDetection, Overload, RetryBudget};
pub use retry::{Hedge, HedgeAfter, Retry, RetryBackoff, RetryOn};
pub use route::{Action, Route};
pub use services::{Service, Services};
pub use shaping::{Abort, Delay, Fault, HeaderEdits, Priority, Redirect, Rewrite};
pub use share::Share;
pub use subset::Subset;
pub use transcode::{
    Defaults, Enums, Int64, Names, ResponseMetadata, StreamForm, TrailingSlash, Transcode,
    UnknownFields,
};

use crate::positions::Positions;
use crate::problem::Problem;

/// A whole, valid configuration. It never changes: a reload makes another one.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Twelve hexadecimal digits of a hash of the text and of the descriptor files that it names.
    pub version: String,
    /// Where the text came from: the file as it was given.
    pub source: Arc<str>,
    /// The doors, at least one. A boot setting.
    pub listeners: Vec<Listener>,
    /// The operators' door. A boot setting.
    pub admin: Admin,
    /// Worker threads; `None`: as many as the process may run on. A boot setting.
    pub threads: Option<NonZeroUsize>,
    /// What the log tells: a filter whose meaning is the log's.
    pub log: Option<String>,
    /// Where the gateway keeps its state. A boot setting, which only a file says.
    pub data: Option<PathBuf>,
    /// How long what is in flight may go on in a drain.
    pub drain_timeout: Option<Timeout>,
    /// The services of a process that has all of the mesh. A boot setting.
    pub services: Services,
    /// From when on requests are shed.
    pub overload: Overload,
    /// Where Consul is, if it is used.
    pub consul: Option<Consul>,
    /// What Consul is told of the gateway itself. Where clients reach it is a boot setting.
    pub announced: Announced,
    /// Every cluster, in file order.
    pub clusters: Vec<Arc<Cluster>>,
    /// Every route, in file order.
    pub routes: Vec<Arc<Route>>,
    /// What the transcoder knows.
    pub descriptors: Vec<DescriptorSource>,
    /// What becomes of descriptors that break what is in force for its callers.
    pub breaking_changes: BreakingChanges,
    /// Response shapes beside the built-in ones, as they were written. Their meaning is the transcoder's.
    pub profiles: BTreeMap<ProfileName, serde_json::Value>,
    /// Lines of all keys, for problems found by those who compile the snapshot.
    pub positions: Positions,
}

impl Snapshot {
    /// The cluster of this name.
    #[must_use]
    pub fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.name == *name)
    }

    /// What is no mistake, and hardly meant: a policy that goes by keys, where no route says which.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        let keyless = |cluster: &Cluster| {
            let mut routes = self.routes.iter().filter(|route| {
                let mut clusters = route.clusters();
                clusters.any(|name| *name == cluster.name)
            });
            cluster.load_balancing.policy.is_by_key() && routes.all(|route| route.hash_on.is_none())
        };
        let clusters = self.clusters.iter().enumerate();
        let keyless = clusters.filter(|(_, cluster)| keyless(cluster));
        let warning = |(index, cluster): (usize, &Arc<Cluster>)| {
            let policy = cluster.load_balancing.policy.as_str();
            let why = format!(
                "{policy} sends requests by a key, and no route to `{}` has `hash_on`: they go anywhere at random",
                cluster.name
            );
            let path = format!("clusters[{index}].load_balancing.policy");
            self.positions.problem(path, why)
        };
        keyless.map(warning).collect()
    }

    /// The boot settings (their keys) in which `self` differs from what the process was started with.
    #[must_use]
    pub fn boot_changes(&self, started_with: &Self) -> Vec<&'static str> {
        let (now, then) = (&self.announced, &started_with.announced);
        [
            ("listeners", self.listeners != started_with.listeners),
            ("admin", self.admin != started_with.admin),
            ("threads", self.threads != started_with.threads),
            ("data", self.data != started_with.data),
            ("services", self.services != started_with.services),
            (
                "consul (where the gateway itself is registered)",
                self.consul != started_with.consul,
            ),
            ("consul.advertise", now.advertise != then.advertise),
        ]
        .into_iter()
        .filter_map(|(key, changed)| changed.then_some(key))
        .collect()
    }
}
