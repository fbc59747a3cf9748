//! The ways to Redis: one connection with its queue, or one for each primary of a cluster.

use std::sync::Arc;
use std::time::Duration;

use service_kit::Readiness;
use tokio::sync::mpsc;

use super::cluster::Cluster;
use super::connect::Seek;
use super::link::{Lease, Lender, Link};
use super::pipeline::{self, Request, Shared};
use super::target::{Node, Target};
use crate::store::StoreError;

/// Increments that may wait for a connection. At this depth Redis is far behind: more would only wait longer.
const QUEUE: usize = 16 * 1024;

/// A connection, and the queue of increments that go over it.
pub(super) struct Lane {
    /// The node of a cluster that it leads to.
    pub(super) node: Option<Node>,
    lender: Lender,
    pub(super) queue: mpsc::Sender<Request>,
    _link: Link,
}

impl Lane {
    pub(super) fn start(
        seek: Seek,
        node: Option<Node>,
        timeout: Duration,
        readiness: Readiness,
        shared: Arc<Shared>,
    ) -> Self {
        let waits = shared
            .durable
            .map_or(Duration::ZERO, |durable| durable.timeout());
        let link = Link::start(seek, timeout + waits, readiness);
        let lender = link.lender();
        let (queue, requests) = mpsc::channel(QUEUE);
        tokio::spawn(pipeline::run(requests, lender.clone(), shared));
        Self {
            node,
            lender,
            queue,
            _link: link,
        }
    }

    pub(super) fn lease(&self) -> Result<Lease, StoreError> {
        self.lender.lease()
    }
}

/// All ways of a store.
pub(super) enum Lanes {
    One(Lane),
    Cluster(Cluster),
}

impl Lanes {
    pub(super) fn start(
        target: Arc<Target>,
        timeout: Duration,
        readiness: Readiness,
        shared: &Arc<Shared>,
        elsewhere: mpsc::UnboundedReceiver<(Request, StoreError)>,
    ) -> Self {
        if target.is_cluster() {
            let cluster = Cluster::start(target, timeout, readiness, shared, elsewhere);
            return Self::Cluster(cluster);
        }
        let seek = Seek::primary(target);
        Self::One(Lane::start(seek, None, timeout, readiness, shared.clone()))
    }

    /// The connection to the server that has this place.
    pub(super) fn lease(&self, place: usize) -> Result<Lease, StoreError> {
        match self {
            Self::One(lane) => lane.lease(),
            Self::Cluster(cluster) => cluster.lane(place)?.lease(),
        }
    }

    /// Sends a request on its way.
    pub(super) fn send(&self, place: usize, request: Request) {
        match self {
            Self::One(lane) => lane.send(request),
            Self::Cluster(cluster) => cluster.send(place, request),
        }
    }

    /// Each server's connection with the places that it has, out of these. A server that is away is left out.
    pub(super) fn by_server(&self, places: &[usize]) -> Vec<(Lease, Vec<usize>)> {
        match self {
            Self::One(_) if places.is_empty() => Vec::new(),
            Self::One(lane) => lane
                .lease()
                .map(|lease| (lease, places.to_vec()))
                .into_iter()
                .collect(),
            Self::Cluster(cluster) => cluster.by_server(places),
        }
    }

    /// Takes note of an error that may mean that a place is somewhere else now.
    pub(super) fn told(&self, lease: &Lease, error: &StoreError) {
        lease.told(error);
        if let Self::Cluster(cluster) = self {
            cluster.told(error);
        }
    }
}

impl Lane {
    /// Queues a request, or answers it at once.
    pub(super) fn send(&self, request: Request) {
        if let Err(error) = self.queue.try_send(request) {
            let why = match error {
                mpsc::error::TrySendError::Full(_) => {
                    "Redis is too slow: too many increments wait for it"
                }
                mpsc::error::TrySendError::Closed(_) => "the Redis store is closed",
            };
            let request = error.into_inner();
            // Whoever hung up does not need an answer.
            let _ = request.reply.send(Err(StoreError::Unavailable(why.into())));
        }
    }
}
