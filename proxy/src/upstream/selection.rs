//! The endpoints that may be picked now, and the policy over them. Rebuilt when membership, weights, health or
//! a breaker change, never per request, so that a pick does not depend on how many endpoints there are.
//!
//! Endpoints stand in stages: the near ones, those farther away, further tiers. A request begins at one by the stages' shares, and
//! goes to the others if nobody there can take it. In panic, when too few endpoints are usable to bear the traffic, there is one stage with all that
//! are within reach.

mod build;
mod kept;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};

use balance::{Candidates, Picker, SlowStart, hash};
use resilience::breaker::Breaker;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::attempt::Guard;
use super::endpoint::Endpoint;

pub(crate) use build::Setting;
pub(crate) use kept::Kept;

/// Endpoints that must not take this call any more.
pub type Tried = SmallVec<[Arc<Endpoint>; 2]>;

/// The lots that requests draw for a stage.
const LOTS: u64 = 1 << 32;
/// Keeps what a key says about the stage apart from what it says about the endpoint.
const STAGE: u64 = 0x5374_6167_6521;

/// Counts the picks of one cluster, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Turns(AtomicU64);

/// The endpoints of a cluster that requests may go to.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The most preferred first.
    stages: Box<[Stage]>,
    /// Up to which lot requests begin at the first stages; none begins beyond them. Empty: all begin at the first.
    cuts: Box<[u64]>,
    most_requests: usize,
    /// Endpoints left out because their breakers reject.
    rejecting: Vec<Arc<Endpoint>>,
    /// When the first of these lets a probe pass: then it is time for another selection.
    stale_from: Option<Instant>,
    /// Somebody makes it.
    replaced: AtomicBool,
    panics: bool,
    slow: Option<SlowStart>,
    /// Nobody in the subset is usable: these are all the others.
    fell_back: bool,
}

/// Endpoints that are as good as each other.
#[derive(Debug)]
struct Stage {
    candidates: Vec<Candidate>,
    picker: Picker,
    /// Requests in flight at its endpoints, where the policy bounds them.
    total: Option<Arc<AtomicUsize>>,
    near: Option<Near>,
}

#[derive(Debug)]
struct Candidate {
    endpoint: Arc<Endpoint>,
    breaker: Option<Arc<Breaker>>,
    /// Since when its weight grows.
    began: Option<Instant>,
}

/// Where an endpoint is, seen from the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Near {
    /// As near as the cluster wants it.
    Local,
    /// Farther away.
    Spilled,
}

/// An endpoint for a try.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) guard: Option<Guard>,
    /// Where it counts as in flight beside its endpoint.
    pub(crate) total: Option<Arc<AtomicUsize>>,
    /// Where it is, if the cluster cares.
    pub(crate) near: Option<Near>,
}

/// Why nothing was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPick {
    /// Nothing usable is left.
    NoneUsable,
    /// What is usable and untried has reached its own limit of requests.
    AllFull,
    /// What is usable and untried is rejected by its breakers.
    AllRejected,
}

struct View<'a> {
    selection: &'a Selection,
    stage: &'a Stage,
    tried: &'a Tried,
    /// Candidates whose last place for a probe somebody else got.
    missed: SmallVec<[usize; 2]>,
    slow: Option<SlowStart>,
    now: Instant,
}

/// What was found where nothing was picked.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    untried: bool,
    admitted: bool,
}

// === impl Selection ===

impl Selection {
    /// Whether too few endpoints are usable, so that all within reach are used.
    pub(crate) fn panics(&self) -> bool {
        self.panics
    }

    /// Those that may be picked.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let candidates = self.stages.iter().flat_map(|stage| &stage.candidates);
        candidates.map(|candidate| &candidate.endpoint)
    }

    /// Whether it stands in for a subset in which nobody is usable.
    pub(crate) fn fell_back(&self) -> bool {
        self.fell_back
    }

    /// Whose weights grow.
    pub(crate) fn slow_start(&self) -> Option<SlowStart> {
        self.slow
    }

    /// Endpoints that it leaves out because their breakers reject.
    pub(crate) fn rejecting(&self) -> &[Arc<Endpoint>] {
        &self.rejecting
    }

    /// True once, for the one who has to make another selection, when a breaker has something to say.
    pub(crate) fn is_to_be_replaced(&self, now: Instant) -> bool {
        self.stale_from.is_some_and(|stale| now >= stale) && !self.replaced.swap(true, AcqRel)
    }

    /// An endpoint for a request, but none of `tried`; `key` is the hash of what it is sticky by.
    pub(crate) fn pick(
        &self,
        tried: &Tried,
        key: Option<u64>,
        turns: &Turns,
        now: Instant,
    ) -> Result<Picked, NoPick> {
        let mut random = fastrand::Rng::new();
        let first = self.first(key, &mut random);
        let others = (0..self.stages.len()).filter(|other| *other != first);
        let mut found = Found::default();
        for stage in self
            .stages
            .get(first)
            .into_iter()
            .chain(others.map(|at| &self.stages[at]))
        {
            let mut view = View {
                selection: self,
                stage,
                tried,
                missed: SmallVec::new(),
                slow: self.slow.filter(|slow| slow.is_on(now)),
                now,
            };
            match view.pick(key, turns, &mut random) {
                Some(picked) => return Ok(picked),
                None => view.look(&mut found),
            }
        }
        Err(match found {
            Found { untried: false, .. } if self.rejecting.is_empty() => NoPick::NoneUsable,
            Found {
                admitted: false, ..
            } => NoPick::AllRejected,
            Found { .. } => NoPick::AllFull,
        })
    }

    /// The stage at which a request begins; one with a key always at the same, as long as the shares are.
    fn first(&self, key: Option<u64>, random: &mut fastrand::Rng) -> usize {
        if self.cuts.is_empty() {
            return 0;
        }
        let lot = match key {
            Some(key) => hash::mixed(key ^ STAGE) % LOTS,
            None => random.u64(..LOTS),
        };
        let at = self.cuts.iter().position(|cut| lot < *cut);
        at.unwrap_or(self.cuts.len() - 1)
    }
}

// === impl View ===

impl View<'_> {
    fn pick(
        &mut self,
        key: Option<u64>,
        turns: &Turns,
        random: &mut fastrand::Rng,
    ) -> Option<Picked> {
        let mut any = random.fork();
        let first_try = self.tried.is_empty();
        // If a further try took a turn too, two endpoints of which one fails would take turns at being the
        // second: the one that fails would be asked first every time.
        let mut turn = || match first_try {
            true => turns.0.fetch_add(1, Relaxed),
            false => any.u32(..).into(),
        };
        loop {
            let index = self.stage.picker.pick(self, random, &mut turn, key)?;
            let Candidate {
                endpoint, breaker, ..
            } = &self.stage.candidates[index];
            let guard = match breaker {
                None => None,
                Some(breaker) => match endpoint.admit(breaker, self.now) {
                    None => {
                        self.missed.push(index);
                        continue;
                    }
                    admitted => admitted,
                },
            };
            return Some(Picked {
                endpoint: Arc::clone(endpoint),
                guard,
                total: self.stage.total.clone(),
                near: self.stage.near,
            });
        }
    }

    /// Notes what there would have been.
    fn look(&self, found: &mut Found) {
        for (index, candidate) in self.stage.candidates.iter().enumerate() {
            if !is_tried(self.tried, &candidate.endpoint) {
                found.untried = true;
                found.admitted |= !self.rejected(index);
            }
        }
    }

    fn rejected(&self, index: usize) -> bool {
        let breaker = &self.stage.candidates[index].breaker;
        breaker
            .as_ref()
            .is_some_and(|breaker| !breaker.would_admit(self.now) || self.missed.contains(&index))
    }
}

fn is_tried(tried: &Tried, endpoint: &Arc<Endpoint>) -> bool {
    tried.iter().any(|other| Arc::ptr_eq(other, endpoint))
}

impl Candidates for View<'_> {
    fn in_flight(&self, index: usize) -> usize {
        self.stage.candidates[index].endpoint.load.in_flight()
    }

    fn cost(&self, index: usize) -> f64 {
        let weight = self.stage.picker.weight(index);
        let endpoint = &self.stage.candidates[index].endpoint;
        endpoint.load.cost(self.now, weight)
    }

    fn excluded(&self, index: usize) -> bool {
        let endpoint = &self.stage.candidates[index].endpoint;
        is_tried(self.tried, endpoint)
            || self.rejected(index)
            || (self.selection.most_requests != usize::MAX
                && endpoint.load.in_flight() >= self.selection.most_requests)
    }

    fn grows(&self) -> bool {
        self.slow.is_some()
    }

    fn part(&self, index: usize) -> f64 {
        let began = self.stage.candidates[index].began;
        self.slow.map_or(1.0, |slow| slow.relative(began, self.now))
    }

    fn total(&self) -> usize {
        self.stage
            .total
            .as_ref()
            .map_or(0, |total| total.load(Relaxed))
    }
}

#[cfg(test)]
mod tests;
