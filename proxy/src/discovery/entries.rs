//! Reads the config entries of the service behind a cluster: watches those that the plan comes upon, compiles them anew at each change,
//! makes the parts of the cluster, and puts the chain into the cluster's slot when all of them have endpoints to go by.
//!
//! Entries that do not compile leave the chain as it was; entries that are gone leave the cluster to itself.

mod kept;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use consul::{Client, EntryKind, EntryQuery, ServiceQuery, Watch};
use mesh_config::model::{self, Asked, ConsulEndpoints, Timeout};
use serde_json::Value;
use service_kit::ReadinessGuard;
use service_kit::consul::ConsulMetrics;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::kept::Kept;
use super::catalogue;
use super::disk::Disk;
use super::follower::Follower;
use super::measured::Measured;
use crate::entries::{Chain, Known, Place, Plan, SharedReport, Slot, Target, compile};
use crate::upstream::{Cluster, Upstreams};

/// How long a new part of a cluster may take to have endpoints before requests are sent there all the same.
const FIRST_ENDPOINTS: Duration = Duration::from_secs(2);
/// Changes that nobody has looked at yet.
const PENDING: usize = 16;

type Key = (EntryKind, String);

/// What is needed to follow anything.
pub(super) struct Means {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) client: Client,
    pub(super) data: Option<PathBuf>,
    pub(super) metrics: ConsulMetrics,
    pub(super) runtime: Handle,
}

/// Who reads the entries, before it runs.
pub(super) struct Chaining {
    means: Means,
    cluster: Arc<Cluster>,
    /// What the cluster itself asks for.
    query: ServiceQuery,
    datacenters: Vec<Option<String>>,
    warning: bool,
    slot: Slot,
    report: SharedReport,
    known: Known,
    kept: Option<Kept>,
    /// What is on disk.
    saved: Known,
    watched: BTreeMap<Key, Watched>,
    parts: BTreeMap<String, Part>,
    again: Arc<Notify>,
}

/// The same from outside; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Chained {
    task: AbortHandle,
    /// True once the first chain, or none, is in force.
    pub(super) known: watch::Receiver<bool>,
    again: Arc<Notify>,
}

/// An entry that is watched.
#[derive(Debug)]
struct Watched {
    task: AbortHandle,
    _measured: Measured,
}

/// A part of the cluster, with who follows its instances.
#[derive(Debug)]
struct Part {
    tiers: Vec<(ServiceQuery, bool)>,
    task: AbortHandle,
    known: watch::Receiver<bool>,
    _measured: Measured,
}

impl Chained {
    /// The configuration of the cluster has changed.
    pub(super) fn again(&self) {
        self.again.notify_one();
    }
}

impl Drop for Chained {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Chaining {
    /// `None`: a prepared query has no entries.
    pub(super) fn new(
        means: Means,
        asked: ConsulEndpoints,
        cluster: &Arc<Cluster>,
        (slot, report): (Slot, SharedReport),
    ) -> Option<Self> {
        let watched = asked.asked.watched();
        let datacenters = watched.into_iter().map(|query| query.datacenter).collect();
        let Asked::Service { query, .. } = asked.asked else {
            return None;
        };
        let kept = means.data.as_ref().map(|data| {
            let from = format!("{} at {}", query.service, means.client.address());
            Kept::new(data, cluster.name(), from)
        });
        let saved = kept.as_ref().map(Kept::load).unwrap_or_default();
        Some(Self {
            means,
            cluster: Arc::clone(cluster),
            query,
            datacenters,
            warning: asked.warning,
            slot,
            report,
            known: saved.clone(),
            kept,
            saved,
            watched: BTreeMap::new(),
            parts: BTreeMap::new(),
            again: Arc::default(),
        })
    }

    pub(super) fn start(self, guard: ReadinessGuard) -> Chained {
        let (known, receiver) = watch::channel(false);
        let (again, runtime) = (self.again.clone(), self.means.runtime.clone());
        let task = runtime.spawn(self.run(known, guard));
        Chained {
            task: task.abort_handle(),
            known: receiver,
            again,
        }
    }

    async fn run(mut self, known: watch::Sender<bool>, guard: ReadinessGuard) {
        let mut first = Some((known, guard));
        let (tell, mut told) = mpsc::channel(PENDING);
        let again = self.again.clone();
        loop {
            let compiled = compile(&self.query.service, &self.known);
            self.watch(compiled.asked.iter(), &tell);
            if compiled
                .asked
                .iter()
                .all(|key| self.known.contains_key(key))
            {
                self.tell_unsupported(compiled.unsupported);
                match compiled.plan {
                    Ok(plan) => {
                        self.put_in_force(plan).await;
                        self.save().await;
                    }
                    Err(problems) => self.refuse(problems),
                }
                if let Some((known, _guard)) = first.take() {
                    known.send_replace(true);
                }
            }
            tokio::select! {
                Some((key, entry)) = told.recv() => {
                    self.known.insert(key, entry);
                    // What changes together is compiled together.
                    while let Ok((key, entry)) = told.try_recv() {
                        self.known.insert(key, entry);
                    }
                }
                () = again.notified() => {}
            }
        }
    }

    /// Watches these entries and no others.
    fn watch<'k>(
        &mut self,
        asked: impl Iterator<Item = &'k Key> + Clone,
        tell: &mpsc::Sender<(Key, Option<Value>)>,
    ) {
        let wanted = |key: &Key| asked.clone().any(|known| known == key);
        self.watched.retain(|key, _| wanted(key));
        self.known.retain(|key, _| wanted(key));
        for key in asked.clone() {
            if self.watched.contains_key(key) {
                continue;
            }
            let query = EntryQuery {
                kind: key.0,
                service: key.1.clone(),
                namespace: self.query.namespace.clone(),
                partition: self.query.partition.clone(),
            };
            let mut measured = Measured::new(self.means.metrics.clone());
            let name = format!("{query} of cluster {}", self.cluster.name());
            let mut watch = Watch::new(self.means.client.clone(), query);
            measured.add(name, watch.status());
            let (tell, of) = (tell.clone(), key.clone());
            let task = self.means.runtime.spawn(async move {
                loop {
                    let seen = watch.next().await;
                    if tell.send((of.clone(), seen.value)).await.is_err() {
                        return;
                    }
                }
            });
            let watched = Watched {
                task: task.abort_handle(),
                _measured: measured,
            };
            self.watched.insert(key.clone(), watched);
        }
    }

    /// Makes the parts, waits for their endpoints, and sends requests there.
    async fn put_in_force(&mut self, plan: Plan) {
        let lines = plan.lines();
        let name = Arc::clone(self.cluster.name());
        if plan.is_trivial(&self.query.service) {
            self.slot.store(None);
            self.parts.clear();
            self.means.upstreams.set_parts(&name, &[]);
            self.tell_in_force(Vec::new());
            return;
        }
        let config = self.cluster.config();
        let service = self.query.service.clone();
        let parted = plan
            .targets
            .iter()
            .filter(|target| !target.is_plain(&service));
        let wanted: BTreeMap<String, &Target> =
            parted.map(|target| (target.label(), target)).collect();
        let configs = |label: &String| {
            let target = wanted.get(label);
            let config = target.map_or_else(|| Arc::clone(&config), |one| part(&config, one));
            (label.clone(), config)
        };
        // Those of before are there until requests go elsewhere.
        let before = self
            .parts
            .keys()
            .filter(|label| !wanted.contains_key(*label));
        let all: Vec<_> = wanted.keys().chain(before).map(configs).collect();
        let made = self.means.upstreams.set_parts(&name, &all);
        for (label, cluster) in wanted.keys().zip(&made) {
            let tiers = wanted.get(label).map(|target| self.tiers(target));
            self.follow(label, cluster, tiers.unwrap_or_default());
        }
        self.first_endpoints(&wanted).await;
        let of = |target: &Target| {
            let at = wanted.keys().position(|label| *label == target.label());
            let part = at.filter(|_| !target.is_plain(&service));
            part.and_then(|at| made.get(at))
                .unwrap_or(&self.cluster)
                .clone()
        };
        let clusters = plan.targets.iter().map(of).collect();
        let stay: Vec<_> = wanted.keys().map(configs).collect();
        let labels: Vec<String> = wanted.keys().cloned().collect();
        self.slot.store(Some(Arc::new(Chain::new(plan, clusters))));
        self.parts.retain(|label, _| labels.contains(label));
        self.means.upstreams.set_parts(&name, &stay);
        self.tell_in_force(lines);
    }

    /// Keeps what is in force, if it is not on disk already.
    async fn save(&mut self) {
        let Some(kept) = self.kept.clone().filter(|_| self.saved != self.known) else {
            return;
        };
        self.saved = self.known.clone();
        let known = self.known.clone();
        // It cannot panic; a runtime that ends need not wait for it.
        let _ = tokio::task::spawn_blocking(move || kept.save(&known)).await;
    }

    /// Follows the instances of a part, unless somebody does already.
    fn follow(&mut self, label: &str, cluster: &Arc<Cluster>, tiers: Vec<(ServiceQuery, bool)>) {
        let known = self.parts.get(label);
        if known.is_some_and(|known| known.tiers == tiers) {
            return;
        }
        self.parts.remove(label);
        let Means {
            upstreams,
            client,
            data,
            metrics,
            runtime,
        } = &self.means;
        let (source, measured) =
            catalogue::watch_services(cluster.name(), &tiers, client, metrics, runtime);
        let disk = data.as_ref().map(|data| {
            let file = cluster.name().replace('/', "~");
            Disk::new(data, &file, format!("{tiers:?}, at {}", client.address()))
        });
        let (known, receiver) = watch::channel(false);
        let follower = Follower::new(Arc::clone(cluster), source, disk, Arc::default());
        let task = runtime.spawn(follower.run(upstreams.clone(), known, None));
        let part = Part {
            tiers,
            task: task.abort_handle(),
            known: receiver,
            _measured: measured,
        };
        self.parts.insert(label.to_owned(), part);
    }

    async fn first_endpoints(&self, wanted: &BTreeMap<String, &Target>) {
        let parts = self.parts.iter();
        let parts = parts.filter(|(label, _)| wanted.contains_key(*label));
        let known: Vec<_> = parts.map(|(_, part)| part.known.clone()).collect();
        let all = async {
            for mut one in known {
                // The sender lives in a task that does not end.
                let _ = one.wait_for(|known| *known).await;
            }
        };
        let _ = timeout(FIRST_ENDPOINTS, all).await;
    }

    /// What is asked for a target, the preferred place first. Where none is named, the cluster's own datacenters are meant.
    fn tiers(&self, target: &Target) -> Vec<(ServiceQuery, bool)> {
        let mut tiers = Vec::new();
        for place in &target.places {
            let warning = self.warning && !place.only_passing;
            let named = [place.datacenter.clone()];
            let datacenters = match place.datacenter {
                Some(_) => &named[..],
                None => &self.datacenters,
            };
            for datacenter in datacenters {
                let tier = (self.query(place, datacenter.clone()), warning);
                if !tiers.contains(&tier) {
                    tiers.push(tier);
                }
            }
        }
        tiers
    }

    /// Tags, node metadata and filter of the cluster are about its own service.
    fn query(&self, place: &Place, datacenter: Option<String>) -> ServiceQuery {
        let own = place.service == self.query.service;
        let base = if own {
            self.query.clone()
        } else {
            ServiceQuery {
                namespace: self.query.namespace.clone(),
                partition: self.query.partition.clone(),
                max_stale: self.query.max_stale,
                ..ServiceQuery::default()
            }
        };
        let filter = match (base.filter.clone(), place.filter.clone()) {
            (Some(one), Some(other)) => Some(format!("({one}) and ({other})")),
            (one, other) => one.or(other),
        };
        ServiceQuery {
            service: place.service.clone(),
            datacenter,
            filter,
            ..base
        }
    }

    fn refuse(&self, problems: Vec<String>) {
        let mut report = self.report.lock();
        if report.problems == problems {
            return;
        }
        let (cluster, why) = (&**self.cluster.name(), problems.join("; "));
        let instead = match self.slot.load().is_some() {
            true => "those before stay in force",
            false => "none are in force",
        };
        tracing::warn!(
            cluster,
            why,
            instead,
            "the config entries cannot be followed"
        );
        report.problems = problems;
    }

    fn tell_in_force(&self, lines: Vec<String>) {
        let mut report = self.report.lock();
        report.problems = Vec::new();
        if report.in_force == lines {
            return;
        }
        let (cluster, now) = (&**self.cluster.name(), lines.join("; "));
        match lines.is_empty() {
            true => tracing::info!(cluster, "no config entries are in force any more"),
            false => tracing::info!(cluster, now, "config entries in force"),
        }
        report.in_force = lines;
    }

    fn tell_unsupported(&self, unsupported: Vec<String>) {
        let mut report = self.report.lock();
        if report.unsupported != unsupported && !unsupported.is_empty() {
            let (cluster, what) = (&**self.cluster.name(), unsupported.join("; "));
            tracing::warn!(
                cluster,
                what,
                "this of the config entries is not supported, and has no effect"
            );
        }
        report.unsupported = unsupported;
    }
}

/// The configuration of a part: that of the cluster, but for what a resolver says.
fn part(cluster: &model::Cluster, target: &Target) -> Arc<model::Cluster> {
    let mut config = cluster.clone();
    if let Some(timeout) = target.connect_timeout.and_then(Timeout::new) {
        config.connect_timeout = timeout;
    }
    target.balancing.apply(&mut config.load_balancing);
    Arc::new(config)
}
