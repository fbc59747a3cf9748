//! Which endpoint takes a request: the policies, pure. They see numbers and a random generator, no clock and
//! no network, so statistics can test them.
//!
//! Weights act where traffic is shared out: the first candidate is drawn by weight in constant time (Vose's
//! alias method), and another one takes its place only if it is clearly better off. So shares follow the
//! weights while all are alike, and load or latency decides when they are not. By a table, a request goes to the owner of its
//! key or to the next one that may take it. Refused: a look at every endpoint of a large cluster.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::alias::Alias;
use crate::bound::Bound;
use crate::hash;
use crate::table::Table;

/// A challenger's cost must be below this share of the first candidate's: noise must not decide.
const CLEARLY: f64 = 0.75;
/// Draws before all are looked through for those that are left.
const DRAWS: usize = 8;
/// The same while weights grow: what is drawn is often not taken.
const PATIENT_DRAWS: usize = 32;
/// Up to so many endpoints are all compared by `least_request`.
const FEW: usize = 8;
/// Of more than that, it compares so many.
const OF_MANY: u32 = 4;
/// Steps along a table before all are looked through.
const STEPS: usize = 64;
/// Multiples of it spread evenly over the unit interval, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// What a policy may ask of the endpoints, by index.
pub trait Candidates {
    /// Requests in flight.
    fn in_flight(&self, index: usize) -> usize;
    /// Expected wait; the lower the better.
    fn cost(&self, index: usize) -> f64;
    /// Whether it must not be picked for this request.
    fn excluded(&self, index: usize) -> bool;
    /// Whether anybody's weight grows just now.
    fn grows(&self) -> bool {
        false
    }
    /// The part of its weight that it has just now, if weights grow.
    fn part(&self, _index: usize) -> f64 {
        1.0
    }
    /// Requests in flight at all of them together; asked where load is bounded.
    fn total(&self) -> usize {
        0
    }
}

/// How endpoints compete for a request that has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The better of two at random, by peak EWMA of latency and load.
    P2c,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The one with the fewest requests in flight.
    LeastRequest,
}

/// A policy over a fixed list of weights.
#[derive(Debug)]
pub struct Picker {
    rule: Rule,
    weights: Box<[f64]>,
    heaviest: f64,
    /// Absent when all weights are alike.
    alias: Option<Alias>,
    /// How many `least_request` compares, if that was said.
    choices: Option<NonZeroU32>,
}

#[derive(Debug)]
enum Rule {
    Compete(Policy),
    Hash(Hashed),
}

/// A table, and what its owners are called here.
#[derive(Debug)]
struct Hashed {
    table: Arc<Table>,
    /// The index of each owner; `None`: it is not among the candidates now.
    places: Box<[Option<u32>]>,
    bound: Option<Bound>,
}

// === impl Picker ===

impl Picker {
    /// Endpoints of these weights compete by a policy.
    #[must_use]
    pub fn new(policy: Policy, weights: &[u32]) -> Self {
        Self::by(Rule::Compete(policy), weights)
    }

    /// Keys belong to endpoints by a table. `places` says which of the endpoints each owner in the table is, if it is there. With a `factor`, an endpoint
    /// with more than that times its fair share in flight is passed over.
    #[must_use]
    pub fn hashed(
        table: Arc<Table>,
        places: impl IntoIterator<Item = Option<u32>>,
        factor: Option<f64>,
        weights: &[u32],
    ) -> Self {
        let total = weights.iter().map(|weight| f64::from((*weight).max(1)));
        let total: f64 = total.sum();
        let hashed = Hashed {
            table,
            places: places.into_iter().collect(),
            bound: factor.map(|factor| Bound::new(factor, total)),
        };
        Self::by(Rule::Hash(hashed), weights)
    }

    fn by(rule: Rule, weights: &[u32]) -> Self {
        let alike = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let weights: Box<[f64]> = weights
            .iter()
            .map(|weight| f64::from((*weight).max(1)))
            .collect();
        let alias = (!alike).then(|| Alias::new(&weights));
        let heaviest = weights.iter().copied().fold(1.0, f64::max);
        Self {
            rule,
            weights,
            heaviest,
            alias,
            choices: None,
        }
    }

    /// The same with so many endpoints at random that `least_request` compares; `None`: all of a few, some of many.
    #[must_use]
    pub fn comparing(self, choices: Option<NonZeroU32>) -> Self {
        Self { choices, ..self }
    }

    /// The weight of an endpoint.
    #[must_use]
    pub fn weight(&self, index: usize) -> f64 {
        self.weights[index]
    }

    /// The index of the endpoint for one request. `turn` counts the requests (for `round_robin`); `key` is the hash of what it is to be
    /// sticky by (for tables), at random without one.
    pub fn pick(
        &self,
        candidates: &impl Candidates,
        random: &mut fastrand::Rng,
        turn: impl FnMut() -> u64,
        key: Option<u64>,
    ) -> Option<usize> {
        match &self.rule {
            Rule::Compete(Policy::RoundRobin) => self.next_in_turn(candidates, random, turn),
            Rule::Compete(Policy::Random) => self.draw(candidates, random, None),
            Rule::Compete(Policy::LeastRequest) => self.least_request(candidates, random),
            Rule::Compete(Policy::P2c) => self.better_of_two(candidates, random),
            Rule::Hash(hashed) => {
                let key = key.unwrap_or_else(|| random.u64(..));
                self.owner(hashed, candidates, random, key)
            }
        }
    }

    /// The owner of a key, or the next on the table that may take a request and is not full. A key passes by an endpoint whose weight grows until
    /// its part has come: each key moves over once.
    fn owner(
        &self,
        hashed: &Hashed,
        candidates: &impl Candidates,
        random: &mut fastrand::Rng,
        key: u64,
    ) -> Option<usize> {
        let grows = candidates.grows();
        let total = hashed.bound.map_or(0, |_| candidates.total());
        let full = |index: usize| {
            let most = hashed
                .bound
                .map(|bound| bound.most(self.weights[index], total));
            most.is_some_and(|most| candidates.in_flight(index) >= most)
        };
        let mut passed = None;
        for owner in hashed.table.walk(key).take(STEPS) {
            let Some(index) = hashed.places.get(owner).copied().flatten() else {
                continue;
            };
            let index = index as usize;
            if candidates.excluded(index) || full(index) {
                continue;
            }
            let lot = || hash::unit(hash::nth(key, owner as u64));
            if grows && lot() >= candidates.part(index) {
                passed = passed.or(Some(index));
                continue;
            }
            return Some(index);
        }
        let fits = |index: usize| !candidates.excluded(index);
        passed
            .or_else(|| self.draw_among_the_rest(random, |index| fits(index) && !full(index)))
            .or_else(|| self.draw_among_the_rest(random, fits))
    }

    fn better_of_two(
        &self,
        candidates: &impl Candidates,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        let first = self.draw(candidates, random, None)?;
        let Some(second) = self.draw(candidates, random, Some(first)) else {
            return Some(first);
        };
        let clearly_better = candidates.cost(second) < candidates.cost(first) * CLEARLY;
        Some(if clearly_better { second } else { first })
    }

    fn least_request(
        &self,
        candidates: &impl Candidates,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        let load = |index: usize| candidates.in_flight(index) as f64 / self.weights[index];
        let mut best = self.draw(candidates, random, None)?;
        let many = (self.weights.len() > FEW).then_some(OF_MANY);
        if let Some(choices) = self.choices.map_or(many, |choices| Some(choices.get())) {
            // More draws than endpoints find nobody else.
            let draws = choices.min(u32::try_from(self.weights.len()).unwrap_or(u32::MAX));
            for _ in 1..draws {
                best = self
                    .draw(candidates, random, Some(best))
                    .filter(|other| load(*other) < load(best))
                    .unwrap_or(best);
            }
            return Some(best);
        }
        let grows = candidates.grows();
        for other in 0..self.weights.len() {
            // Nobody has drawn it by its part: with a tenth of its weight, it is as busy with nothing as others with nine.
            let waits = match grows {
                true => (1.0 / candidates.part(other) - 1.0) / self.weights[other],
                false => 0.0,
            };
            if load(other) + waits < load(best) && !candidates.excluded(other) {
                best = other;
            }
        }
        Some(best)
    }

    /// Everyone gets its turns, spread out, without a schedule to keep: the static stride method of gRPC's
    /// weighted round robin. Round `n` skips an endpoint when its weight does not add up to one more turn.
    fn next_in_turn(
        &self,
        candidates: &impl Candidates,
        random: &mut fastrand::Rng,
        mut turn: impl FnMut() -> u64,
    ) -> Option<usize> {
        let count = self.weights.len() as u64;
        if count == 0 {
            return None;
        }
        // A light endpoint among heavy ones is skipped often, never for long: this bounds the worst case.
        for _ in 0..count.saturating_mul(DRAWS as u64) {
            let now = turn();
            let (round, index) = (now / count, (now % count) as usize);
            let share = self.weights[index] / self.heaviest;
            let phase = (index as f64 * GOLDEN).fract();
            let turns_before = |round: u64| (round as f64 * share + phase).floor();
            let due = turns_before(round + 1) > turns_before(round);
            if due && !candidates.excluded(index) && is_taken(candidates, index, random) {
                return Some(index);
            }
        }
        self.draw(candidates, random, None)
    }

    /// One by weight, neither excluded nor `but`.
    fn draw(
        &self,
        candidates: &impl Candidates,
        random: &mut fastrand::Rng,
        but: Option<usize>,
    ) -> Option<usize> {
        let count = self.weights.len();
        if count == 0 || (count == 1 && but.is_some()) {
            return None;
        }
        let fits = |index: usize| but != Some(index) && !candidates.excluded(index);
        let draws = match candidates.grows() {
            true => PATIENT_DRAWS,
            false => DRAWS,
        };
        let mut passed = None;
        for _ in 0..draws {
            let index = match &self.alias {
                Some(alias) => alias.draw(random),
                None => random.usize(..count),
            };
            if fits(index) {
                if is_taken(candidates, index, random) {
                    return Some(index);
                }
                passed = Some(index);
            }
        }
        passed.or_else(|| self.draw_among_the_rest(random, fits))
    }

    /// One by weight among the few that fit, looking at all of them once.
    fn draw_among_the_rest(
        &self,
        random: &mut fastrand::Rng,
        fits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let (mut drawn, mut total) = (None, 0.0);
        for index in (0..self.weights.len()).filter(|index| fits(*index)) {
            total += self.weights[index];
            if random.f64() * total < self.weights[index] {
                drawn = Some(index);
            }
        }
        drawn
    }
}

/// Whether an endpoint that was drawn by its full weight is taken with the part that it has.
fn is_taken(candidates: &impl Candidates, index: usize, random: &mut fastrand::Rng) -> bool {
    !candidates.grows() || random.f64() < candidates.part(index)
}

#[cfg(test)]
mod tests;
