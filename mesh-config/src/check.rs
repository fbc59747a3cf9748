//! What sections say about each other: clusters and profiles that routes name, protocols that fit, addresses
//! that exclude each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::model::{Action, Admin, Listener, ProfileName, Protocol, Route, Transcode};
use crate::report::Report;
use crate::section::{cluster, profile, route};
use crate::suggest;

/// Checks each route against the clusters, profiles and listeners.
pub(crate) fn routes(
    routes: &[route::Declared<'_>],
    clusters: &[cluster::Declared],
    profiles: &BTreeMap<ProfileName, serde_json::Value>,
    listeners: &[Listener],
    report: &mut Report,
) {
    for declared in routes {
        cluster_exists(declared, clusters, report);
        let Action::Transcode(transcode) = &declared.route.action else {
            continue;
        };
        profile_exists(declared, transcode, profiles, report);
        body_gets_in(declared, transcode, listeners, report);
    }
}

fn cluster_exists(
    declared: &route::Declared<'_>,
    clusters: &[cluster::Declared],
    report: &mut Report,
) {
    let Route { to, action, .. } = &declared.route;
    let Some(cluster) = clusters.iter().find(|cluster| cluster.name == *to) else {
        let names = || clusters.iter().map(|cluster| cluster.name.as_str());
        let nearest = suggest::nearest(to.as_str(), names());
        let suggestion = nearest
            .map(|nearest| format!(", did you mean `{nearest}`?"))
            .unwrap_or_default();
        let why = match clusters.is_empty() {
            true => format!("there is no cluster `{to}`: define it under `clusters`"),
            false => format!(
                "there is no cluster `{to}`{suggestion} (clusters: {})",
                suggest::list(names())
            ),
        };
        return at(declared, "to", why, report);
    };
    match (action, cluster.protocol) {
        (Action::Transcode(_), Some(protocol @ (Protocol::Http1 | Protocol::Http2))) => {
            let protocol = protocol.as_str();
            let why = format!(
                "cluster `{to}` speaks {protocol}: a route with `transcode` needs a cluster of protocol grpc"
            );
            at(declared, "to", why, report);
        }
        (Action::PassThrough, Some(Protocol::Grpc)) => {
            let why = format!(
                "cluster `{to}` speaks grpc: add `transcode` with its services, or use a cluster of protocol http1 or \
                 http2 (passing gRPC through is not in this version)"
            );
            at(declared, "to", why, report);
        }
        _ => {}
    }
}

fn profile_exists(
    declared: &route::Declared<'_>,
    transcode: &Transcode,
    profiles: &BTreeMap<ProfileName, serde_json::Value>,
    report: &mut Report,
) {
    let name = transcode.profile.as_str();
    if profile::BUILTIN.contains(&name) || profiles.contains_key(name) {
        return;
    }
    let known = || {
        profile::BUILTIN
            .into_iter()
            .chain(profiles.keys().map(ProfileName::as_str))
    };
    let suggestion =
        suggest::nearest(name, known()).map(|near| format!(", did you mean `{near}`?"));
    let suggestion = suggestion.unwrap_or_default();
    let why = format!(
        "there is no profile `{name}`{suggestion} (profiles: {})",
        suggest::list(known())
    );
    at(declared, "transcode.profile", why, report);
}

fn body_gets_in(
    declared: &route::Declared<'_>,
    transcode: &Transcode,
    listeners: &[Listener],
    report: &mut Report,
) {
    // Only what is written can be wrong: a small door may well stand before the default.
    if declared.value.find("transcode.max_body").is_none() {
        return;
    }
    let widest = listeners
        .iter()
        .map(|listener| listener.limits.max_body)
        .max();
    if let Some(widest) = widest.filter(|widest| transcode.max_body > *widest) {
        let why = format!(
            "no listener lets more than {widest} in: raise `listeners[].limits.max_body` too"
        );
        at(declared, "transcode.max_body", why, report);
    }
}

/// Reports a problem of a key below a route.
fn at(declared: &route::Declared<'_>, key: &str, why: String, report: &mut Report) {
    let line = declared
        .value
        .find(key)
        .map_or(declared.value.line(), |node| node.line);
    report.add(line, &format!("{}.{key}", declared.value.path), why);
}

/// Checks that no two of the listeners and the admin port want the same address.
pub(crate) fn addresses(
    listeners: &[Listener],
    admin: &Admin,
    lines: &dyn Fn(&str) -> u32,
    report: &mut Report,
) {
    let path = |index| format!("listeners[{index}].address");
    for (index, listener) in listeners.iter().enumerate() {
        let clash = listeners[..index]
            .iter()
            .position(|other| overlap(other.address, listener.address));
        if let Some(first) = clash {
            let why = format!(
                "{} is taken by listeners[{first}]: choose another port",
                listener.address
            );
            report.add(lines(&path(index)), &path(index), why);
        }
    }
    if let Some(index) = listeners
        .iter()
        .position(|listener| overlap(listener.address, admin.address))
    {
        let why = format!(
            "{} is taken by listeners[{index}]: choose another port",
            admin.address
        );
        report.add(lines("admin.address"), "admin.address", why);
    }
}

/// Whether both cannot be bound at once. A wildcard takes its port on all addresses of its family, and `[::]`
/// those of IPv4 too. Port 0 is any free port, so it is never taken.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (a_ip, b_ip) = (a.ip(), b.ip());
    let covers = |wide: std::net::IpAddr, other: std::net::IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4())
    };
    a.port() == b.port()
        && a.port() != 0
        && (a_ip == b_ip || covers(a_ip, b_ip) || covers(b_ip, a_ip))
}
