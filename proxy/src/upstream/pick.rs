//! Which endpoint takes a request: the policies, pure. They see numbers and a random generator, no clock and
//! no network, so statistics can test them.
//!
//! Weights act where traffic is shared out: the first candidate is drawn by weight in constant time (Vose's
//! alias method), and another one takes its place only if it is clearly better off. So shares follow the
//! weights while all are alike, and load or latency decides when they are not. Refused: a look at every
//! endpoint of a large cluster.

use mesh_config::model::BalancingPolicy;

/// A challenger's cost must be below this share of the first candidate's: noise must not decide.
const CLEARLY: f64 = 0.75;
/// Draws before all are looked through for those that are left.
const DRAWS: usize = 8;
/// Up to so many endpoints are all compared by `least_request`.
const FEW: usize = 8;
/// Of more than that, it compares so many.
const OF_MANY: usize = 4;
/// Multiples of it spread evenly over the unit interval, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// What a policy may ask of the endpoints, by index.
pub(crate) trait Candidates {
    /// Requests in flight.
    fn in_flight(&self, index: usize) -> usize;
    /// Expected wait; the lower the better.
    fn cost(&self, index: usize) -> f64;
    /// Whether it must not be picked for this request.
    fn excluded(&self, index: usize) -> bool;
}

/// A policy over a fixed list of weights.
#[derive(Debug)]
pub(crate) struct Picker {
    policy: BalancingPolicy,
    weights: Box<[f64]>,
    heaviest: f64,
    /// Absent when all weights are alike.
    alias: Option<Alias>,
}

/// Vose's alias tables: column `i` gives `i` up to its threshold, else its alias.
#[derive(Debug)]
struct Alias {
    columns: Box<[(f64, usize)]>,
}

// === impl Picker ===

impl Picker {
    pub(crate) fn new(policy: BalancingPolicy, weights: &[u32]) -> Self {
        let alike = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let weights: Box<[f64]> = weights
            .iter()
            .map(|weight| f64::from((*weight).max(1)))
            .collect();
        let alias = (!alike).then(|| Alias::new(&weights));
        let heaviest = weights.iter().copied().fold(1.0, f64::max);
        Self {
            policy,
            weights,
            heaviest,
            alias,
        }
    }

    pub(crate) fn weight(&self, index: usize) -> f64 {
        self.weights[index]
    }

    /// The index of the endpoint for one request. `turn` counts the requests (for `round_robin`).
    pub(crate) fn pick(
        &self,
        candidates: &impl Candidates,
        random: &mut fastrand::Rng,
        turn: impl FnMut() -> u64,
    ) -> Option<usize> {
        match self.policy {
            BalancingPolicy::RoundRobin => self.next_in_turn(candidates, random, turn),
            BalancingPolicy::Random => self.draw(candidates, random, None),
            BalancingPolicy::LeastRequest => self.least_request(candidates, random),
            BalancingPolicy::P2c => self.better_of_two(candidates, random),
        }
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
        if self.weights.len() > FEW {
            for _ in 1..OF_MANY {
                best = self
                    .draw(candidates, random, Some(best))
                    .filter(|other| load(*other) < load(best))
                    .unwrap_or(best);
            }
            return Some(best);
        }
        for other in 0..self.weights.len() {
            if load(other) < load(best) && !candidates.excluded(other) {
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
            if due && !candidates.excluded(index) {
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
        for _ in 0..DRAWS {
            let index = match &self.alias {
                Some(alias) => alias.draw(random),
                None => random.usize(..count),
            };
            if fits(index) {
                return Some(index);
            }
        }
        self.draw_among_the_rest(random, fits)
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

// === impl Alias ===

impl Alias {
    fn new(weights: &[f64]) -> Self {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut share: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let mut columns: Vec<(f64, usize)> = (0..weights.len()).map(|index| (1.0, index)).collect();
        let (mut small, mut large): (Vec<_>, Vec<_>) =
            (0..weights.len()).partition(|index| share[*index] < 1.0);
        while let (Some(short), Some(long)) = (small.pop(), large.last().copied()) {
            columns[short] = (share[short], long);
            share[long] -= 1.0 - share[short];
            if share[long] < 1.0 {
                large.pop();
                small.push(long);
            }
        }
        Self {
            columns: columns.into(),
        }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let index = random.usize(..self.columns.len());
        let (threshold, alias) = self.columns[index];
        if random.f64() < threshold {
            index
        } else {
            alias
        }
    }
}

#[cfg(test)]
mod tests;
