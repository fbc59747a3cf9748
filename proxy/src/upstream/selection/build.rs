//! Makes a selection: who is in it, and in which stages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use balance::{Level, Picker, Policy, SlowStart, shares};
use mesh_config::model::{self as config, BalancingPolicy, Locality, Place, Subset};
use resilience::breaker::State;
use tokio::time::Instant;

use super::super::endpoint::Endpoint;
use super::super::health::Cause;
use super::super::subset;
use super::kept::{Group, Kept};
use super::{Candidate, LOTS, Near, Selection, Stage};

/// The distance of endpoints where nobody cares about it.
const ANYWHERE: u8 = u8::MAX;
/// The tier of all tiers together.
const ALL_TIERS: u32 = u32::MAX;

/// What a selection is made by.
pub(crate) struct Setting<'a> {
    pub(crate) config: &'a config::Cluster,
    /// Where the gateway is.
    pub(crate) place: &'a Place,
    pub(crate) subset: Option<&'a Arc<Subset>>,
    pub(crate) now: Instant,
}

type Members<'m> = Vec<&'m Arc<Endpoint>>;

/// Endpoints that are tried in order of preference.
struct Tiers<'m> {
    tiers: Vec<(u32, Members<'m>)>,
    panics: bool,
}

/// What comes together while stages are made.
struct Building<'b, 's> {
    setting: &'b Setting<'s>,
    kept: &'b mut Kept,
    panics: bool,
    /// Nobody is usable: those that are only new take requests.
    in_need: bool,
    rejecting: Vec<Arc<Endpoint>>,
    stale_from: Option<Instant>,
}

impl Selection {
    pub(crate) fn new(members: &[Arc<Endpoint>], setting: &Setting<'_>, kept: &mut Kept) -> Self {
        let (members, fell_back) = within(members, setting.subset);
        let Tiers { tiers, panics } = Tiers::of(&members, setting.config.panic_threshold.ratio());
        let mut building = Building {
            setting,
            kept,
            panics,
            in_need: count_usable(&members) == 0,
            rejecting: Vec::new(),
            stale_from: None,
        };
        let (mut stages, mut cuts) = (Vec::new(), Vec::new());
        for (tier, members) in &tiers {
            match stages.is_empty() && !panics {
                true => (stages, cuts) = building.levels(*tier, members),
                false => stages.extend(building.stage((*tier, ANYWHERE), members)),
            }
        }
        let config = setting.config;
        let slow = config.slow_start.and_then(|window| {
            let all = stages.iter().flat_map(|stage: &Stage| &stage.candidates);
            SlowStart::of(window.get(), all.map(|one| one.began), setting.now)
        });
        let most_requests = config.limits.per_endpoint.requests;
        Self {
            cuts: match cuts.len() {
                0 | 1 => Box::default(),
                _ => cuts.into(),
            },
            stages: stages.into(),
            most_requests: most_requests.map_or(usize::MAX, std::num::NonZeroUsize::get),
            rejecting: building.rejecting,
            stale_from: building.stale_from,
            replaced: AtomicBool::new(false),
            panics,
            slow,
            fell_back,
        }
    }
}

/// The endpoints of a subset, and whether all stand in for it.
fn within<'m>(members: &'m [Arc<Endpoint>], subset: Option<&Arc<Subset>>) -> (Members<'m>, bool) {
    let Some(subset) = subset else {
        return (members.iter().collect(), false);
    };
    let some = members.iter().filter(|one| subset.has(&one.labels()));
    let some: Members<'m> = some.collect();
    match subset.or_any && count_usable(&some) == 0 {
        true => (members.iter().collect(), true),
        false => (some, false),
    }
}

fn count_usable(members: &[&Arc<Endpoint>]) -> usize {
    let usable = members.iter().filter(|one| one.health.is_usable());
    usable.count()
}

// === impl Tiers ===

impl<'m> Tiers<'m> {
    /// The tier that takes the requests, then the others; or all as one, where no tier has enough usable endpoints.
    fn of(members: &Members<'m>, threshold: f64) -> Self {
        let anybody = count_usable(members) > 0;
        // Who does not pass its checks in discovery, or is only about to join, is no part of it as long as anybody
        // is usable.
        let counts = |one: &&&Arc<Endpoint>| {
            let health = &one.health;
            !anybody || !(health.has(Cause::NotPassing) || health.has(Cause::Joining))
        };
        let members: Members<'m> = members.iter().filter(counts).copied().collect();
        let mut by_priority: BTreeMap<u32, Members<'m>> = BTreeMap::new();
        for one in &members {
            let priority = one.labels().priority;
            by_priority.entry(priority).or_default().push(one);
        }
        let enough = |members: &Members<'m>| {
            let usable = count_usable(members);
            usable > 0 && usable as f64 >= threshold * members.len() as f64
        };
        let several = by_priority.len() > 1;
        let mut tiers: Vec<_> = by_priority.into_iter().collect();
        let best = tiers.iter().position(|(_, members)| enough(members));
        if let Some(best) = best.filter(|_| several) {
            let best = tiers.remove(best);
            tiers.insert(0, best);
            return Self {
                tiers,
                panics: false,
            };
        }
        let usable = count_usable(&members);
        let within_reach = members.iter().filter(|one| one.health.is_within_reach());
        let too_few = (usable as f64) < threshold * members.len() as f64;
        Self {
            panics: too_few && within_reach.count() > usable,
            tiers: vec![(if several { ALL_TIERS } else { 0 }, members)],
        }
    }
}

// === impl Building ===

impl Building<'_, '_> {
    /// The stages of the tier that takes the requests, by distance, and up to which lot they begin there.
    fn levels(&mut self, tier: u32, members: &[&Arc<Endpoint>]) -> (Vec<Stage>, Vec<u64>) {
        let locality = self.setting.config.load_balancing.locality;
        let place = self.setting.place;
        if locality == Locality::Anywhere || !place.is_enough_for(locality) {
            let stage = self.stage((tier, ANYWHERE), members);
            return (stage.into_iter().collect(), Vec::new());
        }
        let mut by_distance: BTreeMap<u8, Vec<&Arc<Endpoint>>> = BTreeMap::new();
        for one in members {
            let distance = place.distance(&one.labels(), locality);
            by_distance.entry(distance).or_default().push(one);
        }
        let stages: Vec<(Level, Option<Stage>)> = by_distance
            .iter()
            .map(|(distance, members)| {
                let mut stage = self.stage((tier, *distance), members);
                if let Some(stage) = &mut stage {
                    stage.near = Some(near(*distance, locality));
                }
                let known = members.iter().map(|one| f64::from(one.weight())).sum();
                let usable = stage.as_ref().map_or(0.0, Stage::weight);
                (Level { usable, known }, stage)
            })
            .collect();
        let levels: Vec<Level> = stages.iter().map(|(level, _)| *level).collect();
        let mut sum = 0.0;
        let (mut left, mut cuts) = (Vec::new(), Vec::new());
        for ((_, stage), share) in stages.into_iter().zip(shares(&levels)) {
            sum += share;
            if let Some(stage) = stage {
                left.push(stage);
                cuts.push((sum * LOTS as f64) as u64);
            }
        }
        (left, cuts)
    }

    /// Those of the endpoints that may be picked; nothing if there are none.
    fn stage(&mut self, (tier, distance): (u32, u8), members: &[&Arc<Endpoint>]) -> Option<Stage> {
        let found = members.iter().enumerate();
        let found = found.filter_map(|(owner, one)| Some((owner, self.candidate(one)?)));
        let mut found: Vec<(usize, Candidate)> = found.collect();
        let most = self.setting.config.load_balancing.connections.max_endpoints;
        subset::keep_first(&mut found, most, |(_, one)| one.endpoint.rank());
        let mut places = vec![None; members.len()];
        for (place, (owner, _)) in (0u32..).zip(&found) {
            places[*owner] = Some(place);
        }
        let candidates: Vec<Candidate> = found.into_iter().map(|(_, one)| one).collect();
        let weights: Vec<u32> = candidates.iter().map(|one| one.endpoint.weight()).collect();
        let subset = self
            .setting
            .subset
            .map_or(0, |subset| Arc::as_ptr(subset) as usize);
        let group: Group = (subset, tier, distance);
        let rules = self.setting.config.load_balancing;
        let (picker, total) = match competing(rules.policy) {
            Some(policy) => {
                let picker = Picker::new(policy, &weights);
                (picker.comparing(rules.choices), None)
            }
            None => {
                let table = self.kept.table(group, members, rules);
                let factor = rules.bounded_load.map(|share| share.ratio());
                let total = factor.map(|_| self.kept.total(group));
                (Picker::hashed(table, places, factor, &weights), total)
            }
        };
        (!candidates.is_empty()).then_some(Stage {
            candidates,
            picker,
            total,
            near: None,
        })
    }

    /// An endpoint that may be picked.
    fn candidate(&mut self, endpoint: &Arc<Endpoint>) -> Option<Candidate> {
        let health = &endpoint.health;
        let in_need =
            self.panics && health.is_within_reach() || self.in_need && health.is_only_new();
        if !(health.is_usable() || in_need) {
            return None;
        }
        let now = self.setting.now;
        let breaker = endpoint.circuit.breaker();
        if let Some(breaker) = breaker
            .as_ref()
            .filter(|one| one.state(now) == State::Reject)
        {
            let opens = now + breaker.opens_in(now);
            self.stale_from = Some(self.stale_from.map_or(opens, |known| known.min(opens)));
            self.rejecting.push(Arc::clone(endpoint));
            return None;
        }
        Some(Candidate {
            endpoint: Arc::clone(endpoint),
            breaker,
            began: endpoint.usable_since(),
        })
    }
}

impl Stage {
    fn weight(&self) -> f64 {
        let weights = self.candidates.iter().map(|one| one.endpoint.weight());
        weights.map(f64::from).sum()
    }
}

fn near(distance: u8, locality: Locality) -> Near {
    match (locality, distance) {
        (Locality::Node, 0) | (Locality::Zone, 1) => Near::Local,
        _ => Near::Spilled,
    }
}

/// The policy where endpoints compete; none where a table decides.
fn competing(policy: BalancingPolicy) -> Option<Policy> {
    match policy {
        BalancingPolicy::P2c => Some(Policy::P2c),
        BalancingPolicy::RoundRobin => Some(Policy::RoundRobin),
        BalancingPolicy::Random => Some(Policy::Random),
        BalancingPolicy::LeastRequest => Some(Policy::LeastRequest),
        BalancingPolicy::RingHash | BalancingPolicy::Maglev => None,
    }
}
