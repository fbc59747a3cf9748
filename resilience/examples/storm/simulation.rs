//! The clock of it all: events in order of time, and what each second saw.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::{Call, Endpoint, Offered};
use crate::gateway::{Gateway, Request};

pub(crate) const ENDPOINTS: usize = 4;
/// Requests that clients make in a second, all in all.
pub(crate) const DEMAND: u64 = 350;
/// The seconds in which the backend is slow.
pub(crate) const FAULT: Range<u64> = 15..25;
/// Seconds to simulate.
pub(crate) const LENGTH: u64 = 60;

const SEED: u64 = 20;

/// What the gateway has beside three tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policies {
    pub(crate) budget: bool,
    pub(crate) breaker: bool,
}

/// What happened under these policies.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) seconds: Vec<Second>,
}

/// What one second saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Second {
    /// Requests of clients.
    pub(crate) requests: u64,
    /// Tries that reached the backend.
    pub(crate) tries: u64,
    /// Requests that were answered in time.
    pub(crate) answered: u64,
    /// Answers of the backend that nobody waited for any more.
    pub(crate) wasted: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Retry { request: usize },
    Timeout(Call),
    Done { endpoint: usize, call: Call },
}

struct World {
    start: Instant,
    now: Instant,
    /// By time, then in the order in which they were planned.
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    planned: u64,
    random: fastrand::Rng,
    gateway: Gateway,
    endpoints: [Endpoint; ENDPOINTS],
    requests: BTreeMap<usize, Request>,
    arrived: usize,
    seconds: Vec<Second>,
}

// === impl Run ===

impl Run {
    /// Simulates one. Policies read the clock when they are made, so it is to stand still (paused time).
    pub(crate) fn of(name: &'static str, policies: Policies) -> Self {
        let mut world = World::new(policies);
        world.plan(Duration::ZERO, Event::Arrival);
        while let Some(Reverse((at, _, event))) = world.events.pop() {
            world.now = at;
            if world.since_start().as_secs() >= LENGTH {
                break;
            }
            world.happen(event);
        }
        Self {
            name,
            seconds: world.seconds,
        }
    }
}

// === impl World ===

impl World {
    fn new(policies: Policies) -> Self {
        let mut random = fastrand::Rng::with_seed(SEED);
        let start = Instant::now();
        Self {
            start,
            now: start,
            events: BinaryHeap::new(),
            planned: 0,
            gateway: Gateway::new(policies, random.fork()),
            random,
            endpoints: Default::default(),
            requests: BTreeMap::new(),
            arrived: 0,
            seconds: vec![Second::default(); LENGTH as usize],
        }
    }

    fn since_start(&self) -> Duration {
        self.now - self.start
    }

    fn second(&mut self) -> &mut Second {
        let second = self.since_start().as_secs() as usize;
        &mut self.seconds[second]
    }

    fn plan(&mut self, wait: Duration, event: Event) {
        self.planned += 1;
        let entry = (self.now + wait, self.planned, event);
        self.events.push(Reverse(entry));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrival(),
            Event::Retry { request } => self.start_try(request),
            Event::Timeout(call) => {
                if self.waits_for(call) {
                    self.failed(call.request);
                }
            }
            Event::Done { endpoint, call } => self.done(endpoint, call),
        }
    }

    /// One more request, and the next one up to two mean distances later: no logarithm, so the same everywhere.
    fn arrival(&mut self) {
        self.second().requests += 1;
        let request = self.arrived;
        self.arrived += 1;
        let accepted = self.gateway.accept(self.now);
        self.requests.insert(request, accepted);
        self.start_try(request);
        let distance = self.random.u64(0..2 * 1_000_000_000 / DEMAND);
        self.plan(Duration::from_nanos(distance), Event::Arrival);
    }

    fn start_try(&mut self, request: usize) {
        let Some(state) = self.requests.get_mut(&request) else {
            return;
        };
        let Some((endpoint, until)) = self.gateway.start(state, self.now) else {
            self.requests.remove(&request);
            return;
        };
        let attempt = state.attempt().unwrap_or_default();
        let call = Call { request, attempt };
        self.second().tries += 1;
        let since_start = self.since_start();
        match self.endpoints[endpoint].offer(call, since_start) {
            Offered::Started(takes) => self.plan(takes, Event::Done { endpoint, call }),
            Offered::Queued => {}
            Offered::Refused => return self.failed(request),
        }
        self.plan(until - self.now, Event::Timeout(call));
    }

    fn waits_for(&self, call: Call) -> bool {
        let request = self.requests.get(&call.request);
        request.is_some_and(|request| request.attempt() == Some(call.attempt))
    }

    fn failed(&mut self, request: usize) {
        let Some(state) = self.requests.get_mut(&request) else {
            return;
        };
        match self.gateway.failed(state, self.now) {
            Some(wait) => self.plan(wait, Event::Retry { request }),
            None => {
                self.requests.remove(&request);
            }
        }
    }

    fn done(&mut self, endpoint: usize, call: Call) {
        let since_start = self.since_start();
        if let Some((call, takes)) = self.endpoints[endpoint].next(since_start) {
            self.plan(takes, Event::Done { endpoint, call });
        }
        if !self.waits_for(call) {
            self.second().wasted += 1;
            return;
        }
        if let Some(mut request) = self.requests.remove(&call.request) {
            self.gateway.answered(&mut request, self.now);
            self.second().answered += 1;
        }
    }
}
