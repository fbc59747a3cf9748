//! Who belongs to a cluster: from the file or from discovery. Endpoints whose address and protocol stay keep what is known of them;
//! who leaves finishes what is in flight. Done by one thread at a time, beside requests: they see the one selection or the next.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mesh_config::model::{self as config, Address, Endpoints, Labels};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Upstreams;
use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::health::Cause;
use super::resolve;

/// An instance that discovery has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub address: Address,
    /// Its share of the traffic.
    pub weight: u32,
    /// What is known of it beside that.
    pub labels: Arc<Labels>,
    /// It takes requests although discovery has lost it: why.
    pub held: Option<String>,
    /// It takes none: why.
    pub out: Option<String>,
    /// Somebody wants it to take none: not even a panic sends any.
    pub on_purpose: bool,
}

/// A member of a cluster, as it is to be.
struct Wanted<'a> {
    address: &'a Address,
    weight: u32,
    labels: Arc<Labels>,
    held: Option<String>,
    /// Its checks do not pass: why.
    out: Option<String>,
}

impl<'a> Wanted<'a> {
    fn passing(address: &'a Address, weight: u32, labels: Arc<Labels>) -> Self {
        Self {
            address,
            weight,
            labels,
            held: None,
            out: None,
        }
    }
}

impl Upstreams {
    /// Makes the endpoints of a cluster be these; no other cluster is touched.
    pub fn set_endpoints(&self, cluster: &Arc<Cluster>, found: &[Found]) {
        let _one_at_a_time = self.applying.lock();
        cluster.set_endpoints(found, &self.runtime);
        drop(_one_at_a_time);
        self.look_at_new();
    }
}

fn usable<'a>(endpoints: impl Iterator<Item = &'a Arc<Endpoint>>) -> usize {
    endpoints.filter(|one| one.health.is_usable()).count()
}

impl Cluster {
    /// Something about the health of its endpoints has changed.
    pub(crate) fn endpoints_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// The addresses that take no connections.
    pub(crate) fn refusing(&self) -> BTreeSet<Address> {
        let members = self.members();
        let refusing = members.iter().filter(|member| member.is_unreachable());
        refusing.map(|member| member.address().clone()).collect()
    }

    /// Those that discovery knows and that take no requests.
    pub(crate) fn left_out(&self) -> Arc<Vec<Found>> {
        self.left_out.load_full()
    }

    /// What the configuration says of its endpoints. Those that discovery has found stay as they are.
    pub(super) fn apply_members(self: &Arc<Self>, config: &config::Cluster, runtime: &Handle) {
        match &config.endpoints {
            Endpoints::Static(wanted) => {
                self.left_out.store(Arc::default());
                let wanted = wanted.iter().map(|one| {
                    Wanted::passing(&one.address, one.weight.get(), Arc::clone(&one.labels))
                });
                self.replace(wanted, config, runtime);
            }
            Endpoints::Consul(_) | Endpoints::Dns(_) => {
                let members = self.members();
                let known = members.iter().map(|one| Wanted {
                    held: one.held(),
                    out: one.health.text(Cause::NotPassing),
                    ..Wanted::passing(one.address(), one.weight(), one.labels())
                });
                self.replace(known, config, runtime);
            }
        }
    }

    fn set_endpoints(self: &Arc<Self>, found: &[Found], runtime: &Handle) {
        // Those that nobody has taken out on purpose are there for a time when no other is usable.
        let (members, out): (Vec<&Found>, Vec<&Found>) = found
            .iter()
            .partition(|one| one.out.is_none() || !one.on_purpose);
        self.left_out
            .store(Arc::new(out.into_iter().cloned().collect()));
        let wanted = members.into_iter().map(|one| Wanted {
            address: &one.address,
            weight: one.weight,
            labels: Arc::clone(&one.labels),
            held: one.held.clone(),
            out: one.out.clone(),
        });
        self.replace(wanted, &self.config(), runtime);
    }

    fn replace<'a>(
        self: &Arc<Self>,
        wanted: impl Iterator<Item = Wanted<'a>>,
        config: &config::Cluster,
        runtime: &Handle,
    ) {
        let mut members = self.members.lock();
        let mut before: HashMap<Address, Arc<Endpoint>> = std::mem::take(&mut *members)
            .into_iter()
            .map(|endpoint| (endpoint.address().clone(), endpoint))
            .collect();
        let mut retired = Vec::new();
        let usable_before = usable(before.values());
        let mut new = Vec::new();
        for one in wanted {
            let (endpoint, known) = match before.remove(one.address) {
                Some(known) if known.protocol() == config.protocol => (known, true),
                other => {
                    retired.extend(other);
                    let endpoint = self.new_endpoint(one.address, config.protocol, runtime);
                    new.push(Arc::clone(&endpoint));
                    (endpoint, false)
                }
            };
            endpoint.set_weight(one.weight);
            endpoint.set_labels(one.labels);
            endpoint.set_held(one.held);
            match one.out {
                Some(why) => endpoint.health.state(Cause::NotPassing, why),
                None => endpoint.health.withdraw(Cause::NotPassing),
            };
            endpoint.circuit.set(config.breaker.as_ref());
            endpoint.set_checks(config.health_check.as_ref(), known, self);
            members.push(endpoint);
        }
        let left = usable(members.iter()) - usable(new.iter());
        // Those that are left bear what all did until the new ones are ready, if they can.
        let enough = config.panic_threshold.ratio() * usable_before as f64;
        if left > 0 && left as f64 >= enough {
            new.iter()
                .for_each(|endpoint| endpoint.is_to_wait(self, config));
        }
        drop(members);
        new.iter().for_each(|endpoint| self.take_in(endpoint));
        self.publish();
        retired.extend(before.into_values());
        retired.iter().for_each(|endpoint| endpoint.retire());
    }

    fn new_endpoint(
        self: &Arc<Self>,
        address: &Address,
        protocol: config::Protocol,
        runtime: &Handle,
    ) -> Arc<Endpoint> {
        let endpoint = Endpoint::new(self, address, protocol, self.workers);
        if address.socket_addr().is_none() {
            resolve::keep_resolved(&endpoint, runtime);
        }
        endpoint
    }
}
