//! A cluster: its endpoints, the policy over them, its limits and its counts. The object lives as long as the
//! configuration names the cluster; a reload changes it in place, so that nothing learnt is lost.

use std::fmt::Write;
use std::sync::atomic::{
    AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_config::model as config;
use parking_lot::Mutex;
use resilience::latency::LiveQuantile;
use resilience::limiter::{Limiter, Permit};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::attempts;
use super::call::Call;
use super::concurrency::Concurrency;
use super::counters::{Counters, Outcome};
use super::endpoint::Endpoint;
use super::error::CallError;
use super::http::{HttpCall, HttpReply, Pools};
use super::membership::Found;
use super::outliers::Outliers;
use super::probe;
use super::reply::Reply;
use super::retries::Retries;
use super::selection::{NoPick, Picked, Selection, Tried, Turns};

/// How far back the latencies count that hedges wait for.
const LATENCY_WINDOW: Duration = Duration::from_secs(60);

/// Requests that share a connection to a backend that speaks HTTP/2, unless it allows fewer.
pub(crate) const HTTP2_STREAMS: usize = 100;

/// Backends that do the same, under one name.
#[derive(Debug)]
pub struct Cluster {
    name: Arc<str>,
    config: ArcSwap<config::Cluster>,
    pub(super) members: Mutex<Vec<Arc<Endpoint>>>,
    /// Those that discovery knows and that take no requests.
    pub(super) left_out: ArcSwap<Vec<Found>>,
    /// Told whenever the selection changes.
    pub(super) changed: Arc<Notify>,
    selection: ArcSwap<Selection>,
    turns: Turns,
    concurrency: Arc<Concurrency>,
    pub(crate) http: Pools,
    connections: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    pub(crate) retries: Retries,
    outliers: Arc<Outliers>,
    ejections: AtomicU64,
    /// How long the answers of rows take that ask for it, by row and quantile.
    latencies: Mutex<Vec<(String, f64, Weak<LiveQuantile>)>>,
    pub(super) workers: usize,
}

/// The right to one connection, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    total: Arc<AtomicUsize>,
    endpoint: Arc<Endpoint>,
}

// === impl Cluster ===

impl Cluster {
    pub(crate) fn new(config: &Arc<config::Cluster>, workers: usize) -> Arc<Self> {
        let selection = Selection::new(&[], config, Instant::now());
        Arc::new(Self {
            name: config.name.as_str().into(),
            config: ArcSwap::new(Arc::clone(config)),
            members: Mutex::default(),
            left_out: ArcSwap::default(),
            changed: Arc::default(),
            selection: ArcSwap::from_pointee(selection),
            turns: Turns::default(),
            concurrency: Arc::new(Concurrency::new(config)),
            http: Pools::default(),
            connections: Arc::default(),
            counters: Arc::new(Counters::new(workers)),
            retries: Retries::new(config),
            outliers: Arc::new(Outliers::new()),
            ejections: AtomicU64::new(0),
            latencies: Mutex::default(),
            workers,
        })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Calls a method of one of the backends. Dropping the future resets the stream.
    ///
    /// # Errors
    /// If no backend has answered by the rules of gRPC. A gRPC status is a reply.
    pub async fn unary(
        self: &Arc<Self>,
        worker: usize,
        call: Call<'_>,
    ) -> Result<Reply, CallError> {
        attempts::run(self, worker, &call).await
    }

    /// Asks one of the backends, which speak HTTP. Dropping the future gives the request up.
    ///
    /// # Errors
    /// If no backend has answered in HTTP. Any status is a reply.
    pub async fn http(
        self: &Arc<Self>,
        worker: usize,
        call: HttpCall<'_>,
    ) -> Result<HttpReply, CallError> {
        attempts::run(self, worker, &call).await
    }

    /// Waits for a free slot within the limits of the cluster; for callers that pick for themselves.
    ///
    /// # Errors
    /// `Overloaded` at once, or `DeadlineExceeded`.
    pub async fn admit(&self, deadline: Instant) -> Result<Permit<Arc<Limiter>>, CallError> {
        self.concurrency.own_slot(deadline).await
    }

    /// Picks an endpoint for a request that is passed through, but none of `tried`. Breakers and panic are
    /// heeded; what is told to the attempt's [`Attempt::finish`] feeds breaker, outlier detection and load.
    ///
    /// # Errors
    /// `NoHealthyUpstream`, `CircuitOpen` or `Overloaded`.
    pub fn pick(self: &Arc<Self>, worker: usize, tried: &Tried) -> Result<Attempt, CallError> {
        let now = Instant::now();
        let picked = self.select(tried, now);
        picked
            .map(|picked| Attempt::start(picked, worker, now))
            .map_err(|none| self.no_pick(none, now))
    }

    /// Whether a request would find an endpoint now, whatever breakers say.
    #[must_use]
    pub fn has_usable(&self) -> bool {
        self.panics()
            || self
                .members
                .lock()
                .iter()
                .any(|member| member.health.is_usable())
    }

    /// Whether too few endpoints are usable, so that all within reach take requests.
    #[must_use]
    pub fn panics(&self) -> bool {
        self.selection.load().panics()
    }

    /// Times that an endpoint was ejected.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// Whether a request would find an endpoint now, asking those that no connection vouches for.
    pub async fn confirm_usable(&self) -> bool {
        for endpoint in self.members() {
            if endpoint.health.is_usable() && !endpoint.is_connected() {
                probe::confirm(&endpoint).await;
            }
        }
        self.has_usable()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<config::Cluster> {
        self.config.load_full()
    }

    /// What its endpoints speak.
    #[must_use]
    pub fn protocol(&self) -> config::Protocol {
        self.config.load().protocol
    }

    /// Tries that ended so, over all workers.
    #[must_use]
    pub fn attempts(&self, outcome: Outcome) -> u64 {
        self.counters.sum(outcome)
    }

    /// Requests in flight and requests that wait for a slot.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        let now = self.concurrency.view();
        (now.in_flight, now.waiting)
    }

    pub(crate) fn concurrency(&self) -> &Arc<Concurrency> {
        &self.concurrency
    }

    pub(crate) fn members(&self) -> Vec<Arc<Endpoint>> {
        self.members.lock().clone()
    }

    /// An endpoint for a try, but none of `tried`.
    pub(crate) fn select(&self, tried: &Tried, now: Instant) -> Result<Picked, NoPick> {
        let selection = self.selection.load();
        if selection.is_to_be_replaced(now) {
            drop(selection);
            self.reselect();
            return self.selection.load().pick(tried, &self.turns, now);
        }
        selection.pick(tried, &self.turns, now)
    }

    /// What a missing endpoint means to a call.
    pub(crate) fn no_pick(&self, none: NoPick, now: Instant) -> CallError {
        match none {
            NoPick::AllFull => CallError::Overloaded,
            NoPick::NoneUsable => CallError::NoHealthyUpstream(self.why_none_usable(now)),
            NoPick::AllRejected => self.all_rejected(now),
        }
    }

    pub(crate) fn outliers(&self) -> &Arc<Outliers> {
        &self.outliers
    }

    pub(crate) fn counted_ejection(&self) {
        self.ejections.fetch_add(1, Relaxed);
    }

    /// The live quantile of how long answers to a row's calls take, as long as anybody holds it.
    pub(crate) fn latencies_of(&self, row: &str, ratio: f64) -> Arc<LiveQuantile> {
        let mut all = self.latencies.lock();
        all.retain(|(_, _, live)| live.strong_count() > 0);
        let known = all
            .iter()
            .find(|(name, known, _)| name == row && *known == ratio);
        if let Some(live) = known.and_then(|(_, _, live)| live.upgrade()) {
            return live;
        }
        let live = Arc::new(LiveQuantile::new(LATENCY_WINDOW, ratio));
        all.push((row.to_owned(), ratio, Arc::downgrade(&live)));
        live
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.config.load().connect_timeout.get()
    }

    /// A line for people: three endpoints with their reasons.
    /// Whether no endpoint could be connected to just now.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        let members = self.members.lock();
        !members.iter().any(|member| member.health.is_within_reach())
    }

    fn why_none_usable(&self, now: Instant) -> Arc<str> {
        let members = self.members.lock();
        let reasons: Vec<_> = members
            .iter()
            .take(3)
            .map(|member| {
                let reasons = member.health.reasons(now).join(", ");
                format!("{}: {reasons}", member.name())
            })
            .collect();
        if members.is_empty() {
            let left_out = self.left_out();
            let reasons = left_out.iter().take(3).filter_map(|one| {
                let why = one.out.as_deref()?;
                Some(format!("{}: {why}", one.address))
            });
            let reasons: Vec<_> = reasons.collect();
            return if reasons.is_empty() {
                "it has no endpoints".into()
            } else {
                reasons.join("; ").into()
            };
        }
        let more = if members.len() > 3 {
            format!("; and {} more", members.len() - 3)
        } else {
            String::new()
        };
        format!("{}{more}", reasons.join("; ")).into()
    }

    /// For what, and when the next probe may pass.
    fn all_rejected(&self, now: Instant) -> CallError {
        let members = self.members.lock();
        let breakers = members
            .iter()
            .filter(|member| member.health.is_within_reach())
            .filter_map(|member| Some((member.name(), member.circuit.breaker()?)));
        let next = breakers.min_by_key(|(_, breaker)| breaker.opens_in(now));
        let Some((name, breaker)) = next else {
            // A reload has just taken the breakers away.
            let (why, opens_in) = ("they have just changed".into(), Duration::ZERO);
            return CallError::CircuitOpen { why, opens_in };
        };
        let opens_in = breaker.opens_in(now);
        let mut why = match opens_in {
            Duration::ZERO => format!("the probes of {name} are under way"),
            left => format!("the next probe in {left:.1?}, at {name}"),
        };
        if let Some(trip) = breaker.last_trip() {
            let _ = write!(why, ", where {trip}");
        }
        let why = why.into();
        CallError::CircuitOpen { why, opens_in }
    }

    pub(crate) fn reserve_connection(&self, endpoint: &Arc<Endpoint>) -> Option<Reservation> {
        let limits = self.config.load().limits;
        let most_of_endpoint = limits
            .per_endpoint
            .connections
            .map_or(usize::MAX, std::num::NonZeroUsize::get);
        let below = |most: usize| move |now| if now < most { Some(now + 1) } else { None };
        endpoint
            .reserved
            .fetch_update(AcqRel, Acquire, below(most_of_endpoint))
            .ok()?;
        if self
            .connections
            .fetch_update(AcqRel, Acquire, below(limits.connections.get()))
            .is_err()
        {
            endpoint.reserved.fetch_sub(1, AcqRel);
            return None;
        }
        Some(Reservation {
            total: Arc::clone(&self.connections),
            endpoint: Arc::clone(endpoint),
        })
    }

    /// Takes over a configuration; endpoints whose identity is unchanged stay.
    pub(crate) fn apply(self: &Arc<Self>, config: &Arc<config::Cluster>, runtime: &Handle) {
        self.config.store(Arc::clone(config));
        self.concurrency.set(config);
        self.retries.set(config);
        self.apply_members(config, runtime);
        self.watch_outliers(config.outlier_detection.as_ref(), runtime);
    }

    /// The configuration does not name it any more.
    pub(crate) fn retire(&self) {
        self.forget_outliers();
        let mut members = self.members.lock();
        let before = std::mem::take(&mut *members);
        self.publish(&members);
        drop(members);
        before.iter().for_each(|endpoint| endpoint.retire());
    }

    /// The health of an endpoint has changed.
    pub(crate) fn reselect(&self) {
        let members = self.members.lock();
        self.publish(&members);
        drop(members);
        self.changed.notify_one();
    }

    /// With the lock of the members held, so that the latest state is published last.
    pub(super) fn publish(&self, members: &[Arc<Endpoint>]) {
        let now = Instant::now();
        let selection = Selection::new(members, &self.config.load(), now);
        let panics = selection.panics();
        let before = self.selection.swap(Arc::new(selection));
        for endpoint in before
            .rejecting()
            .iter()
            .filter(|one| !one.circuit.rejects(now))
        {
            // By what is known of it, it would hardly be picked, and get no probe for long.
            endpoint.load.forget();
        }
        if before.panics() != panics {
            let usable = members
                .iter()
                .filter(|member| member.health.is_usable())
                .count();
            let (cluster, of) = (&*self.name, members.len());
            if panics {
                tracing::warn!(
                    cluster,
                    usable,
                    of,
                    "panic: too few endpoints are usable, all within reach take requests"
                );
            } else {
                tracing::info!(
                    cluster,
                    usable,
                    of,
                    "no panic any more: only usable endpoints take requests"
                );
            }
        }
    }
}

// === impl Reservation ===

impl Drop for Reservation {
    fn drop(&mut self) {
        self.total.fetch_sub(1, AcqRel);
        self.endpoint.reserved.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests;
