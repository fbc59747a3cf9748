//! What sections say about each other: clusters and profiles that routes name, protocols that fit, addresses
//! that exclude each other.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::model::{ByteSize, ClusterName, ProfileName, Protocol};
use crate::reader::Value;
use crate::report::Report;
use crate::section::{cluster, listener, profile, route};
use crate::suggest;

/// What routes may name.
pub(crate) struct Known<'a> {
    /// `None`: there are no clusters to check against, which has been reported.
    clusters: Option<HashMap<&'a ClusterName, Option<Protocol>>>,
    profiles: &'a BTreeMap<ProfileName, serde_json::Value>,
    /// The largest body that any listener lets in; `None`: not known, as something is wrong with a listener.
    widest_body: Option<ByteSize>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(
        clusters: &'a [cluster::Declared],
        profiles: &'a BTreeMap<ProfileName, serde_json::Value>,
        listeners: &[listener::Declared],
    ) -> Self {
        let by_name = || {
            clusters
                .iter()
                .map(|cluster| (&cluster.name, cluster.protocol))
                .collect()
        };
        let bodies = listeners
            .iter()
            .map(|listener| listener.limits.map(|limits| limits.max_body));
        let bodies: Option<Vec<ByteSize>> = bodies.collect();
        Self {
            clusters: (!clusters.is_empty()).then(by_name),
            profiles,
            widest_body: bodies.and_then(|bodies| bodies.into_iter().max()),
        }
    }

    /// Checks what a route says of clusters, profiles and listeners.
    pub(crate) fn check(&self, route: &route::Declared<'_>, report: &mut Report) {
        for (value, name) in &route.clusters {
            self.cluster(value, name, route.transcode.is_some(), report);
        }
        self.profile(route, report);
        self.body(route, report);
    }

    /// What names a cluster. Requests of a transcoded route may go to any: one that speaks HTTP gets them as they
    /// are. To others gRPC is unknown.
    fn cluster(
        &self,
        value: &Value<'_>,
        name: &ClusterName,
        transcoded: bool,
        report: &mut Report,
    ) {
        let Some(clusters) = &self.clusters else {
            return;
        };
        let Some(protocol) = clusters.get(name) else {
            // Sorted, so that the same mistake always reads the same.
            let mut names: Vec<&str> = clusters.keys().map(|name| name.as_str()).collect();
            names.sort_unstable();
            let suggestion = suggest::did_you_mean(name.as_str(), names.iter().copied());
            let known = suggest::list(names);
            let why = format!("there is no cluster `{name}`{suggestion} (clusters: {known})");
            return value.problem(report, why);
        };
        if !transcoded && *protocol == Some(Protocol::Grpc) {
            let why = format!(
                "cluster `{name}` has protocol grpc: add `transcode` with its services, or use a cluster of protocol \
                 http1 or http2 (to pass gRPC through is not in this version)"
            );
            value.problem(report, why);
        }
    }

    fn profile(&self, route: &route::Declared<'_>, report: &mut Report) {
        let Some(name) = route
            .transcode
            .as_ref()
            .and_then(|transcode| transcode.profile.as_ref())
        else {
            return;
        };
        if profile::BUILTIN.contains(&name.as_str()) || self.profiles.contains_key(name) {
            return;
        }
        let known = || {
            profile::BUILTIN
                .into_iter()
                .chain(self.profiles.keys().map(ProfileName::as_str))
        };
        let suggestion = suggest::did_you_mean(name.as_str(), known());
        let known = suggest::list(known());
        let why = format!("there is no profile `{name}`{suggestion} (profiles: {known})");
        route.value.problem_below(report, "transcode.profile", why);
    }

    /// Only what is written can be wrong: a small door may well stand before the default.
    fn body(&self, route: &route::Declared<'_>, report: &mut Report) {
        let written = route
            .transcode
            .as_ref()
            .and_then(|transcode| transcode.max_body);
        if let (Some(written), Some(widest)) = (written, self.widest_body)
            && written > widest
        {
            let why = format!(
                "no listener lets more than {widest} in: raise `listeners[].limits.max_body` too"
            );
            route.value.problem_below(report, "transcode.max_body", why);
        }
    }
}

/// Checks that no two of the listeners and the admin port want the same address.
pub(crate) fn addresses(
    listeners: &[listener::Declared],
    admin: Option<SocketAddr>,
    line: &dyn Fn(&str) -> u32,
    report: &mut Report,
) {
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    let listeners = listeners
        .iter()
        .enumerate()
        .filter_map(|(index, listener)| {
            listener
                .address
                .map(|address| (address, format!("listeners[{index}].address")))
        });
    let admin = admin.map(|address| (address, "admin.address".to_owned()));
    for (address, path) in listeners.chain(admin) {
        if report.is_full() {
            return;
        }
        if let Some((_, first)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
            let why = format!("{address} is taken by {first}: choose another port");
            report.add(line(&path), &path, why);
        } else {
            taken.push((address, path));
        }
    }
}

/// Whether both cannot be bound at once. A wildcard takes its port on all addresses of its family, and `[::]`
/// those of IPv4 too. Port 0 is any free port, so it is never taken.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers =
        |wide: IpAddr, other: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    let (a_ip, b_ip) = (a.ip(), b.ip());
    let same = a_ip == b_ip || covers(a_ip, b_ip) || covers(b_ip, a_ip);
    a.port() == b.port() && a.port() != 0 && same
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn addresses_that_cannot_both_be_bound_overlap() {
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (a, b) = (a.parse().expect(a), b.parse().expect(b));
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }
}
