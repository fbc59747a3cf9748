//! A cluster: backends that do the same, how one of them is picked, and how much they are asked at once.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use super::{
    AdaptiveConcurrency, Address, Breaker, ClusterName, ConsulEndpoints, DnsEndpoints, HealthCheck,
    Labels, OutlierDetection, Place, RetryBudget, Share, Timeout,
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
    /// What its endpoints are asked to find out whether they are well.
    pub health_check: Option<HealthCheck>,
    /// How long the weight of an endpoint that is new or back grows.
    pub slow_start: Option<Timeout>,
    /// What messages of gRPC are compressed with on their way to it.
    pub compression: Option<MessageCoding>,
    /// Where the gateway is, as far as the file says.
    pub place: Place,
}

impl Cluster {
    /// `panic_threshold` where it is not given.
    pub const DEFAULT_PANIC_THRESHOLD: Share = Share::from_percent::<50>();
}

/// What messages of gRPC are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageCoding {
    /// `gzip`, which nearly every backend reads.
    Gzip,
    /// `zstd`.
    Zstd,
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
    /// A name server knows them.
    Dns(DnsEndpoints),
}

/// One backend of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Its share of the traffic, relative to the weights of the others.
    pub weight: NonZeroU32,
    /// What is known of it beside that.
    pub labels: Arc<Labels>,
}

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadBalancing {
    /// The rule.
    pub policy: BalancingPolicy,
    /// Points that an endpoint of average weight has on the ring of `ring_hash`.
    pub ring_points: NonZeroU32,
    /// Entries of the table of `maglev`: a prime.
    pub table_size: NonZeroU32,
    /// How much of its fair share of all requests in flight an endpoint may have, by `ring_hash` and `maglev`. Above
    /// 100%; `None`: any.
    pub bounded_load: Option<Share>,
    /// Points that the ring has as a whole, where that is more or less than the endpoints' own together. Consul says it, no key does.
    pub ring_size: RingSize,
    /// How many endpoints at random `least_request` compares; `None`: all of a few, some of many. Consul says it, no key does.
    pub choices: Option<NonZeroU32>,
    /// Which endpoints are preferred.
    pub locality: Locality,
    /// To how many of them, and when, connections are opened.
    pub connections: Connections,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        const RING_POINTS: NonZeroU32 = NonZeroU32::new(160).unwrap();
        const TABLE_SIZE: NonZeroU32 = NonZeroU32::new(65_537).unwrap();
        Self {
            policy: BalancingPolicy::default(),
            ring_points: RING_POINTS,
            table_size: TABLE_SIZE,
            bounded_load: Some(Share::from_more::<125>()),
            ring_size: RingSize::default(),
            choices: None,
            locality: Locality::default(),
            connections: Connections::default(),
        }
    }
}

/// The bounds of a whole ring, by the points on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingSize {
    /// At least so many.
    pub least: Option<NonZeroU32>,
    /// At most so many, but one for each endpoint.
    pub most: Option<NonZeroU32>,
}

impl LoadBalancing {
    /// The points of an endpoint of average weight among so many. A power of two where the ring's size decides, so that few keys move
    /// when endpoints come and go.
    #[must_use]
    pub fn points_among(&self, endpoints: usize) -> u32 {
        let endpoints = u32::try_from(endpoints.max(1)).unwrap_or(u32::MAX);
        let RingSize { least, most } = self.ring_size;
        let least = least.map_or(0, |least| least.get().div_ceil(endpoints));
        let most = most.map_or(u32::MAX, |most| (most.get() / endpoints).max(1));
        let mut points = self.ring_points.get();
        if points < least {
            points = least.checked_next_power_of_two().unwrap_or(least);
        }
        if points > most {
            points = 1 << most.ilog2();
        }
        points
    }
}

/// The connections of this gateway to the endpoints of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Whether they are opened before an endpoint takes requests.
    pub warm: bool,
    /// Only so many endpoints are used by one gateway; `None`: all.
    pub max_endpoints: Option<NonZeroUsize>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            warm: true,
            max_endpoints: None,
        }
    }
}

/// Which endpoints are preferred to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locality {
    /// None.
    #[default]
    Anywhere,
    /// Those in the gateway's zone.
    Zone,
    /// Those on the gateway's node, then those in its zone.
    Node,
}

impl Locality {
    /// The word for it in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anywhere => "none",
            Self::Zone => "zone",
            Self::Node => "node",
        }
    }
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
    /// The owner of a key on a hash ring.
    RingHash,
    /// The owner of a key in a maglev table.
    Maglev,
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
            Self::RingHash => "ring_hash",
            Self::Maglev => "maglev",
        }
    }

    /// Whether requests with the same key go to the same endpoint.
    #[must_use]
    pub fn is_by_key(self) -> bool {
        matches!(self, Self::RingHash | Self::Maglev)
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
