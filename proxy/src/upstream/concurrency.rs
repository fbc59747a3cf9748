//! How much a cluster may have in flight: its configured limit, or where `adaptive_concurrency` is on, what its latency
//! says that it can bear.
//!
//! With a limit that moves, requests wait in the queue no longer than leaves them the time to be served: half of what
//! they have, and less where answers take long. Otherwise a queue that is full all the time would let everybody in
//! just before their deadline, and every answer would come too late.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mesh_config::model as config;
use parking_lot::Mutex;
use resilience::Verdict;
use resilience::adaptive::Gradient;
use resilience::limiter::{Bounds, Limiter, Permit, Refused};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::attempt::Ended;
use super::cluster::HTTP2_STREAMS;
use super::counters::Outcome;
use super::error::CallError;

/// How many times the usual latency is kept free for being served.
const SERVICE: u32 = 2;
/// Who waits for an endpoint looks again after this time, whatever happens: health and limits change as well.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The limit of one cluster.
#[derive(Debug)]
pub(crate) struct Concurrency {
    limiter: Arc<Limiter>,
    /// None where the limit stands.
    gradient: ArcSwapOption<Gradient>,
    /// Held while the limit changes: one writer at a time.
    bounds: Mutex<Bounds>,
    refused: AtomicU64,
    /// Requests that have a slot and wait for an endpoint that takes one more.
    crowd: AtomicUsize,
    /// Told when an endpoint, or the limit on connections, may have room, if anybody waits.
    freed: Notify,
}

/// A place among those who wait for an endpoint that takes one more, given back on drop.
#[derive(Debug)]
pub(crate) struct Place(Arc<Concurrency>);

/// The limit at one moment.
#[derive(Debug, Clone, Copy)]
pub struct ConcurrencyView {
    /// Requests that may be in flight.
    pub limit: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests that wait for a slot.
    pub waiting: usize,
    /// Requests that were turned away: the queue was full, or they would have come too late.
    pub refused: u64,
    /// Where the limit moves: the latency of the idle backend, if it is known yet.
    pub idle_latency: Option<Duration>,
    /// Whether the limit moves.
    pub adaptive: bool,
}

impl Concurrency {
    pub(crate) fn new(config: &config::Cluster) -> Self {
        let bounds = configured(config);
        let concurrency = Self {
            limiter: Arc::new(Limiter::new(bounds)),
            gradient: ArcSwapOption::empty(),
            bounds: Mutex::new(bounds),
            refused: AtomicU64::new(0),
            crowd: AtomicUsize::new(0),
            freed: Notify::new(),
        };
        concurrency.set(config);
        concurrency
    }

    /// Takes over a configuration; what a moving limit has learnt stays.
    pub(crate) fn set(&self, config: &config::Cluster) {
        let mut bounds = self.bounds.lock();
        *bounds = configured(config);
        match config.adaptive_concurrency {
            None => self.gradient.store(None),
            Some(adaptive) => {
                let max = adaptive.max.get().min(bounds.requests);
                let min = adaptive.min.get().min(max);
                if self.gradient.load().is_none() {
                    let fresh = Gradient::new(min, max);
                    self.gradient.store(Some(Arc::new(fresh)));
                }
                if let Some(gradient) = &*self.gradient.load() {
                    gradient.set(min, max);
                    bounds.requests = gradient.limit();
                }
            }
        }
        self.limiter.set(*bounds);
    }

    /// Waits for a slot, for as long as that makes sense.
    pub(crate) async fn slot(&self, deadline: Instant) -> Result<Permit<&Limiter>, CallError> {
        self.wait(&*self.limiter, deadline).await
    }

    /// The same, for who keeps the slot for longer than this can be borrowed.
    pub(crate) async fn own_slot(
        &self,
        deadline: Instant,
    ) -> Result<Permit<Arc<Limiter>>, CallError> {
        self.wait(Arc::clone(&self.limiter), deadline).await
    }

    /// A slot for a try beside others of its call, if one is free now: nothing is gained by waiting for it.
    pub(crate) fn free_slot(&self) -> Option<Permit<&Limiter>> {
        Limiter::try_acquire(&*self.limiter)
    }

    /// A slot for a copy of a call, as long as calls leave half of them.
    pub(crate) fn spare_slot(&self) -> Option<Permit<&Limiter>> {
        let half = self.bounds.lock().requests / 2;
        (self.limiter.in_flight() < half)
            .then(|| self.free_slot())
            .flatten()
    }

    /// A place among those who wait because every endpoint has as much as it may; `limits.pending` bounds them
    /// together with those who wait for a slot.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Place> {
        let pending = self.bounds.lock().pending;
        let most = pending.saturating_sub(self.limiter.waiting());
        let one_more = |now| (now < most).then_some(now + 1);
        if self.crowd.fetch_update(AcqRel, Acquire, one_more).is_err() {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        Some(Place(Arc::clone(self)))
    }

    /// A place for who has had one and was called too early: the bound was for those who come.
    pub(crate) fn join_again(self: &Arc<Self>) -> Place {
        self.crowd.fetch_add(1, AcqRel);
        Place(Arc::clone(self))
    }

    /// An endpoint has one request or connection fewer.
    pub(crate) fn freed(&self) {
        if self.crowd.load(Acquire) > 0 {
            self.freed.notify_one();
        }
    }

    async fn wait<L>(&self, limiter: L, deadline: Instant) -> Result<Permit<L>, CallError>
    where
        L: Deref<Target = Limiter> + Clone,
    {
        if let Some(permit) = Limiter::try_acquire(limiter.clone()) {
            return Ok(permit);
        }
        let until = self.patience(deadline);
        let refused = match Limiter::acquire(limiter, until).await {
            Ok(permit) => return Ok(permit),
            Err(refused) => refused,
        };
        self.refused.fetch_add(1, Relaxed);
        Err(match refused {
            Refused::TooLate if until < deadline => CallError::Overloaded,
            refused => refused.into(),
        })
    }

    /// Until when a request that has to be answered by `deadline` may wait for its turn.
    fn patience(&self, deadline: Instant) -> Instant {
        let Some(gradient) = &*self.gradient.load() else {
            return deadline;
        };
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let service = gradient.typical().unwrap_or_default() * SERVICE;
        now + (left / 2).min(left.saturating_sub(service))
    }

    /// A try has ended.
    pub(crate) fn observed(&self, outcome: Outcome, verdict: Verdict, ended: Ended) {
        let Some(gradient) = &*self.gradient.load() else {
            return;
        };
        let changed = match outcome {
            Outcome::Ok | Outcome::CallerError => {
                gradient.sample(ended.latency, self.limiter.in_flight(), ended.now)
            }
            Outcome::Timeout | Outcome::RefusedStream if verdict == Verdict::Failure => {
                gradient.overloaded(ended.now)
            }
            // Failing is not being busy, and neither is an impatient caller.
            _ => None,
        };
        if changed.is_some() {
            let mut bounds = self.bounds.lock();
            // Whoever comes last sets what holds last.
            bounds.requests = gradient.limit();
            self.limiter.set(*bounds);
        }
    }

    pub(crate) fn view(&self) -> ConcurrencyView {
        let gradient = self.gradient.load();
        ConcurrencyView {
            limit: self.bounds.lock().requests,
            in_flight: self.limiter.in_flight(),
            waiting: self.limiter.waiting() + self.crowd.load(Relaxed),
            refused: self.refused.load(Relaxed),
            idle_latency: gradient.as_ref().and_then(|gradient| gradient.idle()),
            adaptive: gradient.is_some(),
        }
    }
}

// === impl Place ===

impl Place {
    /// Waits until it is worth to look for an endpoint again.
    pub(crate) async fn called(&self, deadline: Instant) {
        let until = deadline.min(Instant::now() + LOOK_AGAIN);
        let _ = timeout_at(until, self.0.freed.notified()).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.crowd.fetch_sub(1, AcqRel);
    }
}

/// What the limits mean for requests. Those that are passed through wait for a connection as they wait for a
/// slot: no more are let in than the connections that are allowed can carry.
fn configured(config: &config::Cluster) -> Bounds {
    let limits = &config.limits;
    let connections = limits.connections.get();
    let carried = match config.protocol {
        config::Protocol::Http1 => connections,
        config::Protocol::Http2 => connections.saturating_mul(HTTP2_STREAMS),
        config::Protocol::Grpc => usize::MAX,
    };
    Bounds {
        requests: limits.requests.get().min(carried),
        pending: limits.pending,
    }
}
