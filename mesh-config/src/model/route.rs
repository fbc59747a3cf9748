//! A route: which requests it takes, what becomes of them, and by which policies.

use std::sync::Arc;

use super::{
    Canary, ClusterName, Cors, Destinations, Fault, HashOn, HeaderEdits, Hedge, Match, Mirror,
    Priority, RateLimit, Redirect, Retry, Rewrite, RouteName, Subset, Timeout, Transcode,
};

/// One row of the routing table. A policy that is `None` or empty is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Unique among the routes.
    pub name: RouteName,
    /// Which requests it takes.
    pub matches: Match,
    /// What is done with them.
    pub action: Action,
    /// Where they go: clusters of the same snapshot. Empty for a redirect only.
    pub destinations: Destinations,
    /// How long a unary call may take as a whole, and a stream up to its first message.
    pub timeout: Timeout,
    /// How long the next message of a stream is waited for.
    pub idle_timeout: Timeout,
    /// When a call is tried again.
    pub retry: Option<Retry>,
    /// When a call is asked of a second endpoint before the first has answered. Of transcoded routes only.
    pub hedge: Option<Hedge>,
    /// What makes requests go to the same side of a split, and to the same endpoint by `ring_hash` and `maglev`.
    pub hash_on: Option<HashOn>,
    /// Which endpoints of its destinations are asked.
    pub subset: Option<Arc<Subset>>,
    /// How many requests are let in.
    pub rate_limit: Option<RateLimit>,
    /// A cluster that is on trial.
    pub canary: Option<Canary>,
    /// Where copies of requests go.
    pub mirror: Option<Mirror>,
    /// Which requests are harmed on purpose.
    pub fault: Option<Fault>,
    /// Clusters that are asked, in order, where the destination rejects or has nothing usable.
    pub fallback: Vec<ClusterName>,
    /// What HTTP clusters get to see of the path and the host.
    pub rewrite: Option<Rewrite>,
    /// What is changed about the header of a request before it is passed on.
    pub request_headers: HeaderEdits,
    /// What is changed about the header of an answer.
    pub response_headers: HeaderEdits,
    /// Whether answers are compressed for clients that want that, where the route says so; of routes that do not transcode.
    pub compression: Option<bool>,
    /// Which scripts of browsers may call it from other sites.
    pub cors: Option<Arc<Cors>>,
    /// Who is shed first under overload.
    pub priority: Priority,
}

impl Route {
    /// How long a call may take where the route does not say.
    pub const DEFAULT_TIMEOUT: Timeout = Timeout::from_secs::<15>();

    /// How long the next message of a stream is waited for where the route does not say.
    pub const DEFAULT_IDLE_TIMEOUT: Timeout = Timeout::from_secs::<300>();

    /// The transcoding of the route, if that is what it does.
    #[must_use]
    pub fn transcode(&self) -> Option<&Transcode> {
        match &self.action {
            Action::Transcode(transcode) => Some(transcode),
            Action::PassThrough | Action::Redirect(_) => None,
        }
    }

    /// Every cluster that requests of this route or their copies may go to, each as often as it is named.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterName> {
        let destinations = self.destinations.iter().map(|side| &side.cluster);
        let canary = self.canary.iter().map(|canary| &canary.cluster);
        let mirror = self.mirror.iter().map(|mirror| &mirror.cluster);
        destinations
            .chain(canary)
            .chain(mirror)
            .chain(&self.fallback)
    }
}

/// What is done with a request that a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It becomes a gRPC call; where it goes to a cluster that speaks HTTP, it is passed on as it is.
    Transcode(Transcode),
    /// It is passed on as it is. The clusters speak HTTP.
    PassThrough,
    /// The client is sent elsewhere. There is no cluster.
    Redirect(Redirect),
}
