//! Makes the selections of a cluster anew and puts them in force: one for all endpoints, and one for each subset that a route asks.
//!
//! One thread does it at a time; who comes meanwhile leaves it a note and goes on, so that no request waits for a selection. Where it costs
//! more than a few microseconds (many endpoints, hash tables), it is never done on a thread that serves requests: the one in force goes on until then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use std::sync::atomic::{Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use mesh_config::model::{Locality, Place, Subset};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::selection::{Kept, Near, Selection, Setting};

/// Selections of more endpoints are made beside the requests.
const MANY: usize = 64;

/// What requests are picked from.
#[derive(Debug)]
pub(super) struct Selections {
    all: Selection,
    subsets: Vec<(Weak<Subset>, Selection)>,
    costly: bool,
}

/// Who makes them, and of what.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// Held while they are made.
    making: Mutex<Kept>,
    /// Those in force are not the latest.
    stale: AtomicBool,
    /// The subsets that routes ask, as long as they do.
    subsets: Mutex<Vec<Weak<Subset>>>,
    /// Where the gateway is, as far as discovery knows.
    place: ArcSwap<Place>,
    picks: [Picks; 2],
}

/// Counts picks, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Picks(AtomicU64);

// === impl Selections ===

impl Selections {
    /// Of no endpoints.
    pub(super) fn none(setting: &Setting<'_>) -> Self {
        Self {
            all: Selection::new(&[], setting, &mut Kept::default()),
            subsets: Vec::new(),
            costly: false,
        }
    }

    /// All endpoints.
    pub(super) fn all(&self) -> &Selection {
        &self.all
    }

    /// Everybody who may be picked, by whatever route.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let subsets = self.subsets.iter().map(|(_, selection)| selection);
        let all = std::iter::once(&self.all).chain(subsets);
        all.flat_map(Selection::endpoints).cloned().collect()
    }

    /// Those that a route asks. `None`: nobody has told the cluster of that subset.
    pub(super) fn of(&self, subset: Option<&Arc<Subset>>) -> Option<&Selection> {
        let Some(subset) = subset else {
            return Some(&self.all);
        };
        let is_it = |(known, _): &&(Weak<Subset>, Selection)| known.as_ptr() == Arc::as_ptr(subset);
        self.subsets
            .iter()
            .find(is_it)
            .map(|(_, selection)| selection)
    }
}

// === impl Publisher ===

impl Publisher {
    pub(super) fn picked(&self, near: Near) {
        self.picks[usize::from(near == Near::Spilled)]
            .0
            .fetch_add(1, Relaxed);
    }
}

// === impl Cluster ===

impl Cluster {
    /// Picks that stayed near the gateway, and picks that did not. None where the cluster does not care.
    #[must_use]
    pub fn picks(&self) -> (u64, u64) {
        let [local, spilled] = &self.publisher.picks;
        (local.0.load(Relaxed), spilled.0.load(Relaxed))
    }

    /// Whether it prefers endpoints near the gateway.
    pub(crate) fn prefers_near(&self) -> bool {
        self.config().load_balancing.locality != Locality::Anywhere
    }

    /// Where the gateway is, by its configuration or else by discovery, if the cluster prefers what is near.
    pub(super) fn place(&self) -> Option<Place> {
        let config = self.config();
        let cares = config.load_balancing.locality != Locality::Anywhere;
        cares.then(|| config.place.or(&self.publisher.place.load()))
    }

    /// The subset as this cluster knows it: its selection is made now and kept as long as somebody holds what is returned.
    pub(crate) fn subset(&self, wanted: &Subset) -> Arc<Subset> {
        let mut known = self.publisher.subsets.lock();
        known.retain(|subset| subset.strong_count() > 0);
        let same = known
            .iter()
            .filter_map(Weak::upgrade)
            .find(|subset| **subset == *wanted);
        if let Some(same) = same {
            return same;
        }
        let subset = Arc::new(wanted.clone());
        known.push(Arc::downgrade(&subset));
        drop(known);
        self.publish();
        subset
    }

    /// Discovery has found out where the gateway is.
    pub(crate) fn place_found(&self, place: &Place) {
        if **self.publisher.place.load() != *place {
            self.publisher.place.store(Arc::new(place.clone()));
            self.reselect();
        }
    }

    /// The health of an endpoint has changed, or a breaker has something to say.
    pub(crate) fn reselect(&self) {
        let pending = self.publisher.stale.swap(true, AcqRel);
        if !self.selections.load().costly {
            return self.publish_if_stale();
        }
        // Who has left the note before sees to it.
        if let Some(cluster) = self.downgraded().upgrade().filter(|_| !pending) {
            let runtime = &self.control().runtime;
            runtime.spawn_blocking(move || cluster.publish_if_stale());
        }
    }

    /// Puts selections of the members as they are now in force before it returns.
    pub(super) fn publish(&self) {
        self.publisher.stale.store(true, Release);
        let mut kept = self.publisher.making.lock();
        while self.publisher.stale.swap(false, AcqRel) {
            self.make(&mut kept);
        }
        drop(kept);
        self.publish_if_stale();
    }

    pub(super) fn publish_if_stale(&self) {
        while self.publisher.stale.load(Acquire) {
            // Whoever makes one looks again when it is done.
            let Some(mut kept) = self.publisher.making.try_lock() else {
                return;
            };
            while self.publisher.stale.swap(false, AcqRel) {
                self.make(&mut kept);
            }
        }
    }

    /// As if somebody was making selections until what is returned is dropped.
    #[cfg(test)]
    pub(super) fn hold_publishing(&self) -> parking_lot::MutexGuard<'_, Kept> {
        self.publisher.making.lock()
    }

    fn make(&self, kept: &mut Kept) {
        let (members, now) = (self.members(), Instant::now());
        let config = self.config();
        members.iter().for_each(|one| one.note_use(now));
        let place = config.place.or(&self.publisher.place.load());
        let setting = |subset| Setting {
            config: &config,
            place: &place,
            subset,
            now,
        };
        kept.begin();
        let all = Selection::new(&members, &setting(None), kept);
        let wanted = self.publisher.subsets.lock().clone();
        let wanted: Vec<Arc<Subset>> = wanted.iter().filter_map(Weak::upgrade).collect();
        let subsets = wanted.iter().map(|subset| {
            let selection = Selection::new(&members, &setting(Some(subset)), kept);
            (Arc::downgrade(subset), selection)
        });
        let selections = Selections {
            subsets: subsets.collect(),
            all,
            costly: members.len() > MANY || config.load_balancing.policy.is_by_key(),
        };
        kept.end();
        let selections = Arc::new(selections);
        let before = self.selections.swap(Arc::clone(&selections));
        for endpoint in before
            .all
            .rejecting()
            .iter()
            .filter(|one| !one.circuit.rejects(now))
        {
            // By what is known of it, it would hardly be picked, and get no probe for long.
            endpoint.load.forget();
        }
        self.tell(&before, &selections, &members);
        self.changed.notify_one();
        self.trim_later();
    }

    /// Says what has changed for the cluster as a whole.
    fn tell(&self, before: &Selections, after: &Selections, members: &[Arc<Endpoint>]) {
        let (cluster, of) = (&**self.name(), members.len());
        let usable = || members.iter().filter(|one| one.health.is_usable()).count();
        match (before.all.panics(), after.all.panics()) {
            (false, true) => tracing::warn!(
                cluster,
                usable = usable(),
                of,
                "panic: too few endpoints are usable, all within reach take requests"
            ),
            (true, false) => tracing::info!(
                cluster,
                usable = usable(),
                of,
                "no panic any more: only usable endpoints take requests"
            ),
            _ => {}
        }
        for (subset, now) in &after.subsets {
            let Some(subset) = subset.upgrade() else {
                continue;
            };
            let before = before.of(Some(&subset)).is_some_and(Selection::fell_back);
            match (before, now.fell_back()) {
                (false, true) => {
                    tracing::warn!(cluster, %subset, "no endpoint of a subset is usable: all stand in for it");
                }
                (true, false) => {
                    tracing::info!(cluster, %subset, "a subset has usable endpoints again")
                }
                _ => {}
            }
        }
    }
}
