//! What a configuration means once it has been checked: one immutable [`Snapshot`].
//!
//! Nothing in here can hold a value that the rest of the gateway would have to check again: names are
//! spelled well, timeouts are longer than zero, weights and limits are not zero, every route's cluster exists
//! and speaks what the route needs. Only this crate builds a snapshot.

mod address;
mod cluster;
mod consul;
mod descriptor;
mod destination;
mod listener;
mod matching;
mod name;
mod pattern;
mod quantity;
mod rate;
mod resilience;
mod retry;
mod route;
mod shaping;
mod share;
mod transcode;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

pub use self::consul::{Consul, ConsulEndpoints, ConsulToken};
pub use address::Address;
pub(crate) use address::is_host_name;
pub use cluster::{
    BalancingPolicy, Cluster, Endpoint, Endpoints, Limits, LoadBalancing, PerEndpointLimits,
    Protocol,
};
pub use descriptor::{DescriptorFile, DescriptorSource};
pub use destination::{
    Canary, ConditionField, Destination, Destinations, FieldCondition, HashOn, Mirror,
};
pub use listener::{Admin, EdgeLimits, Listener, Protocols};
pub use matching::{FieldMatch, HostPattern, HttpMethod, Match, PathMatch, ValueMatch};
pub use name::{ClusterName, ProfileName, RouteName, ServiceName};
pub use pattern::Pattern;
pub use quantity::{ByteSize, Timeout};
pub use rate::{RateKey, RateLimit, RateStore, RedisUrl, WhenAway};
pub use resilience::{AdaptiveConcurrency, Breaker, OutlierDetection, Overload, RetryBudget};
pub use retry::{Hedge, HedgeAfter, Retry, RetryBackoff, RetryOn};
pub use route::{Action, Route};
pub use shaping::{Abort, Delay, Fault, HeaderEdits, Priority, Redirect, Rewrite};
pub use share::Share;
pub use transcode::{Defaults, Enums, Int64, Names, Transcode, UnknownFields};

use crate::positions::Positions;

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
    /// From when on requests are shed.
    pub overload: Overload,
    /// Where Consul is, if it is used.
    pub consul: Option<Consul>,
    /// Every cluster, in file order.
    pub clusters: Vec<Arc<Cluster>>,
    /// Every route, in file order.
    pub routes: Vec<Arc<Route>>,
    /// What the transcoder knows.
    pub descriptors: Vec<DescriptorSource>,
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

    /// The boot settings (their keys) in which `self` differs from what the process was started with.
    #[must_use]
    pub fn boot_changes(&self, started_with: &Self) -> Vec<&'static str> {
        [
            ("listeners", self.listeners != started_with.listeners),
            ("admin", self.admin != started_with.admin),
            ("threads", self.threads != started_with.threads),
        ]
        .into_iter()
        .filter_map(|(key, changed)| changed.then_some(key))
        .collect()
    }
}
