//! What a version changed, in a line.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Cluster, Route, Snapshot};
use crate::suggest;

/// What is in the first version.
pub(super) fn of(snapshot: &Snapshot) -> String {
    let (clusters, routes) = (snapshot.clusters.len(), snapshot.routes.len());
    format!("first version; clusters: {clusters}, routes: {routes}")
}

/// What `new` changes.
pub(super) fn difference(old: &Snapshot, new: &Snapshot) -> String {
    let mut parts = Vec::new();
    let (before, after) = (
        by_name(&old.clusters, cluster_name),
        by_name(&new.clusters, cluster_name),
    );
    parts.extend(changes("clusters", &before, &after));
    let (before, after) = (
        by_name(&old.routes, route_name),
        by_name(&new.routes, route_name),
    );
    parts.extend(changes("routes", &before, &after));
    if old.descriptors != new.descriptors {
        parts.push("descriptors: changed".to_owned());
    }
    if old.profiles != new.profiles {
        parts.push("profiles: changed".to_owned());
    }
    if old.overload != new.overload {
        parts.push("overload: changed".to_owned());
    }
    for (key, changed) in [
        ("log", old.log != new.log),
        ("drain_timeout", old.drain_timeout != new.drain_timeout),
        ("consul.tags", old.announced.tags != new.announced.tags),
        (
            "consul.weight",
            old.announced.weight != new.announced.weight,
        ),
    ] {
        parts.extend(changed.then(|| format!("{key}: changed")));
    }
    let boot = new.boot_changes(old);
    if !boot.is_empty() {
        parts.push(format!("{}: changed, at the next start", boot.join(", ")));
    }
    if parts.is_empty() {
        return "nothing but order or comments".to_owned();
    }
    parts.join("; ")
}

fn cluster_name(cluster: &Cluster) -> &str {
    cluster.name.as_str()
}

fn route_name(route: &Route) -> &str {
    route.name.as_str()
}

fn by_name<T>(items: &[Arc<T>], name: fn(&T) -> &str) -> BTreeMap<&str, &T> {
    items.iter().map(|item| (name(item), &**item)).collect()
}

/// `clusters: +added ~changed -removed`; `None`: all are the same.
fn changes<T: PartialEq>(
    what: &str,
    old: &BTreeMap<&str, &T>,
    new: &BTreeMap<&str, &T>,
) -> Option<String> {
    let added = new
        .keys()
        .filter(|name| !old.contains_key(*name))
        .map(|name| format!("+{name}"));
    let changed = new
        .iter()
        .filter(|(name, item)| old.get(*name).is_some_and(|before| before != *item));
    let changed = changed.map(|(name, _)| format!("~{name}"));
    let removed = old
        .keys()
        .filter(|name| !new.contains_key(*name))
        .map(|name| format!("-{name}"));
    let all: Vec<String> = added.chain(changed).chain(removed).collect();
    let listed = suggest::list(all.iter().map(String::as_str));
    (!all.is_empty()).then(|| format!("{what}: {listed}"))
}
