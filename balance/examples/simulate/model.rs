//! Endpoints as queues with a few servers each, and requests that come at random.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use balance::{Candidates, Load, Maglev, Picker, Policy, Ring, SlowStart, Table, hash};
use tokio::time::Instant;

/// Requests that an endpoint serves at once.
const SERVERS: usize = 4;
/// What a request takes on average, in seconds.
const WORK: f64 = 0.010;
/// How much longer the first requests of a cold endpoint take, and how many it takes to warm it to a third of that.
const COLD: f64 = 6.0;
const WARMTH: f64 = 150.0;
const USERS: u64 = 2000;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    Compete(Policy),
    Ring(Option<f64>),
    Maglev(Option<f64>),
}

/// What happens.
pub(crate) struct Scenario {
    pub(crate) rule: Rule,
    pub(crate) endpoints: usize,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) seconds: u64,
    /// How much longer the first endpoint takes.
    pub(crate) slow: f64,
    /// When the last endpoint joins, cold.
    pub(crate) joins: Option<Duration>,
    pub(crate) slow_start: Option<Duration>,
    /// The share of requests that have the same key.
    pub(crate) hot: f64,
}

/// What came of it.
pub(crate) struct Outcome {
    /// When each request came, in seconds, and how long it took, in milliseconds.
    took: Vec<(f64, f64)>,
    asked: Vec<usize>,
    /// The most that an endpoint had in flight, in parts of what the bound allows.
    pub(crate) worst_of_bound: f64,
}

#[derive(Default)]
struct Endpoint {
    load: Load,
    busy: usize,
    waiting: VecDeque<Duration>,
    served: u64,
    began: Option<Instant>,
}

struct Mesh {
    endpoints: Vec<Endpoint>,
    picker: Picker,
    slow: Option<SlowStart>,
    epoch: Instant,
    /// Since the epoch.
    now: Duration,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            rule: Rule::Compete(Policy::Random),
            endpoints: 10,
            rate: 600.0,
            seconds: 60,
            slow: 1.0,
            joins: None,
            slow_start: None,
            hot: 0.0,
        }
    }
}

impl Rule {
    fn picker(self, count: usize) -> Picker {
        let seeds = (0..count as u64).map(|n| hash::nth(17, n));
        let members: Vec<(u64, f64)> = seeds.map(|seed| (seed, 1.0)).collect();
        let weights = vec![1; count];
        let places = (0..count as u32).map(Some);
        match self {
            Self::Compete(policy) => Picker::new(policy, &weights),
            Self::Ring(factor) => {
                let table = Table::Ring(Ring::new(&members, 160));
                Picker::hashed(Arc::new(table), places, factor, &weights)
            }
            Self::Maglev(factor) => {
                let table = Table::Maglev(Maglev::new(&members, Maglev::SIZE));
                Picker::hashed(Arc::new(table), places, factor, &weights)
            }
        }
    }
}

impl Candidates for Mesh {
    fn in_flight(&self, index: usize) -> usize {
        self.endpoints[index].load.in_flight()
    }
    fn cost(&self, index: usize) -> f64 {
        let load = &self.endpoints[index].load;
        load.cost(self.epoch + self.now, self.picker.weight(index))
    }
    fn excluded(&self, _: usize) -> bool {
        false
    }
    fn grows(&self) -> bool {
        let now = self.epoch + self.now;
        self.slow.is_some_and(|slow| slow.is_on(now))
    }
    fn part(&self, index: usize) -> f64 {
        let (began, now) = (self.endpoints[index].began, self.epoch + self.now);
        self.slow.map_or(1.0, |slow| slow.relative(began, now))
    }
    fn total(&self) -> usize {
        self.endpoints.iter().map(|one| one.load.in_flight()).sum()
    }
}

impl Scenario {
    pub(crate) fn run(self) -> Outcome {
        let mut random = fastrand::Rng::with_seed(4);
        let present = self.endpoints - usize::from(self.joins.is_some());
        let mut mesh = Mesh {
            endpoints: (0..self.endpoints).map(|_| Endpoint::default()).collect(),
            picker: self.rule.picker(present),
            slow: None,
            epoch: Instant::now(),
            now: Duration::ZERO,
        };
        let mut outcome = Outcome {
            took: Vec::new(),
            asked: vec![0; self.endpoints],
            worst_of_bound: 0.0,
        };
        let mut ends: BinaryHeap<Reverse<(Duration, usize, Duration)>> = BinaryHeap::new();
        let (mut next, mut turn, mut joined) = (Duration::ZERO, 0, false);
        while next < Duration::from_secs(self.seconds) {
            if let Some(Reverse((end, index, came))) = ends.peek().copied()
                && end <= next
            {
                ends.pop();
                mesh.now = end;
                self.ended(&mut mesh, index, came, &mut outcome);
                self.serve(&mut mesh, index, &mut ends, &mut random);
                continue;
            }
            mesh.now = next;
            if let Some(at) = self.joins.filter(|at| !joined && *at <= next) {
                joined = true;
                self.join(&mut mesh, at);
            }
            let key = match random.f64() < self.hot {
                true => 0,
                false => random.u64(1..USERS),
            };
            let turns = || {
                turn += 1;
                turn
            };
            let key = Some(hash::nth(5, key));
            let picked = mesh.picker.pick(&mesh, &mut random, turns, key);
            let index = picked.expect("nobody is excluded");
            self.came(&mut mesh, index, &mut outcome);
            self.serve(&mut mesh, index, &mut ends, &mut random);
            next += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / self.rate);
        }
        outcome
    }

    fn join(&self, mesh: &mut Mesh, at: Duration) {
        let began = mesh.epoch + at;
        let last = self.endpoints - 1;
        mesh.endpoints[last].began = Some(began);
        mesh.picker = self.rule.picker(self.endpoints);
        mesh.slow = self.slow_start.and_then(|window| {
            SlowStart::of(window, mesh.endpoints.iter().map(|one| one.began), began)
        });
    }

    fn came(&self, mesh: &mut Mesh, index: usize, outcome: &mut Outcome) {
        let most = super::bound(self.endpoints).most(1.0, mesh.total());
        let endpoint = &mut mesh.endpoints[index];
        endpoint.load.start();
        endpoint.waiting.push_back(mesh.now);
        outcome.asked[index] += 1;
        let part = endpoint.load.in_flight() as f64 / most as f64;
        outcome.worst_of_bound = outcome.worst_of_bound.max(part);
    }

    /// Takes on what waits, if there is a server free.
    fn serve(
        &self,
        mesh: &mut Mesh,
        index: usize,
        ends: &mut BinaryHeap<Reverse<(Duration, usize, Duration)>>,
        random: &mut fastrand::Rng,
    ) {
        let endpoint = &mut mesh.endpoints[index];
        while endpoint.busy < SERVERS
            && let Some(came) = endpoint.waiting.pop_front()
        {
            let mut work = WORK * -(1.0 - random.f64()).ln();
            if index == 0 {
                work *= self.slow;
            }
            if endpoint.began.is_some() {
                work *= 1.0 + (COLD - 1.0) * (-(endpoint.served as f64) / WARMTH).exp();
            }
            endpoint.busy += 1;
            endpoint.served += 1;
            ends.push(Reverse((
                mesh.now + Duration::from_secs_f64(work),
                index,
                came,
            )));
        }
    }

    fn ended(&self, mesh: &mut Mesh, index: usize, came: Duration, outcome: &mut Outcome) {
        let endpoint = &mut mesh.endpoints[index];
        let took = mesh.now - came;
        endpoint.busy -= 1;
        endpoint.load.end();
        endpoint.load.answered(mesh.epoch + mesh.now, took);
        outcome
            .took
            .push((came.as_secs_f64(), took.as_secs_f64() * 1e3));
    }
}

impl Outcome {
    /// In milliseconds.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        self.quantile_between(0..u64::MAX, q)
    }

    /// Of requests that came in these seconds.
    pub(crate) fn quantile_between(&self, seconds: Range<u64>, q: f64) -> f64 {
        let within = |(came, _): &&(f64, f64)| seconds.contains(&(*came as u64));
        let mut took: Vec<f64> = self
            .took
            .iter()
            .filter(within)
            .map(|(_, took)| *took)
            .collect();
        took.sort_by(f64::total_cmp);
        let at = (took.len() as f64 * q) as usize;
        took.get(at.min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Of the requests that this endpoint got.
    pub(crate) fn share(&self, index: usize) -> f64 {
        self.asked[index] as f64 / self.asked.iter().sum::<usize>() as f64
    }
}
