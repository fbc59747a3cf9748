//! `service-resolver`.
//!
//! <https://developer.hashicorp.com/consul/docs/reference/config-entry/service-resolver>

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::balancing;
use super::fields::{At, Finds};
use crate::entries::hashing::Balancing;

#[derive(Debug, Default)]
pub(in crate::entries) struct Resolver {
    pub(in crate::entries) default_subset: Option<String>,
    pub(in crate::entries) subsets: BTreeMap<String, Subset>,
    pub(in crate::entries) redirect: Option<Aim>,
    /// By subset, or `*`.
    pub(in crate::entries) failover: BTreeMap<String, Vec<Aim>>,
    pub(in crate::entries) connect_timeout: Option<Duration>,
    pub(in crate::entries) request_timeout: Option<Duration>,
    pub(in crate::entries) balancing: Balancing,
}

#[derive(Debug, Clone, Default)]
pub(in crate::entries) struct Subset {
    pub(in crate::entries) filter: Option<String>,
    pub(in crate::entries) only_passing: bool,
}

/// Where else; what is not said is as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::entries) struct Aim {
    pub(in crate::entries) service: Option<String>,
    pub(in crate::entries) subset: Option<String>,
    pub(in crate::entries) datacenter: Option<String>,
}

pub(in crate::entries) fn resolver(value: &Value, service: &str, finds: &mut Finds) -> Resolver {
    let entry = At::entry(value, format!("service-resolver {service}"));
    entry.known(
        &[
            "DefaultSubset",
            "Subsets",
            "Redirect",
            "Failover",
            "ConnectTimeout",
            "RequestTimeout",
            "LoadBalancer",
        ],
        finds,
    );
    let subset = |at: At<'_>, finds: &mut Finds| {
        at.known(&["Filter", "OnlyPassing"], finds);
        Subset {
            filter: at.text("Filter").map(str::to_owned),
            only_passing: at.is("OnlyPassing"),
        }
    };
    let subsets = entry.entries("Subsets").into_iter();
    let mut subsets: BTreeMap<String, Subset> = subsets
        .map(|(name, at)| (name.to_owned(), subset(at, finds)))
        .collect();
    // One that says nothing is there all the same: all instances.
    let empty = value.get("Subsets").and_then(Value::as_object);
    for name in empty.into_iter().flat_map(|all| all.keys()) {
        subsets.entry(name.clone()).or_default();
    }
    let redirect = entry.get("Redirect").and_then(|at| {
        at.known(&["Service", "ServiceSubset", "Datacenter"], finds);
        if at.get("Peer").is_some() || at.get("SamenessGroup").is_some() {
            at.problem(finds, "a peer or a sameness group cannot be asked");
            return None;
        }
        Some(aim(&at))
    });
    let failover = entry.entries("Failover").into_iter();
    Resolver {
        default_subset: entry.text("DefaultSubset").map(str::to_owned),
        subsets,
        redirect,
        failover: failover
            .map(|(subset, at)| (subset.to_owned(), aims(&at, finds)))
            .collect(),
        connect_timeout: entry.time("ConnectTimeout", finds),
        request_timeout: entry.time("RequestTimeout", finds),
        balancing: entry
            .get("LoadBalancer")
            .map(|at| balancing::balancing(&at, finds))
            .unwrap_or_default(),
    }
}

fn aim(at: &At<'_>) -> Aim {
    let text = |key| at.text(key).map(str::to_owned);
    Aim {
        service: text("Service"),
        subset: text("ServiceSubset"),
        datacenter: text("Datacenter"),
    }
}

/// Who takes the place, in order.
fn aims(at: &At<'_>, finds: &mut Finds) -> Vec<Aim> {
    at.known(
        &["Service", "ServiceSubset", "Datacenters", "Targets"],
        finds,
    );
    let targets = at.items("Targets");
    if !targets.is_empty() {
        let mut aims = Vec::new();
        for target in &targets {
            target.known(&["Service", "ServiceSubset", "Datacenter"], finds);
            // One that is elsewhere altogether is left out; `known` has told of it.
            if target.get("Peer").is_none() {
                aims.push(aim(target));
            }
        }
        return aims;
    }
    let datacenters = at.texts("Datacenters");
    if datacenters.is_empty() {
        let one = aim(at);
        return if one == Aim::default() {
            Vec::new()
        } else {
            vec![one]
        };
    }
    let one = |datacenter| Aim {
        datacenter: Some(datacenter),
        ..aim(at)
    };
    datacenters.into_iter().map(one).collect()
}
