//! What a route does with its requests beside routing and transcoding them, compiled: one value for all rows of
//! a route. Each policy is a type of its own module; here they are only put together.

use std::sync::Arc;

use mesh_config::Snapshot;
use mesh_config::model::{self, ClusterName, Route};
use resilience::overload::Priority;
use transcode::{Binding, Idempotency};

use super::Kept;
use crate::cors::Cors;
use crate::destination::Destination;
use crate::edge::{Head, Headers};
use crate::fault::Fault;
use crate::mirror::Mirror;
use crate::rate_limit::RouteLimit;
use crate::shaping::Shaping;
use crate::upstream::{CallPolicy, Repeats};

/// The policies of one route.
#[derive(Debug, Default)]
pub struct Policies {
    /// Where its requests go.
    pub(crate) destination: Destination,
    /// Who is turned away first; `None`: never, as the gateway's own pages.
    pub(crate) priority: Option<Priority>,
    /// How many of them are let in.
    pub(crate) rate_limit: Option<RouteLimit>,
    /// What it changes about requests and answers.
    pub(crate) shaping: Shaping,
    /// How requests are repeated that are passed through.
    pub(crate) forwarded: CallPolicy,
    /// Which requests it harms.
    pub(crate) fault: Option<Fault>,
    /// Where copies of them go.
    pub(crate) mirror: Option<Mirror>,
    /// What browsers are told of it.
    pub(crate) cors: Option<Cors>,
    /// Answers that are passed through are compressed for clients that want that.
    pub(crate) compression: bool,
}

impl Policies {
    /// The policies of every route, in file order. The clusters of the snapshot have been applied.
    pub(super) fn of_routes(snapshot: &Snapshot, kept: &Kept) -> Vec<Arc<Self>> {
        let clusters = kept.upstreams.of(&snapshot.clusters);
        let slots = kept.entries.slots(&snapshot.clusters);
        let of = |route: &Arc<Route>| {
            Arc::new(Self {
                destination: Destination::new(
                    route,
                    &clusters,
                    &slots,
                    kept.states.of(route.name.as_str()),
                ),
                priority: Some(priority(route.priority)),
                rate_limit: kept.limits.of(route),
                shaping: Shaping::new(route),
                forwarded: forwarded(route),
                fault: fault(route, kept),
                mirror: Mirror::new(route, &kept.mirrors, |name| kept.upstreams.get(name)),
                cors: route.cors.as_ref().map(Cors::new),
                compression: route.compression == Some(true),
            })
        };
        let policies = snapshot.routes.iter().map(of).collect();
        kept.limits.retain(snapshot);
        policies
    }
}

impl Policies {
    /// What stands in every answer to a request, whoever wrote it.
    pub(crate) fn answer(&self, head: &Head, headers: &mut Headers) {
        self.shaping.answer(headers);
        if let Some(cors) = &self.cors {
            cors.answer(head.header("origin"), headers);
        }
    }
}

fn priority(configured: model::Priority) -> Priority {
    match configured {
        model::Priority::Low => Priority::Low,
        model::Priority::Normal => Priority::Normal,
        model::Priority::High => Priority::High,
    }
}

/// HTTP tells by the method what may be repeated; nothing more is known of it.
fn forwarded(route: &Route) -> CallPolicy {
    let policies = (route.retry.as_ref(), None);
    CallPolicy::new(policies, Repeats::default(), "", std::iter::empty())
}

fn fault(route: &Route, kept: &Kept) -> Option<Fault> {
    let counts = || kept.metrics.faults(route.name.as_str());
    let fault = route.fault.as_ref()?;
    Some(Fault::new(fault, counts()))
}

/// The names of the clusters that answer a route's requests, each once, the first one's first.
pub(super) fn destinations(route: &Route) -> impl Iterator<Item = &str> {
    let sides = route.destinations.iter().map(|side| &side.cluster);
    let canary = route.canary.iter().map(|canary| &canary.cluster);
    distinct(sides.chain(canary).chain(&route.fallback))
}

/// The names of the clusters that a route's requests or their copies go to, each once, the first one's first.
pub(super) fn clusters(route: &Route) -> impl Iterator<Item = &str> {
    distinct(route.clusters())
}

fn distinct<'r>(names: impl Iterator<Item = &'r ClusterName>) -> impl Iterator<Item = &'r str> {
    let mut distinct: Vec<&str> = Vec::new();
    for name in names {
        if !distinct.contains(&name.as_str()) {
            distinct.push(name.as_str());
        }
    }
    distinct.into_iter()
}

/// How the calls of a transcoded row are repeated. `dedupe`: the key by which the backend knows a repeated call, if
/// it is the service that the method is of; what answers the same paths over HTTP need not know it.
pub(super) fn call_policy(
    route: Option<&Route>,
    binding: &Binding,
    dedupe: Option<&str>,
    kept: &Kept,
) -> CallPolicy {
    let repeats = Repeats {
        idempotent: binding.idempotency != Idempotency::Unknown,
        dedupe,
    };
    repeated(route, &binding.to_string(), repeats, kept)
}

/// The same of a method that is called as `row`.
pub(super) fn repeated(
    route: Option<&Route>,
    row: &str,
    method: Repeats<'_>,
    kept: &Kept,
) -> CallPolicy {
    let Some(route) = route else {
        return CallPolicy::default();
    };
    let row = format!("{} {row}", route.name.as_str());
    let clusters: Vec<_> = route
        .clusters()
        .filter_map(|name| kept.upstreams.get(name.as_str()))
        .collect();
    let policies = (route.retry.as_ref(), route.hedge);
    CallPolicy::new(policies, method, &row, clusters.iter())
}
