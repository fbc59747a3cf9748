//! Follows one service: from what Consul says to the endpoints of a cluster, with a line in the log for every one that comes or
//! goes, and why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consul::{Client, Health, Instance, Seen, StatusHandle, Watch};
use mesh_config::model::{Address, ConsulEndpoints};
use service_kit::ReadinessGuard;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::disk::Disk;
use super::holding::{Holding, List, Listed, Out};
use crate::upstream::{Cluster, Found, Upstreams};

/// A service that changes all the time is written to disk no more often than this.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// So many endpoints have lines of their own in the log when they change together.
const LINES: usize = 10;

/// Follows one service.
pub(super) struct Follower {
    cluster: Arc<Cluster>,
    endpoints: ConsulEndpoints,
    watch: Watch<consul::ServiceQuery>,
    holding: Holding,
    disk: Option<Disk>,
    /// When what is on disk differs from what is known: when to write it.
    save_at: Option<Instant>,
    /// Somebody asks for the endpoints to be applied again.
    again: Arc<Notify>,
    /// What was applied last, for the log.
    applied: BTreeMap<Address, u32>,
    /// Why the last answer was not believed.
    no_rights: bool,
}

impl Follower {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        endpoints: ConsulEndpoints,
        client: Client,
        disk: Option<Disk>,
        again: Arc<Notify>,
    ) -> Self {
        let watch = Watch::new(client, endpoints.query.clone());
        Self {
            cluster,
            endpoints,
            watch,
            holding: Holding::default(),
            disk,
            save_at: None,
            again,
            applied: BTreeMap::new(),
            no_rights: false,
        }
    }

    pub(super) fn status(&self) -> StatusHandle {
        self.watch.status()
    }

    /// Never ends by itself. `known` and `guard` are told when the cluster has endpoints to go by.
    pub(super) async fn run(
        mut self,
        upstreams: Arc<Upstreams>,
        known: watch::Sender<bool>,
        guard: ReadinessGuard,
    ) {
        // What waits for the first endpoints.
        let mut first = Some((known, guard));
        if self.start_from_disk() {
            self.apply(&upstreams, "kept on disk");
            told(first.take());
        }
        let changed = self.cluster.endpoints_changed();
        loop {
            let holds = self.holding.holds_any();
            tokio::select! {
                seen = self.watch.next() => {
                    self.take(seen);
                    self.apply(&upstreams, "Consul");
                    told(first.take());
                }
                () = until(self.holding.next_end()) => {
                    let gone = self.holding.expire(Instant::now());
                    self.tell_given_up(&gone, "held back for long enough");
                    self.apply(&upstreams, "no longer held back");
                }
                () = changed.notified(), if holds => {
                    let gone = self.holding.refused(&self.cluster.refusing());
                    if !gone.is_empty() {
                        self.tell_given_up(&gone, "refused a connection");
                        self.apply(&upstreams, "no longer held back");
                    }
                }
                () = self.again.notified() => self.apply(&upstreams, "configuration"),
                () = until(self.save_at) => self.save().await,
            }
        }
    }

    /// True if there was something to start from.
    fn start_from_disk(&mut self) -> bool {
        let Some(kept) = self.disk.as_ref().and_then(Disk::load) else {
            return false;
        };
        let cluster = &**self.cluster.name();
        let count = kept.len();
        tracing::info!(
            cluster,
            count,
            "starting with the endpoints that were kept on disk"
        );
        let listed = |weight| Listed { weight, out: None };
        let list = kept
            .into_iter()
            .map(|(address, weight)| (address, listed(weight)));
        self.holding
            .update(list.collect(), true, 0.0, Instant::now());
        true
    }

    fn take(&mut self, seen: Seen<consul::Instances>) {
        let cluster = &**self.cluster.name();
        let service = self.endpoints.query.service.as_str();
        if seen.value.unreachable > 0 {
            let count = seen.value.unreachable;
            tracing::warn!(
                cluster,
                service,
                count,
                "instances without an address or a port are left out"
            );
        }
        let list = self.list(seen.value.list);
        let no_rights = seen.meta.filtered && list.is_empty();
        if no_rights && !self.no_rights {
            tracing::warn!(
                cluster,
                service,
                "Consul leaves everything out for want of rights: the token lacks `service:read` on `{service}`, or `node:read`"
            );
        }
        self.no_rights = no_rights;
        let threshold = self.cluster.config().panic_threshold.ratio();
        let outcome = self
            .holding
            .update(list, !no_rights, threshold, Instant::now());
        if !outcome.held.is_empty() {
            let (left, of) = outcome.left;
            let held = outcome.held.len();
            tracing::warn!(
                cluster,
                service,
                held,
                left,
                of,
                "too many instances vanished at once and unexplained: held back"
            );
            let gone = self.holding.refused(&self.cluster.refusing());
            self.tell_given_up(&gone, "refuses connections");
        }
    }

    /// By address: instances that share one are one endpoint, as well as the best of them.
    fn list(&self, instances: Vec<Instance>) -> List {
        let mut list = List::new();
        for instance in instances {
            let Ok(address) = address(&instance) else {
                let cluster = &**self.cluster.name();
                let (id, host) = (instance.id.as_str(), instance.host.as_str());
                tracing::warn!(
                    cluster,
                    id,
                    host,
                    "an instance whose address cannot be one is left out"
                );
                continue;
            };
            let listed = self.listed(instance);
            let better = |known: &Listed| known.out.is_some() && listed.out.is_none();
            if list.get(&address).is_none_or(better) {
                list.insert(address, listed);
            }
        }
        list
    }

    fn listed(&self, instance: Instance) -> Listed {
        let weights = instance.weights;
        let out = |on_purpose, why: String| Some(Out { why, on_purpose });
        let (weight, out) = match instance.health {
            Health::Warning(_) if self.endpoints.warning && weights.warning == 0 => {
                (1, out(true, "its weight in Consul is 0".to_owned()))
            }
            Health::Warning(_) if self.endpoints.warning => (weights.warning, None),
            Health::Passing if weights.passing == 0 => {
                (1, out(true, "its weight in Consul is 0".to_owned()))
            }
            Health::Passing => (weights.passing, None),
            Health::Warning(why) => (
                weights.passing,
                out(false, format!("warning in Consul: {why}")),
            ),
            Health::Critical(why) => (
                weights.passing,
                out(false, format!("critical in Consul: {why}")),
            ),
            Health::Maintenance(why) => (
                weights.passing,
                out(true, format!("in maintenance in Consul: {why}")),
            ),
        };
        Listed {
            weight: weight.max(1),
            out,
        }
    }

    /// Makes what is known the endpoints of the cluster.
    fn apply(&mut self, upstreams: &Upstreams, cause: &str) {
        let now = Instant::now();
        let mut found: Vec<Found> = Vec::new();
        for (address, weight) in self.holding.usable() {
            let held = self
                .holding
                .is_held(&address)
                .then(|| self.why_held(&address, now));
            found.push(Found {
                address,
                weight,
                held,
                out: None,
                on_purpose: false,
            });
        }
        let usable: BTreeMap<Address, u32> = found
            .iter()
            .map(|one| (one.address.clone(), one.weight))
            .collect();
        found.extend(self.holding.left_out().map(|(address, weight, out)| Found {
            address: address.clone(),
            weight,
            held: None,
            out: Some(out.why.clone()),
            on_purpose: out.on_purpose,
        }));
        upstreams.set_endpoints(&self.cluster, &found);
        self.tell(&usable, cause);
        // An empty list is nothing to start from: the last that was not is kept.
        if usable != self.applied && !usable.is_empty() && !self.holding.holds_any() {
            self.save_at = Some(self.save_at.unwrap_or(now + SAVE_EVERY));
        }
        self.applied = usable;
    }

    fn why_held(&self, address: &Address, now: Instant) -> String {
        match self.holding.held_until(address) {
            Some(end) => {
                let left = end.saturating_duration_since(now).as_secs_f64().ceil();
                format!("held: it vanished from Consul with too many others, for {left} s at most")
            }
            None => "held: Consul leaves it out for want of rights".to_owned(),
        }
    }

    /// A line for every endpoint that came or went.
    fn tell(&self, usable: &BTreeMap<Address, u32>, cause: &str) {
        let cluster = &**self.cluster.name();
        let added = usable.keys().filter(|one| !self.applied.contains_key(*one));
        let added: Vec<&Address> = added.collect();
        let removed = self.applied.keys().filter(|one| !usable.contains_key(*one));
        let removed: Vec<&Address> = removed.collect();
        for endpoint in added.iter().take(LINES) {
            tracing::info!(cluster, %endpoint, cause, "an endpoint takes requests from now on");
        }
        let why = |endpoint: &Address| {
            let out = self
                .holding
                .left_out()
                .find(|(address, ..)| *address == endpoint);
            out.map_or("not in Consul any more", |(_, _, out)| out.why.as_str())
        };
        for endpoint in removed.iter().take(LINES) {
            tracing::info!(cluster, %endpoint, why = why(endpoint), "an endpoint takes no requests any more");
        }
        if added.len().max(removed.len()) > LINES {
            let (added, removed) = (added.len(), removed.len());
            tracing::info!(cluster, added, removed, "many endpoints changed at once");
        }
    }

    fn tell_given_up(&self, gone: &[Address], why: &str) {
        let cluster = &**self.cluster.name();
        for endpoint in gone.iter().take(LINES) {
            tracing::warn!(cluster, %endpoint, why, "an endpoint that was held back is given up");
        }
    }

    async fn save(&mut self) {
        self.save_at = None;
        let Some(disk) = self.disk.clone() else {
            return;
        };
        let list: Vec<(Address, u32)> = self
            .applied
            .iter()
            .map(|(address, weight)| (address.clone(), *weight))
            .collect();
        // It cannot panic; a runtime that ends need not wait for it.
        let _ = tokio::task::spawn_blocking(move || disk.save(&list)).await;
    }
}

fn address(instance: &Instance) -> Result<Address, String> {
    let Instance { host, port, .. } = instance;
    if host.contains(':') {
        Address::parse(&format!("[{host}]:{port}"))
    } else {
        Address::parse(&format!("{host}:{port}"))
    }
}

/// Tells whoever waits for the first endpoints that they are there.
fn told(first: Option<(watch::Sender<bool>, ReadinessGuard)>) {
    if let Some((known, _guard)) = first {
        known.send_replace(true);
    }
}

/// At that time, or never.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
