//! Consul's config entries of the service behind a cluster (`service-router`, `service-splitter`, `service-resolver`): within a cluster,
//! after a route has chosen it, they say which instances a request goes to, for how long, and how often.
//!
//! ```text
//! discovery watches them -> raw (what is written) -> compile (pure) -> Plan -> with clusters: Chain -> a slot of the cluster
//! destination chooses a cluster -> its slot's Chain, if there is one -> the part of the cluster that takes the request
//! ```
//!
//! What a cluster is parted into are clusters of their own (`counter/v2`), with health, breakers and limits of their own. Refused by
//! name, in `/clusters` and the log: what Consul knows and this does not.
//!
//! <https://developer.hashicorp.com/consul/docs/connect/manage-traffic/discovery-chain>

mod compile;
mod conditions;
mod hashing;
mod options;
mod plan;
mod raw;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::header::SET_COOKIE;
use http::{HeaderName, HeaderValue};
use mesh_config::model as config;
use parking_lot::Mutex;
use pingora_http::ResponseHeader;
use smallvec::{Array, SmallVec};

pub(crate) use self::compile::{Known, compile};
pub(crate) use self::conditions::{Asked, Lines, cookie_in};
use self::hashing::Key;
pub(crate) use self::options::Options;
pub(crate) use self::plan::{Place, Plan, Target};
use crate::upstream::{Aim, Cluster};

/// What the entries make of a cluster: nothing while there are none.
pub(crate) type Slot = Arc<ArcSwapOption<Chain>>;

/// What is to be seen of them, as it is now.
pub(crate) type SharedReport = Arc<Mutex<Report>>;

/// The slots of all clusters that read config entries, by their names.
#[derive(Debug, Default)]
pub(crate) struct Entries(Mutex<Slots>);

type Slots = BTreeMap<String, (Slot, SharedReport)>;

/// What is to be seen of a cluster's entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// What is in force, for people.
    pub(crate) in_force: Vec<String>,
    /// Why what Consul has now is not.
    pub(crate) problems: Vec<String>,
    /// What Consul has and this does not do.
    pub(crate) unsupported: Vec<String>,
}

/// A plan with the clusters of its targets.
#[derive(Debug)]
pub(crate) struct Chain {
    plan: Plan,
    /// By target.
    clusters: Vec<Arc<Cluster>>,
}

/// The part of a cluster that takes a request, and what the entries say of the request.
#[derive(Debug, Clone)]
pub(crate) struct Within {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) options: Arc<Options>,
    key: Key,
}

impl Entries {
    /// The slot and the report of a cluster.
    pub(crate) fn of(&self, cluster: &str) -> (Slot, SharedReport) {
        let mut all = self.0.lock();
        all.entry(cluster.to_owned()).or_default().clone()
    }

    /// The slots of those clusters that read config entries, in the order of the configuration.
    pub(crate) fn slots(&self, clusters: &[Arc<config::Cluster>]) -> Arc<[Option<Slot>]> {
        let reads = |cluster: &config::Cluster| match &cluster.endpoints {
            config::Endpoints::Consul(endpoints) => endpoints.config_entries,
            _ => false,
        };
        let slot = |cluster: &Arc<config::Cluster>| {
            reads(cluster).then(|| self.of(cluster.name.as_str()).0)
        };
        clusters.iter().map(slot).collect()
    }

    /// What is to be seen of a cluster's entries, if it reads any.
    pub(crate) fn report(&self, cluster: &str) -> Option<Report> {
        let all = self.0.lock();
        all.get(cluster).map(|(_, report)| report.lock().clone())
    }

    /// The reports of all clusters that read config entries.
    pub(crate) fn reports(&self) -> Vec<(String, Report)> {
        let all = self.0.lock();
        let reports = all.iter();
        let reports = reports.map(|(name, (_, report))| (name.clone(), report.lock().clone()));
        reports.collect()
    }

    /// The configuration says no longer that the cluster reads any.
    pub(crate) fn forget(&self, cluster: &str) {
        if let Some((slot, _)) = self.0.lock().remove(cluster) {
            slot.store(None);
        }
    }
}

impl Chain {
    pub(crate) fn new(plan: Plan, clusters: Vec<Arc<Cluster>>) -> Self {
        Self { plan, clusters }
    }

    /// Where a request goes. `point`: any number, evenly spread.
    pub(crate) fn choose(&self, asked: &Asked<'_>, point: u32) -> Option<Within> {
        let leaf = self.plan.choose(asked, point)?;
        Some(Within {
            cluster: Arc::clone(self.clusters.get(leaf.target)?),
            options: Arc::clone(&leaf.options),
            key: self.plan.targets.get(leaf.target)?.balancing.key(asked),
        })
    }
}

impl Within {
    /// What a request wants of the endpoints: what the route says, but for what the entries say of keys.
    pub(crate) fn aim<'a>(&self, route: Aim<'a>) -> Aim<'a> {
        Aim {
            key: self.key.hash.or(route.key),
            ..route
        }
    }

    /// The answer as the client gets it.
    pub(crate) fn answer<A: Array<Item = (HeaderName, HeaderValue)>>(
        &self,
        headers: &mut SmallVec<A>,
    ) {
        self.options.shaping().answer(headers);
        headers.extend(self.key.cookie.clone().map(|cookie| (SET_COOKIE, cookie)));
    }

    /// The same of an answer that is passed through.
    pub(crate) fn response(&self, response: &mut ResponseHeader) {
        self.options.shaping().response(response);
        if let Some(cookie) = self.key.cookie.clone() {
            // A name and value of the `http` crate are what pingora asks for.
            let _ = response.append_header(SET_COOKIE, cookie);
        }
    }
}
