//! The endpoints that may be picked now, and the policy over them. Rebuilt when membership, weights, health or
//! a breaker change, never per request, so that a pick does not depend on how many endpoints there are.
//!
//! In panic, when too few endpoints are usable to bear the traffic, it holds all that are within reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};

use mesh_config::model as config;
use resilience::breaker::{Breaker, State};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::attempt::Guard;
use super::endpoint::Endpoint;
use super::health::Cause;
use super::pick::{Candidates, Picker};

/// Endpoints that must not take this call any more.
pub type Tried = SmallVec<[Arc<Endpoint>; 2]>;

/// Counts the picks of one cluster, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Turns(AtomicU64);

/// The endpoints of a cluster that requests may go to.
#[derive(Debug)]
pub(crate) struct Selection {
    candidates: Vec<Candidate>,
    picker: Picker,
    most_requests: usize,
    /// Endpoints left out because their breakers reject.
    rejecting: Vec<Arc<Endpoint>>,
    /// When the first of these lets a probe pass: then it is time for another selection.
    stale_from: Option<Instant>,
    /// Somebody makes it.
    replaced: AtomicBool,
    panics: bool,
}

#[derive(Debug)]
struct Candidate {
    endpoint: Arc<Endpoint>,
    breaker: Option<Arc<Breaker>>,
}

/// An endpoint for a try.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) guard: Option<Guard>,
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
    tried: &'a Tried,
    /// Candidates whose last place for a probe somebody else got.
    missed: SmallVec<[usize; 2]>,
    now: Instant,
}

// === impl Selection ===

impl Selection {
    pub(crate) fn new(members: &[Arc<Endpoint>], config: &config::Cluster, now: Instant) -> Self {
        let usable = members
            .iter()
            .filter(|member| member.health.is_usable())
            .count();
        // Who does not pass its checks is no part of it as long as anybody is usable.
        let counts = |member: &&Arc<Endpoint>| usable == 0 || !member.health.has(Cause::NotPassing);
        let members: Vec<&Arc<Endpoint>> = members.iter().filter(counts).collect();
        let within_reach = members
            .iter()
            .filter(|member| member.health.is_within_reach())
            .count();
        let too_few = (usable as f64) < config.panic_threshold.ratio() * members.len() as f64;
        let panics = too_few && within_reach > usable;
        let (mut candidates, mut rejecting) = (Vec::new(), Vec::new());
        let mut stale_from = None::<Instant>;
        for endpoint in members {
            let health = &endpoint.health;
            if !(health.is_usable() || panics && health.is_within_reach()) {
                continue;
            }
            let breaker = endpoint.circuit.breaker();
            match &breaker {
                Some(breaker) if breaker.state(now) == State::Reject => {
                    let opens = now + breaker.opens_in(now);
                    stale_from = Some(stale_from.map_or(opens, |known| known.min(opens)));
                    rejecting.push(Arc::clone(endpoint));
                }
                _ => candidates.push(Candidate {
                    endpoint: Arc::clone(endpoint),
                    breaker,
                }),
            }
        }
        let weights: Vec<_> = candidates
            .iter()
            .map(|candidate| candidate.endpoint.weight())
            .collect();
        let most_requests = config.limits.per_endpoint.requests;
        Self {
            candidates,
            picker: Picker::new(config.load_balancing.policy, &weights),
            most_requests: most_requests.map_or(usize::MAX, std::num::NonZeroUsize::get),
            rejecting,
            stale_from,
            replaced: AtomicBool::new(false),
            panics,
        }
    }

    /// Whether too few endpoints are usable, so that all within reach are used.
    pub(crate) fn panics(&self) -> bool {
        self.panics
    }

    /// Endpoints that it leaves out because their breakers reject.
    pub(crate) fn rejecting(&self) -> &[Arc<Endpoint>] {
        &self.rejecting
    }

    /// True once, for the one who has to make another selection, when a breaker has something to say.
    pub(crate) fn is_to_be_replaced(&self, now: Instant) -> bool {
        self.stale_from.is_some_and(|stale| now >= stale) && !self.replaced.swap(true, AcqRel)
    }

    pub(crate) fn pick(
        &self,
        tried: &Tried,
        turns: &Turns,
        now: Instant,
    ) -> Result<Picked, NoPick> {
        let mut view = View {
            selection: self,
            tried,
            missed: SmallVec::new(),
            now,
        };
        let mut random = fastrand::Rng::new();
        let mut any = random.fork();
        // If a further try took a turn too, two endpoints of which one fails would take turns at being the
        // second: the one that fails would be asked first every time.
        let mut turn = || match tried.is_empty() {
            true => turns.0.fetch_add(1, Relaxed),
            false => any.u32(..).into(),
        };
        loop {
            let Some(index) = self.picker.pick(&view, &mut random, &mut turn) else {
                return Err(self.why_none(&view));
            };
            let Candidate { endpoint, breaker } = &self.candidates[index];
            let guard = match breaker {
                None => None,
                Some(breaker) => match endpoint.admit(breaker, now) {
                    None => {
                        view.missed.push(index);
                        continue;
                    }
                    admitted => admitted,
                },
            };
            return Ok(Picked {
                endpoint: Arc::clone(endpoint),
                guard,
            });
        }
    }

    fn why_none(&self, view: &View<'_>) -> NoPick {
        let untried = |index: &usize| !is_tried(view.tried, &self.candidates[*index].endpoint);
        let mut untried = (0..self.candidates.len()).filter(untried).peekable();
        if untried.peek().is_none() && self.rejecting.is_empty() {
            NoPick::NoneUsable
        } else if untried.all(|index| view.rejected(index)) {
            NoPick::AllRejected
        } else {
            NoPick::AllFull
        }
    }
}

impl View<'_> {
    fn rejected(&self, index: usize) -> bool {
        let breaker = &self.selection.candidates[index].breaker;
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
        self.selection.candidates[index].endpoint.load.in_flight()
    }

    fn cost(&self, index: usize) -> f64 {
        self.selection.candidates[index]
            .endpoint
            .load
            .cost(self.now, self.selection.picker.weight(index))
    }

    fn excluded(&self, index: usize) -> bool {
        let endpoint = &self.selection.candidates[index].endpoint;
        is_tried(self.tried, endpoint)
            || self.rejected(index)
            || (self.selection.most_requests != usize::MAX
                && endpoint.load.in_flight() >= self.selection.most_requests)
    }
}
