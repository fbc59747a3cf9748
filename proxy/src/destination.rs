//! Where the requests of a route go: the one place where a cluster is chosen for a request, in both lanes.
//!
//! ```text
//! switched by hand? -> selected for the canary? -> its side of the split -> and if that cannot take it: fallback
//! ```
//!
//! The choice is made once a request and is a number, so that it costs no reference count; the clusters
//! themselves stay with the table that the request keeps. Refused: a second opinion on the way.

mod canary;
mod fallback;
mod shared;
mod states;
mod sticky;
mod switch;
mod tell;
mod verdicts;

use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::{self, Protocol, Route, Subset};
use resilience::canary::Side;
use resilience::split::Split;

pub(crate) use shared::SharedKey;
pub(crate) use states::{State, States};
pub(crate) use switch::OpenError;
pub(crate) use switch::{SwitchError, Switched, Switches, read};
pub(crate) use tell::{CanaryNow, lines};

use self::canary::Trial;
use self::fallback::{Counts, Unusable};
use self::sticky::Sticky;
use crate::edge::Head;
use crate::entries::{Chain, Slot};
use crate::upstream::{Aim, CallError, Cluster};

/// The clusters of a configuration, in its order.
pub(crate) type Clusters = Arc<[Arc<Cluster>]>;

/// What is read of Consul's config entries about them, in the same order.
pub(crate) type Slots = Arc<[Option<Slot>]>;

/// The destinations of one route.
#[derive(Debug, Default)]
pub(crate) struct Destination {
    clusters: Clusters,
    /// What Consul's config entries make of `clusters`; absent where none of them reads any.
    slots: Option<Slots>,
    /// Which of `clusters` requests go to, and their weights.
    sides: Box<[(usize, u32)]>,
    /// Absent where there is one side.
    split: Option<Split>,
    sticky: Option<Sticky>,
    /// Which endpoints of which of `clusters` are asked, where that is not all.
    subsets: Box<[(usize, Arc<Subset>)]>,
    canary: Option<Canary>,
    fallback: Box<[(usize, Arc<Counts>)]>,
    /// Whether a hand may send its requests to clusters that speak gRPC.
    transcodes: bool,
    state: Arc<State>,
}

/// The canary of a route.
#[derive(Debug)]
struct Canary {
    cluster: usize,
    trial: Arc<Trial>,
}

/// The cluster that a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    cluster: usize,
    why: Why,
    /// The hash of what the request is sticky by, if it has that.
    key: Option<u64>,
    /// Which was to be asked before all fallbacks.
    first: usize,
    /// How many fallbacks have been considered.
    fallen: usize,
}

/// Why it goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// There is nothing else.
    Only,
    /// Somebody said so by hand.
    Switch,
    /// A condition of the canary holds.
    Selected,
    /// It fell to that side of the split.
    Split,
    /// The one before could not take it.
    Fallback,
}

impl Chosen {
    /// For requests that do not leave the gateway.
    pub(crate) const NOWHERE: Self = Self::first(usize::MAX, Why::Only, None);

    const fn first(cluster: usize, why: Why, key: Option<u64>) -> Self {
        Self {
            cluster,
            why,
            key,
            first: cluster,
            fallen: 0,
        }
    }
}

impl Destination {
    /// What a route says, among the clusters of its configuration, with what is known of it from before.
    pub(crate) fn new(
        route: &Route,
        clusters: &Clusters,
        slots: &Slots,
        state: Arc<State>,
    ) -> Self {
        let find = |name: &model::ClusterName| {
            let named = |cluster: &Arc<Cluster>| **cluster.name() == *name.as_str();
            clusters.iter().position(named)
        };
        let canary = route.canary.as_ref().and_then(|canary| {
            Some(Canary {
                cluster: find(&canary.cluster)?,
                trial: state.trial(&route.name, canary),
            })
        });
        let sides: Box<[(usize, u32)]> = weights(route)
            .into_iter()
            .filter_map(|(name, weight)| Some((find(name)?, weight)))
            .collect();
        let subset = |(index, _): &(usize, u32)| {
            let on_trial = canary
                .as_ref()
                .is_some_and(|canary| canary.cluster == *index);
            let wanted = route.subset.as_ref().filter(|_| !on_trial)?;
            Some((*index, clusters[*index].subset(wanted)))
        };
        let subsets = sides.iter().filter_map(subset).collect();
        let named = sides
            .iter()
            .map(|(index, weight)| (&**clusters[*index].name(), *weight));
        Self {
            split: (sides.len() > 1).then(|| Split::new(named).ok()).flatten(),
            sides,
            sticky: route.hash_on.clone().map(Sticky::new),
            subsets,
            canary,
            fallback: route
                .fallback
                .iter()
                .filter_map(find)
                .map(|index| (index, state.fallbacks.counts_of(clusters[index].name())))
                .collect(),
            transcodes: route.transcode().is_some(),
            clusters: clusters.clone(),
            slots: slots.iter().any(Option::is_some).then(|| slots.clone()),
            state,
        }
    }

    /// Where requests go when nothing says otherwise; none if they do not leave the gateway.
    pub(crate) fn primary(&self) -> Option<&Arc<Cluster>> {
        self.clusters.get(self.sides.first()?.0)
    }

    /// Where this request goes. `variable`: the path's, if that is what the split is sticky by.
    pub(crate) fn choose(&self, head: &Head, variable: Option<&str>) -> Chosen {
        let sticky = self.sticky.as_ref();
        let key = sticky.and_then(|sticky| sticky.point(head, variable));
        let chosen = |cluster, why| Chosen::first(cluster, why, key);
        if let Some(cluster) = self.switched() {
            return chosen(cluster, Why::Switch);
        }
        let canary = self.canary.as_ref();
        if let Some(canary) = canary.filter(|canary| canary.trial.wants(head)) {
            return chosen(canary.cluster, Why::Selected);
        }
        let Some(split) = &self.split else {
            return self
                .sides
                .first()
                .map_or(Chosen::NOWHERE, |(only, _)| chosen(*only, Why::Only));
        };
        let point = key.unwrap_or_else(|| fastrand::u64(..));
        let out = canary.filter(|canary| canary.trial.is_over());
        let may = |side: usize| out.is_none_or(|out| self.sides[side].0 != out.cluster);
        let side = split.pick_among(point, may);
        // All the weight was the canary's: the others take its place.
        let side = side.or_else(|| (0..self.sides.len()).find(|side| may(*side)));
        chosen(self.sides[side.unwrap_or_default()].0, Why::Split)
    }

    /// The cluster that was chosen.
    pub(crate) fn cluster(&self, chosen: Chosen) -> Option<&Arc<Cluster>> {
        self.clusters.get(chosen.cluster)
    }

    /// What Consul's config entries say of the chosen cluster.
    pub(crate) fn chain(&self, chosen: Chosen) -> Option<Arc<Chain>> {
        let slot = self.slots.as_ref()?.get(chosen.cluster)?;
        slot.as_ref()?.load_full()
    }

    /// What a request wants of the endpoints of a cluster.
    pub(crate) fn aim(&self, chosen: Chosen, cluster: &Arc<Cluster>) -> Aim<'_> {
        let mut subsets = self.subsets.iter();
        let subset = subsets.find(|(index, _)| Arc::ptr_eq(&self.clusters[*index], cluster));
        Aim {
            key: chosen.key,
            subset: subset.map(|(_, subset)| subset),
        }
    }

    /// Where a request goes whose cluster could not take it; none if a backend may have executed it, or if
    /// there is nothing left. It counts, and tells when requests begin to fall back.
    pub(crate) fn fall_back(&self, from: Chosen, error: &CallError) -> Option<Chosen> {
        let why = Unusable::of(error)?;
        let mut left = self.fallback.iter().enumerate().skip(from.fallen);
        let (at, (cluster, counts)) = left.find(|(_, (cluster, _))| *cluster != from.first)?;
        let name = self.clusters[*cluster].name();
        let state = &self.state;
        state
            .fallbacks
            .fell(&state.route, (name, counts), (why, error));
        Some(Chosen {
            cluster: *cluster,
            why: Why::Fallback,
            key: from.key,
            first: from.first,
            fallen: at + 1,
        })
    }

    /// Whether there is another cluster for what the chosen one cannot take.
    pub(crate) fn has_fallback(&self) -> bool {
        !self.fallback.is_empty()
    }

    /// A request was taken by the cluster that it was to go to.
    pub(crate) fn taken(&self, chosen: Chosen) {
        if chosen.why != Why::Fallback && !self.fallback.is_empty() {
            self.state.fallbacks.not_needed(&self.state.route);
        }
    }

    /// The variable of the path that the split is sticky by.
    pub(crate) fn variable(&self) -> Option<&str> {
        self.sticky.as_ref()?.variable()
    }

    /// Judges the canary by what became of a request. `failed`: by the server's fault.
    pub(crate) fn observe(&self, chosen: Chosen, failed: bool, latency: Duration) {
        let Some(canary) = &self.canary else {
            return;
        };
        let side = if chosen.cluster == canary.cluster {
            Side::Canary
        } else {
            Side::Sibling
        };
        canary.trial.record(side, failed, latency);
    }

    /// Whether [`Self::observe`] does anything: who does not measure need not read the clock.
    pub(crate) fn is_judged(&self) -> bool {
        let judged = |canary: &Canary| !canary.trial.is_over();
        self.canary.as_ref().is_some_and(judged)
    }

    /// Where a hand has switched the route to, if there is such a cluster.
    fn switched(&self) -> Option<usize> {
        let name = self.state.switch.get()?;
        self.switchable(&name)
    }

    /// The names of the clusters that it can be switched to.
    fn switchables(&self) -> impl Iterator<Item = &str> {
        let names = self.clusters.iter().map(|cluster| &**cluster.name());
        names.filter(|name| self.switchable(name).is_some())
    }

    /// A cluster that requests of this route can go to.
    fn switchable(&self, name: &str) -> Option<usize> {
        let index = self
            .clusters
            .iter()
            .position(|cluster| **cluster.name() == *name)?;
        let fits = self.transcodes || self.clusters[index].protocol() != Protocol::Grpc;
        (fits && !self.sides.is_empty()).then_some(index)
    }
}

/// The clusters among which a route's requests are shared out. A canary that has a share of its own is the last.
fn weights(route: &Route) -> Vec<(&model::ClusterName, u32)> {
    let sides = route.destinations.iter();
    let mut sides: Vec<_> = sides.map(|side| (&side.cluster, side.weight)).collect();
    if let Some(canary) = &route.canary
        && let Some(share) = canary.share
    {
        for (_, weight) in &mut sides {
            *weight = model::Share::ALL.millionths() - share.millionths();
        }
        sides.push((&canary.cluster, share.millionths()));
    }
    sides
}
