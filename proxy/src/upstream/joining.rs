//! Endpoints that are new: where others take requests, one waits until its first check has passed and the workers have
//! connections to it, and then enters the selection. Where nothing else is there it takes requests at once.
//!
//! Connections are opened on the workers' own runtimes, within `connect_timeout`, and never more in advance than half
//! of what the cluster may have. Those of gRPC stay open, and are opened at a start too; those of HTTP are there for the first requests
//! to an endpoint that joins, and belong to pingora's pools from then on.

use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::{self as config, Protocol};
use tokio::time::timeout;

use super::Upstreams;
use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::health::Cause;
use super::http::ready::Ready;

/// How long a start waits for the first checks.
const FIRST_CHECKS: Duration = Duration::from_secs(1);

impl Upstreams {
    /// The workers run now: connections to the endpoints that are known already are opened there.
    pub fn set_threads(&self, threads: Vec<tokio::runtime::Handle>) {
        self.control.set_threads(threads);
        for cluster in self.all() {
            for endpoint in cluster.members() {
                cluster.open_in_advance(&endpoint);
            }
        }
    }

    /// Waits until every endpoint that is checked has been checked once, for a moment at most.
    pub(crate) async fn first_checks(&self) {
        let members = self.all().into_iter().flat_map(|one| one.members());
        let members: Vec<_> = members.collect();
        let all = async {
            for endpoint in members {
                endpoint.checks.first().await;
            }
        };
        let _ = timeout(FIRST_CHECKS, all).await;
    }
}

impl Endpoint {
    /// It is new, and others can do without it until it is ready.
    pub(super) fn is_to_wait(&self, cluster: &Cluster, config: &config::Cluster) {
        let warm =
            config.load_balancing.connections.warm && !cluster.control().threads().is_empty();
        let what = match &config.health_check {
            Some(_) => "new: waits for its first check and for its connections",
            None if warm => "new: its connections are being opened",
            None => return,
        };
        self.health.state(Cause::Joining, what.to_owned());
    }
}

impl Cluster {
    /// Takes in an endpoint that is new, at once or as soon as it is ready.
    pub(super) fn take_in(self: &Arc<Self>, endpoint: &Arc<Endpoint>) {
        if !endpoint.health.has(Cause::Joining) {
            return self.open_in_advance(endpoint);
        }
        let (cluster, endpoint) = (self.downgraded(), Arc::downgrade(endpoint));
        self.control().runtime.spawn(async move {
            let Some((cluster, endpoint)) = cluster.upgrade().zip(endpoint.upgrade()) else {
                return;
            };
            tokio::join!(endpoint.checks.first(), cluster.opened(&endpoint));
            if endpoint.health.withdraw(Cause::Joining) {
                cluster.reselect();
            }
        });
    }

    /// Starts to open a connection of every worker to it.
    pub(crate) fn open_in_advance(self: &Arc<Self>, endpoint: &Arc<Endpoint>) {
        if self.protocol() == Protocol::Grpc && self.opens_in_advance(endpoint) {
            for (worker, thread) in self.control().threads().iter().enumerate() {
                let endpoint = Arc::clone(endpoint);
                thread.spawn(async move { endpoint.lane(worker).connect(&endpoint, worker) });
            }
        }
    }

    /// Opens a connection of every worker to it, and waits until they are there, or are not to be had.
    async fn opened(self: &Arc<Self>, endpoint: &Arc<Endpoint>) {
        if !self.opens_in_advance(endpoint) {
            return;
        }
        let threads = self.control().threads().iter().enumerate();
        let opening = threads.map(|(worker, thread)| {
            let (cluster, endpoint) = (Arc::clone(self), Arc::clone(endpoint));
            thread.spawn(async move {
                match endpoint.protocol() {
                    Protocol::Grpc => endpoint.lane(worker).opened_or_not(&endpoint, worker).await,
                    Protocol::Http1 | Protocol::Http2 => {
                        Ready::open(&cluster, &endpoint, worker).await;
                    }
                }
            })
        });
        let opening: Vec<_> = opening.collect();
        let all = async {
            for one in opening {
                // A worker that ends has no use for connections.
                let _ = one.await;
            }
        };
        let _ = timeout(self.connect_timeout(), all).await;
    }

    /// Whether connections to it are opened before requests ask for them.
    fn opens_in_advance(&self, endpoint: &Endpoint) -> bool {
        let config = self.config();
        let connections = &config.load_balancing.connections;
        let workers = self.control().threads().len();
        workers > 0
            && connections.warm
            && endpoint.socket_addr().is_some()
            && self.reserved_connections() + workers <= config.limits.connections.get() / 2
            && self.is_in_subset(endpoint)
    }
}
