//! The gateway: three tries for each request, by the policies that production uses.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use resilience::Verdict;
use resilience::backoff::Backoff;
use resilience::breaker::{Admission, Breaker, Settings};
use resilience::budget::{RetryBudget, Terms};
use resilience::retry::{Next, Series};
use tokio::time::Instant;

use crate::simulation::{ENDPOINTS, Policies};

const ATTEMPTS: NonZeroU32 = NonZeroU32::new(3).unwrap();
const TRY_TIMEOUT: Duration = Duration::from_millis(250);
const DEADLINE: Duration = Duration::from_secs(1);

/// The default of `retry.backoff`.
const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(25), Duration::from_secs(1)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("the bounds make no backoff"),
};

/// The defaults of `retry_budget`.
const TERMS: Terms = Terms {
    ratio: 0.2,
    min_per_second: 3,
};

/// The defaults of `breaker`.
const BREAKER: Settings = Settings {
    window: Duration::from_secs(10),
    min_requests: NonZeroU32::new(20).unwrap(),
    failure_ratio: 0.5,
    slow_call: Duration::from_secs(1),
    slow_ratio: 0.9,
    hold: Duration::from_secs(5),
    max_hold: Duration::from_secs(60),
    probes: NonZeroU32::new(3).unwrap(),
};

pub(crate) struct Gateway {
    budget: Option<RetryBudget>,
    breakers: Option<[Arc<Breaker>; ENDPOINTS]>,
    random: fastrand::Rng,
}

/// One client's request.
pub(crate) struct Request {
    deadline: Instant,
    series: Series,
    tried: [bool; ENDPOINTS],
    under_way: Option<Attempt>,
}

struct Attempt {
    endpoint: usize,
    start: Instant,
    admission: Option<Admission>,
}

// === impl Gateway ===

impl Gateway {
    pub(crate) fn new(policies: Policies, random: fastrand::Rng) -> Self {
        let breakers = || std::array::from_fn(|_| Arc::new(Breaker::new(BREAKER)));
        Self {
            budget: policies.budget.then(|| RetryBudget::new(TERMS)),
            breakers: policies.breaker.then(breakers),
            random,
        }
    }

    /// A client asks.
    pub(crate) fn accept(&mut self, now: Instant) -> Request {
        if let Some(budget) = &self.budget {
            budget.first_try(now);
        }
        Request {
            deadline: now + DEADLINE,
            series: Series::new(ATTEMPTS, BACKOFF, self.random.fork()),
            tried: [false; ENDPOINTS],
            under_way: None,
        }
    }

    /// Starts a try: at which endpoint, and when to give it up. Nothing if all breakers reject.
    pub(crate) fn start(
        &mut self,
        request: &mut Request,
        now: Instant,
    ) -> Option<(usize, Instant)> {
        let endpoint = self.choose(request, now)?;
        request.tried[endpoint] = true;
        request.under_way = Some(Attempt {
            endpoint,
            start: now,
            admission: self.breakers.as_ref().map(|all| all[endpoint].admit(now)),
        });
        Some((endpoint, request.deadline.min(now + TRY_TIMEOUT)))
    }

    /// Any endpoint that admits, one that was not tried if there is one.
    fn choose(&mut self, request: &Request, now: Instant) -> Option<usize> {
        let admits = |at: &usize| {
            let breakers = self.breakers.as_ref();
            breakers.is_none_or(|all| all[*at].would_admit(now))
        };
        let usable: Vec<_> = (0..ENDPOINTS).filter(admits).collect();
        let fresh = usable.iter().copied().filter(|at| !request.tried[*at]);
        let fresh: Vec<_> = fresh.collect();
        let among = if fresh.is_empty() { usable } else { fresh };
        self.random.choice(among)
    }

    /// The answer is there.
    pub(crate) fn answered(&self, request: &mut Request, now: Instant) {
        self.record(request, Verdict::Success, now);
    }

    /// The try failed; when to make another one, if at all.
    pub(crate) fn failed(&self, request: &mut Request, now: Instant) -> Option<Duration> {
        self.record(request, Verdict::Failure, now);
        let Next::Again(wait) = request.series.after(now, request.deadline, None) else {
            return None;
        };
        let allowed = self.budget.as_ref().is_none_or(|all| all.try_spend(now));
        allowed.then_some(wait)
    }

    fn record(&self, request: &mut Request, verdict: Verdict, now: Instant) {
        let Some(attempt) = request.under_way.take() else {
            return;
        };
        if let (Some(all), Some(admission)) = (&self.breakers, attempt.admission) {
            let took = now - attempt.start;
            let _change = all[attempt.endpoint].record(admission, verdict, took, now);
        }
    }
}

// === impl Request ===

impl Request {
    /// Which try is under way; none while waiting for the next one.
    pub(crate) fn attempt(&self) -> Option<u32> {
        self.under_way.as_ref().map(|_| self.series.made())
    }
}
