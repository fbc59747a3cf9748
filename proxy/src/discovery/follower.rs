//! Follows one cluster's source: from what it says of each tier to the endpoints of the cluster, with a line in the log for every one
//! that comes or goes, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::Address;
use service_kit::ReadinessGuard;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::disk::Disk;
use super::holding::{Holding, Known, List, Listed};
use super::source::{Source, Update};
use crate::upstream::{Cluster, Found, Upstreams};

/// A service that changes all the time is written to disk no more often than this.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// So many endpoints have lines of their own in the log when they change together.
const LINES: usize = 10;
/// How long a tier that has not answered yet is waited for, when another one has.
const OTHER_TIERS: Duration = Duration::from_millis(500);

/// Follows one cluster's source.
pub(super) struct Follower {
    cluster: Arc<Cluster>,
    source: Source,
    /// Who is in each tier, as far as that is believed.
    tiers: Vec<Holding>,
    disk: Option<Disk>,
    /// When what is on disk differs from what is known: when to write it.
    save_at: Option<Instant>,
    /// Somebody asks for the endpoints to be applied again.
    again: Arc<Notify>,
    /// What was applied last, for the log.
    applied: BTreeMap<Address, Known>,
}

/// Those who wait for the first endpoints.
struct First {
    waiting: Option<(watch::Sender<bool>, Option<ReadinessGuard>)>,
    /// Tiers that have not answered yet.
    missing: BTreeSet<usize>,
    /// When they are waited for no longer.
    until: Option<Instant>,
}

impl Follower {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        source: Source,
        disk: Option<Disk>,
        again: Arc<Notify>,
    ) -> Self {
        let tiers = (0..source.tiers()).map(|_| Holding::default()).collect();
        Self {
            cluster,
            source,
            tiers,
            disk,
            save_at: None,
            again,
            applied: BTreeMap::new(),
        }
    }

    /// Never ends by itself. `known` and `guard`, if there is one, are told when the cluster has endpoints to go by.
    pub(super) async fn run(
        mut self,
        upstreams: Arc<Upstreams>,
        known: watch::Sender<bool>,
        guard: Option<ReadinessGuard>,
    ) {
        let mut first = First::new(known, guard, self.tiers.len());
        if self.start_from_disk() {
            self.apply(&upstreams, "kept on disk");
            first.told();
        }
        let changed = self.cluster.endpoints_changed();
        let name = self.source.name;
        loop {
            let holds = self.tiers.iter().any(Holding::holds_any);
            let next_end = self.tiers.iter().filter_map(Holding::next_end).min();
            tokio::select! {
                Some(update) = self.source.next() => {
                    first.answered(update.tier);
                    self.take(update);
                    self.apply(&upstreams, name);
                    first.told_if_all();
                }
                () = until(first.until) => first.told(),
                () = until(next_end) => {
                    let now = Instant::now();
                    let gone = self.give_up(|tier| tier.expire(now));
                    self.tell_given_up(&gone, "held back for long enough");
                    self.apply(&upstreams, "no longer held back");
                }
                () = changed.notified(), if holds => {
                    let refusing = self.cluster.refusing();
                    let gone = self.give_up(|tier| tier.refused(&refusing));
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
        let mut lists = vec![List::new(); self.tiers.len()];
        let last = lists.len().saturating_sub(1);
        for (address, known) in kept {
            let tier = usize::try_from(known.labels.priority).unwrap_or(last);
            if let Some(list) = lists.get_mut(tier.min(last)) {
                list.insert(address, Listed { known, out: None });
            }
        }
        for (tier, list) in self.tiers.iter_mut().zip(lists) {
            tier.update(list, true, 0.0, Instant::now());
        }
        true
    }

    fn take(&mut self, update: Update) {
        let Some(tier) = self.tiers.get_mut(update.tier) else {
            return;
        };
        let threshold = self.cluster.config().panic_threshold.ratio();
        let outcome = tier.update(update.list, update.believed, threshold, Instant::now());
        if !outcome.held.is_empty() {
            let (cluster, source) = (&**self.cluster.name(), self.source.name);
            let (left, of) = outcome.left;
            let held = outcome.held.len();
            tracing::warn!(
                cluster,
                source,
                held,
                left,
                of,
                "too many instances vanished at once and unexplained: held back"
            );
            let gone = tier.refused(&self.cluster.refusing());
            self.tell_given_up(&gone, "refuses connections");
        }
    }

    fn give_up(&mut self, one: impl Fn(&mut Holding) -> Vec<Address>) -> Vec<Address> {
        self.tiers.iter_mut().flat_map(one).collect()
    }

    /// Makes what is known the endpoints of the cluster. Who is in several tiers is in the first of them in which it is usable.
    fn apply(&mut self, upstreams: &Upstreams, cause: &str) {
        let now = Instant::now();
        let mut found: Vec<Found> = Vec::new();
        let mut usable: BTreeMap<Address, Known> = BTreeMap::new();
        for tier in &self.tiers {
            for (address, known) in tier.usable() {
                if usable.contains_key(address) {
                    continue;
                }
                usable.insert(address.clone(), known.clone());
                found.push(Found {
                    address: address.clone(),
                    weight: known.weight,
                    labels: Arc::clone(&known.labels),
                    held: self.why_held(tier, address, now),
                    out: None,
                    on_purpose: false,
                });
            }
        }
        let mut left_out = BTreeSet::new();
        for (address, known, out) in self.tiers.iter().flat_map(Holding::left_out) {
            if usable.contains_key(address) || !left_out.insert(address) {
                continue;
            }
            found.push(Found {
                address: address.clone(),
                weight: known.weight,
                labels: Arc::clone(&known.labels),
                held: None,
                out: Some(out.why.clone()),
                on_purpose: out.on_purpose,
            });
        }
        upstreams.set_endpoints(&self.cluster, &found);
        self.tell(&usable, cause);
        let holds = self.tiers.iter().any(Holding::holds_any);
        // An empty list is nothing to start from: the last that was not is kept.
        if usable != self.applied && !usable.is_empty() && !holds {
            self.save_at = Some(self.save_at.unwrap_or(now + SAVE_EVERY));
        }
        self.applied = usable;
    }

    fn why_held(&self, tier: &Holding, address: &Address, now: Instant) -> Option<String> {
        if !tier.is_held(address) {
            return None;
        }
        let source = self.source.name;
        Some(match tier.held_until(address) {
            Some(end) => {
                let left = end.saturating_duration_since(now).as_secs_f64().ceil();
                format!(
                    "held: it vanished from {source} with too many others, for {left} s at most"
                )
            }
            None => format!("held: {source} leaves it out for want of rights"),
        })
    }

    /// A line for every endpoint that came or went.
    fn tell(&self, usable: &BTreeMap<Address, Known>, cause: &str) {
        let cluster = &**self.cluster.name();
        let added = usable.iter();
        let added = added.filter(|(one, _)| !self.applied.contains_key(*one));
        let added: Vec<(&Address, &Known)> = added.collect();
        let removed = self.applied.keys().filter(|one| !usable.contains_key(*one));
        let removed: Vec<&Address> = removed.collect();
        for (endpoint, known) in added.iter().take(LINES) {
            let tier = known.labels.priority;
            tracing::info!(cluster, %endpoint, tier, cause, "an endpoint takes requests from now on");
        }
        for endpoint in removed.iter().take(LINES) {
            let why = self.why_removed(endpoint);
            tracing::info!(cluster, %endpoint, why, "an endpoint takes no requests any more");
        }
        if added.len().max(removed.len()) > LINES {
            let (added, removed) = (added.len(), removed.len());
            tracing::info!(cluster, added, removed, "many endpoints changed at once");
        }
    }

    fn why_removed(&self, endpoint: &Address) -> String {
        let mut left_out = self.tiers.iter().flat_map(Holding::left_out);
        let out = left_out.find(|(address, ..)| *address == endpoint);
        match out {
            Some((_, _, out)) => out.why.clone(),
            None => format!("not in {} any more", self.source.name),
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
        let list: Vec<(Address, Known)> = self.applied.clone().into_iter().collect();
        // It cannot panic; a runtime that ends need not wait for it.
        let _ = tokio::task::spawn_blocking(move || disk.save(&list)).await;
    }
}

impl First {
    fn new(known: watch::Sender<bool>, guard: Option<ReadinessGuard>, tiers: usize) -> Self {
        Self {
            waiting: Some((known, guard)),
            missing: (0..tiers).collect(),
            until: None,
        }
    }

    fn answered(&mut self, tier: usize) {
        self.missing.remove(&tier);
        if self.until.is_none() && self.waiting.is_some() {
            self.until = Some(Instant::now() + OTHER_TIERS);
        }
    }

    fn told_if_all(&mut self) {
        if self.missing.is_empty() {
            self.told();
        }
    }

    fn told(&mut self) {
        self.until = None;
        if let Some((known, _guard)) = self.waiting.take() {
            known.send_replace(true);
        }
    }
}

/// At that time, or never.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
