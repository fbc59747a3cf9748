//! One backend: where it is, how busy it is, whether it may be used, and each worker's connections to it.
//! It outlives reloads while cluster name, address and protocol stay the same; when it is retired, calls in
//! flight finish on their connections, and these close behind them.

use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire,
    Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use balance::Load;
use mesh_config::model::{Address, Labels, Protocol};
use parking_lot::Mutex;
use resilience::outlier::Record;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::checks::Checks;
use super::circuit::Circuit;
use super::cluster::Cluster;
use super::concurrency::Concurrency;
use super::counters::Counters;
use super::health::{Cause, Health};
use super::http::farewell::{self, Sockets};
use super::http::ready::Ready;
use super::lane::Lane;
use super::outliers::Outliers;
use super::probe;

/// One backend of a cluster.
#[derive(Debug)]
pub struct Endpoint {
    name: Arc<str>,
    address: Address,
    protocol: Protocol,
    weight: AtomicU32,
    labels: ArcSwap<Labels>,
    /// Where it stands in this gateway's own order.
    rank: u64,
    /// Since when it may be used; `None`: it may not.
    usable_since: Mutex<Option<Instant>>,
    /// Discovery has lost it, and it is kept for a while: why.
    held: ArcSwapOption<String>,
    addresses: ArcSwap<Vec<SocketAddr>>,
    next_address: AtomicUsize,
    pub(crate) load: Load,
    pub(crate) health: Health,
    pub(crate) circuit: Circuit,
    pub(crate) checks: Checks,
    pub(crate) record: Record,
    pub(crate) outliers: Arc<Outliers>,
    pub(crate) lanes: Box<[Lane]>,
    /// Connections of HTTP that no request has had yet, by worker.
    ready: Box<[Ready]>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) concurrency: Arc<Concurrency>,
    /// Connections of pingora's pools.
    pub(crate) sockets: Sockets,
    /// Live connections of all workers.
    pub(crate) connections: AtomicUsize,
    /// Connections that are open or being opened, for the limit on them.
    pub(crate) reserved: AtomicUsize,
    /// Counts the times it was found reachable again: who was told otherwise before may try at once.
    recoveries: AtomicU64,
    probed: AtomicBool,
    retired: AtomicBool,
    looked_at: AtomicBool,
    /// Woken when the endpoint is retired, and when a connection failed: names are looked up again then.
    pub(crate) disturbed: Notify,
    cluster: Weak<Cluster>,
}

// === impl Endpoint ===

impl Endpoint {
    pub(crate) fn new(
        cluster: &Arc<Cluster>,
        address: &Address,
        protocol: Protocol,
        workers: usize,
    ) -> Arc<Self> {
        let name: Arc<str> = address.to_string().into();
        let literal = address.socket_addr();
        let endpoint = Arc::new(Self {
            rank: cluster.control().rank(&name),
            name,
            address: address.clone(),
            protocol,
            weight: AtomicU32::new(1),
            labels: ArcSwap::default(),
            usable_since: Mutex::default(),
            held: ArcSwapOption::empty(),
            addresses: ArcSwap::from_pointee(literal.into_iter().collect()),
            next_address: AtomicUsize::new(0),
            load: Load::new(),
            health: Health::default(),
            circuit: Circuit::default(),
            checks: Checks::default(),
            record: Record::new(),
            outliers: Arc::clone(cluster.outliers()),
            lanes: (0..workers.max(1)).map(|_| Lane::default()).collect(),
            ready: (0..workers.max(1)).map(|_| Ready::default()).collect(),
            counters: Arc::clone(cluster.counters()),
            concurrency: Arc::clone(cluster.concurrency()),
            sockets: Sockets::default(),
            connections: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            recoveries: AtomicU64::new(0),
            probed: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            looked_at: AtomicBool::new(false),
            disturbed: Notify::new(),
            cluster: Arc::downgrade(cluster),
        });
        if literal.is_none() {
            endpoint.health.state(
                Cause::Unresolved,
                format!("{} has not been resolved yet", address.host()),
            );
        }
        endpoint
    }

    /// Its address as the configuration has it, `host:port`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// The higher, the rather this gateway uses it.
    pub(crate) fn rank(&self) -> u64 {
        self.rank
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// What is known of it beside its address and weight.
    #[must_use]
    pub fn labels(&self) -> Arc<Labels> {
        self.labels.load_full()
    }

    pub(crate) fn set_labels(&self, labels: Arc<Labels>) {
        self.labels.store(labels);
    }

    /// Since when it may be used without a break: its weight grows from then on.
    pub(crate) fn usable_since(&self) -> Option<Instant> {
        *self.usable_since.lock()
    }

    /// Notes whether it may be used now.
    pub(crate) fn note_use(&self, now: Instant) {
        let mut since = self.usable_since.lock();
        *since = match self.health.is_usable() {
            true => since.or(Some(now)),
            false => None,
        };
    }

    /// Why it is kept although discovery has lost it.
    pub(crate) fn held(&self) -> Option<String> {
        self.held.load().as_deref().cloned()
    }

    pub(crate) fn set_held(&self, why: Option<String>) {
        self.held.store(why.map(Arc::new));
    }

    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.upgrade()
    }

    pub(crate) fn lane(&self, worker: usize) -> &Lane {
        &self.lanes[worker % self.lanes.len()]
    }

    /// The connection that a worker has opened in advance.
    pub(crate) fn ready(&self, worker: usize) -> &Ready {
        &self.ready[worker % self.ready.len()]
    }

    /// The address to connect to now: each in turn, if the name has several and one fails.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let addresses = self.addresses.load();
        addresses
            .get(self.next_address.load(Relaxed) % addresses.len().max(1))
            .copied()
    }

    /// The name has these addresses now.
    pub(crate) fn resolved(&self, addresses: Vec<SocketAddr>) {
        if **self.addresses.load() != addresses {
            self.addresses.store(Arc::new(addresses));
        }
        if self.health.withdraw(Cause::Unresolved) {
            self.health_changed();
        }
    }

    /// The name has no address. Those known before go on being used.
    pub(crate) fn unresolved(&self, why: &str) {
        if self.addresses.load().is_empty() {
            let reason = format!("cannot resolve {}: {why}", self.address.host());
            if self.health.state(Cause::Unresolved, reason) {
                self.health_changed();
            }
        }
    }

    /// Whether a connection to it is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.connections.load(Relaxed) > 0
    }

    pub(crate) fn recoveries(&self) -> u64 {
        self.recoveries.load(Acquire)
    }

    /// Nothing takes connections there. Unusable until a probe says otherwise, unless connections that work
    /// prove the contrary.
    pub(crate) fn unreachable(self: &Arc<Self>, worker: Option<usize>, why: &str) {
        self.next_address.fetch_add(1, Relaxed);
        self.disturbed.notify_one();
        if self.connections.load(Relaxed) > 0 || self.is_retired() {
            return;
        }
        if self
            .health
            .state(Cause::Unreachable, format!("cannot connect: {why}"))
        {
            tracing::warn!(endpoint = %self.name, why, "an endpoint cannot be reached");
            self.health_changed();
        }
        if self.claim_probe() {
            probe::start(self, worker);
        }
    }

    /// A probe failed too.
    pub(crate) fn still_unreachable(&self, why: &str) {
        self.next_address.fetch_add(1, Relaxed);
        self.disturbed.notify_one();
        if self.is_unreachable() {
            self.health
                .state(Cause::Unreachable, format!("cannot connect: {why}"));
        }
    }

    pub(crate) fn is_unreachable(&self) -> bool {
        !self.is_retired() && self.health.has(Cause::Unreachable)
    }

    /// True for the one who has to take the first look.
    pub(crate) fn claim_first_look(&self) -> bool {
        !self.looked_at.swap(true, AcqRel)
    }

    /// True for the one who has to run the probe.
    pub(crate) fn claim_probe(&self) -> bool {
        !self.probed.swap(true, AcqRel)
    }

    pub(crate) fn probe_ended(&self) {
        self.probed.store(false, Release);
    }

    /// A connection was made.
    pub(crate) fn reachable(self: &Arc<Self>) {
        if self.health.withdraw(Cause::Unreachable) {
            tracing::info!(endpoint = %self.name, "an endpoint can be reached again");
            self.load.forget();
            self.recoveries.fetch_add(1, Release);
            self.health_changed();
            if let Some(cluster) = self.cluster() {
                cluster.open_in_advance(self);
            }
        }
    }

    /// No calls from now on; connections close when theirs have ended.
    pub(crate) fn retire(self: &Arc<Self>) {
        self.retired.store(true, Release);
        self.disturbed.notify_one();
        self.checks.stop();
        for lane in &self.lanes {
            lane.close();
        }
        self.ready.iter().for_each(Ready::let_go);
        if let Some(cluster) = self.cluster() {
            farewell::part(self, &cluster.control().runtime);
        }
    }

    /// Closes connections that nobody uses.
    pub(crate) fn let_go(&self) {
        self.lanes.iter().for_each(Lane::let_go);
        self.ready.iter().for_each(Ready::let_go);
        if let Err(why) = self.sockets.shut_down() {
            tracing::debug!(endpoint = %self.name, %why, "idle connections are left to their time");
        }
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Acquire)
    }

    pub(crate) fn latency(&self, now: Instant) -> Duration {
        self.load.latency(now)
    }

    fn health_changed(&self) {
        if let Some(cluster) = self.cluster() {
            cluster.reselect();
        }
    }
}
