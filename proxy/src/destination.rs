//! Where the requests of a route go: the one place where a cluster is chosen for a request, in both lanes.
//!
//! The choice is made once a request and is a number, so that it costs no reference count; the clusters
//! themselves stay with the table that the request keeps.

use std::sync::Arc;

use mesh_config::model::Route;
use transcode::Captures;

use crate::edge::Head;
use crate::upstream::Cluster;

/// The clusters of a configuration, in its order.
pub(crate) type Clusters = Arc<[Arc<Cluster>]>;

/// The destinations of one route.
#[derive(Debug, Default)]
pub(crate) struct Destination {
    clusters: Clusters,
    primary: usize,
}

/// The cluster that a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    cluster: usize,
}

impl Chosen {
    /// For requests that do not leave the gateway.
    pub(crate) const NOWHERE: Self = Self {
        cluster: usize::MAX,
    };
}

impl Destination {
    /// What a route says, among the clusters of its configuration.
    pub(crate) fn new(route: &Route, clusters: &Clusters) -> Self {
        let named = |cluster: &Arc<Cluster>| {
            let first = route.destinations.first();
            first.is_some_and(|first| **cluster.name() == *first.as_str())
        };
        Self {
            primary: clusters.iter().position(named).unwrap_or(usize::MAX),
            clusters: clusters.clone(),
        }
    }

    /// Where requests go when nothing says otherwise; none if they do not leave the gateway.
    pub(crate) fn primary(&self) -> Option<&Arc<Cluster>> {
        self.clusters.get(self.primary)
    }

    /// Where this request goes.
    pub(crate) fn choose(&self, _: &Head, _: &Captures) -> Chosen {
        Chosen {
            cluster: self.primary,
        }
    }

    /// The cluster that was chosen.
    pub(crate) fn cluster(&self, chosen: Chosen) -> Option<&Arc<Cluster>> {
        self.clusters.get(chosen.cluster)
    }
}
