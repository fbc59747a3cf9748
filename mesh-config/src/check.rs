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
    clusters: Option<HashMap<&'a ClusterName, &'a cluster::Declared>>,
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
                .map(|cluster| (&cluster.name, cluster))
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
            self.cluster(value, name, report);
        }
        if route.transcode.is_none() {
            self.passed(route, report);
        }
        self.hash(route, report);
        self.profile(route, report);
        self.body(route, report);
    }

    /// What names a cluster.
    fn cluster(&self, value: &Value<'_>, name: &ClusterName, report: &mut Report) {
        let Some(clusters) = &self.clusters else {
            return;
        };
        if !clusters.contains_key(name) {
            // Sorted, so that the same mistake always reads the same.
            let mut names: Vec<&str> = clusters.keys().map(|name| name.as_str()).collect();
            names.sort_unstable();
            let suggestion = suggest::did_you_mean(name.as_str(), names.iter().copied());
            let known = suggest::list(names);
            let why = format!("there is no cluster `{name}`{suggestion} (clusters: {known})");
            value.problem(report, why);
        }
    }

    /// Requests of a transcoded route may go to any cluster: one that speaks HTTP gets them as they are. Requests that are passed on
    /// are either gRPC or not, whichever of the route's clusters takes them.
    fn passed(&self, route: &route::Declared<'_>, report: &mut Report) {
        let protocol = |name: &ClusterName| self.clusters.as_ref()?.get(name)?.protocol;
        let mut known = route
            .clusters
            .iter()
            .filter_map(|(value, name)| Some((value, name, protocol(name)? == Protocol::Grpc)));
        let Some((_, first, is_grpc)) = known.next() else {
            return;
        };
        for (value, name, _) in known.filter(|(.., other)| *other != is_grpc) {
            let (this, that) = if is_grpc {
                (first, name)
            } else {
                (name, first)
            };
            let why = format!(
                "cluster `{this}` has protocol grpc and `{that}` has not: a route without `transcode` passes requests \
                 on as they are, so all of its clusters have to speak gRPC, or none"
            );
            value.problem(report, why);
        }
        let whole = route.route.as_ref().filter(|_| is_grpc);
        if whole.is_some_and(|route| route.mirror.is_some()) {
            let why = "calls of gRPC that are passed through cannot be mirrored in this version: remove it, or add `transcode`";
            route.value.problem_below(report, "mirror", why);
        }
        if whole.is_some_and(|route| route.rewrite.is_some()) {
            let why = "paths of gRPC are names of methods, which are not rewritten: remove it";
            route.value.problem_below(report, "rewrite", why);
        }
    }

    /// What makes requests sticky does nothing where nothing goes by it.
    fn hash(&self, route: &route::Declared<'_>, report: &mut Report) {
        let Some(clusters) = self.clusters.as_ref().filter(|_| route.hash_needs_policy) else {
            return;
        };
        let goes_by_it = |(_, name): &(Value<'_>, ClusterName)| {
            // Of what is not known, the best is thought.
            let known = clusters.get(name).and_then(|known| known.cluster.as_ref());
            known.is_none_or(|cluster| cluster.load_balancing.policy.is_by_key())
        };
        if !route.clusters.iter().any(goes_by_it) {
            let why = "nothing goes by it: it makes `weighted` and `canary.share` sticky, and balancing in clusters whose \
                       policy is ring_hash or maglev";
            route.value.problem_below(report, "hash_on", why);
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
