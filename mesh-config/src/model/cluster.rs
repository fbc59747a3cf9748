//! A cluster: backends that do the same, how one of them is picked, and how much they are asked at once.

use std::num::{NonZeroU32, NonZeroUsize};

use super::{
    AdaptiveConcurrency, Address, Breaker, ClusterName, ConsulEndpoints, OutlierDetection,
    RetryBudget, Share, Timeout,
};

/// A named set of backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Unique among the clusters.
    pub name: ClusterName,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// Where its endpoints come from.
    pub endpoints: Endpoints,
    /// How an endpoint is picked.
    pub load_balancing: LoadBalancing,
    /// How long a connection may take to be established.
    pub connect_timeout: Timeout,
    /// How much may be under way at once.
    pub limits: Limits,
    /// With a smaller share of usable endpoints than this all are used; 0%: never.
    pub panic_threshold: Share,
    /// How many tries beyond the first it may get.
    pub retry_budget: RetryBudget,
    /// When one of its endpoints is rejected by what it answered.
    pub breaker: Option<Breaker>,
    /// When one of its endpoints is left out by comparison with the others.
    pub outlier_detection: Option<OutlierDetection>,
    /// A limit that follows the latency, below `limits.requests`.
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
}

impl Cluster {
    /// `panic_threshold` where it is not given.
    pub const DEFAULT_PANIC_THRESHOLD: Share = Share::from_percent::<50>();
}

/// What the endpoints of a cluster speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// gRPC over HTTP/2 with prior knowledge.
    Grpc,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Protocol {
    /// The word for it in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// Where the endpoints of a cluster come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    /// They stand in the file: at least one, no address twice.
    Static(Vec<Endpoint>),
    /// Consul knows them.
    Consul(ConsulEndpoints),
}

/// One backend of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Its share of the traffic, relative to the weights of the others.
    pub weight: NonZeroU32,
}

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadBalancing {
    /// The rule.
    pub policy: BalancingPolicy,
}

/// The rule by which an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum BalancingPolicy {
    /// The better of two at random, by peak EWMA of latency and load.
    #[default]
    P2c,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The one with the fewest requests in flight.
    LeastRequest,
}

impl BalancingPolicy {
    /// The word for it in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P2c => "p2c",
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::LeastRequest => "least_request",
        }
    }
}

/// How much may be under way at once in a cluster. They always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: NonZeroUsize,
    /// Requests that wait for one of `requests` to end; 0: none waits.
    pub pending: usize,
    /// Requests in flight.
    pub requests: NonZeroUsize,
    /// Tries beyond the first that are in flight; 0: none is made.
    pub retries: usize,
    /// The same for each endpoint by itself.
    pub per_endpoint: PerEndpointLimits,
}

impl Default for Limits {
    fn default() -> Self {
        const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(8192).unwrap();
        const REQUESTS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
        Self {
            connections: CONNECTIONS,
            pending: 1024,
            requests: REQUESTS,
            retries: 64,
            per_endpoint: PerEndpointLimits::default(),
        }
    }
}

/// Limits of one endpoint; `None`: only the cluster's hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerEndpointLimits {
    /// Open connections to one endpoint.
    pub connections: Option<NonZeroUsize>,
    /// Requests in flight at one endpoint.
    pub requests: Option<NonZeroUsize>,
}
