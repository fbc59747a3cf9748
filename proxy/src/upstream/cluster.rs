//! A cluster: its endpoints, the policy over them, its limits and its counts. The object lives as long as the
//! configuration names the cluster; a reload changes it in place, so that nothing learnt is lost.

mod calls;

use std::fmt::Write;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
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

use self::calls::SentIn;
use super::aim::Aim;
use super::attempt::Attempt;
use super::checks::{CheckCounts, CheckOutcome};
use super::concurrency::Concurrency;
use super::control::Control;
use super::counters::{Counters, Outcome};
use super::endpoint::Endpoint;
use super::error::CallError;
use super::http::Pools;
use super::membership::Found;
use super::outliers::Outliers;
use super::probe;
use super::publishing::{Publisher, Selections};
use super::retries::Retries;
use super::selection::{NoPick, Picked, Setting, Tried, Turns};

/// How far back the latencies count that hedges wait for.
const LATENCY_WINDOW: Duration = Duration::from_secs(60);

/// Requests that share a connection to a backend that speaks HTTP/2, unless it allows fewer.
pub(crate) const HTTP2_STREAMS: usize = 100;

/// Backends that do the same, under one name.
#[derive(Debug)]
pub struct Cluster {
    me: Weak<Self>,
    name: Arc<str>,
    config: ArcSwap<config::Cluster>,
    pub(super) members: Mutex<Vec<Arc<Endpoint>>>,
    /// Those that discovery knows and that take no requests.
    pub(super) left_out: ArcSwap<Vec<Found>>,
    /// Told whenever the selection changes.
    pub(super) changed: Arc<Notify>,
    pub(super) selections: ArcSwap<Selections>,
    pub(super) publisher: Publisher,
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
    checks: CheckCounts,
    /// Connections that are not used any more will be closed.
    pub(super) trimming: AtomicBool,
    pub(super) workers: usize,
    control: Arc<Control>,
    /// What messages to its backends are encoded in.
    coding: SentIn,
}

/// The right to one connection, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    total: Arc<AtomicUsize>,
    endpoint: Arc<Endpoint>,
}

// === impl Cluster ===

impl Cluster {
    pub(crate) fn new(config: &Arc<config::Cluster>, control: &Arc<Control>) -> Arc<Self> {
        Self::named(config.name.as_str().into(), config, control)
    }

    /// One that is called otherwise than its configuration says.
    pub(crate) fn named(
        name: Arc<str>,
        config: &Arc<config::Cluster>,
        control: &Arc<Control>,
    ) -> Arc<Self> {
        let workers = control.workers;
        let setting = Setting {
            config,
            place: &config.place,
            subset: None,
            now: Instant::now(),
        };
        let selections = Selections::none(&setting);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            name,
            config: ArcSwap::new(Arc::clone(config)),
            members: Mutex::default(),
            left_out: ArcSwap::default(),
            changed: Arc::default(),
            selections: ArcSwap::from_pointee(selections),
            publisher: Publisher::default(),
            turns: Turns::default(),
            concurrency: Arc::new(Concurrency::new(config)),
            http: Pools::default(),
            connections: Arc::default(),
            counters: Arc::new(Counters::new(workers)),
            retries: Retries::new(config),
            outliers: Arc::new(Outliers::new()),
            ejections: AtomicU64::new(0),
            latencies: Mutex::default(),
            checks: CheckCounts::default(),
            trimming: AtomicBool::new(false),
            workers,
            control: Arc::clone(control),
            coding: SentIn::new(config),
        })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
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
    pub fn pick(
        self: &Arc<Self>,
        worker: usize,
        tried: &Tried,
        aim: Aim<'_>,
    ) -> Result<Attempt, CallError> {
        let now = Instant::now();
        let picked = self.select(tried, aim, now);
        picked
            .map(|picked| Attempt::start(picked, worker, now))
            .map_err(|none| self.no_pick(none, aim, now))
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
        self.selections.load().all().panics()
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

    /// Health checks that ended so.
    #[must_use]
    pub fn health_checks(&self, outcome: CheckOutcome) -> u64 {
        self.checks.get(outcome)
    }

    pub(crate) fn check_counts(&self) -> &CheckCounts {
        &self.checks
    }

    /// Itself, for work that must not keep it.
    pub(crate) fn downgraded(&self) -> Weak<Self> {
        Weak::clone(&self.me)
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Connections that are open or being opened.
    pub(crate) fn reserved_connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// The endpoints that take requests now.
    pub(crate) fn used(&self) -> Vec<Arc<Endpoint>> {
        self.selections.load().endpoints()
    }

    pub(crate) fn concurrency(&self) -> &Arc<Concurrency> {
        &self.concurrency
    }

    pub(crate) fn members(&self) -> Vec<Arc<Endpoint>> {
        self.members.lock().clone()
    }

    /// An endpoint for a try, but none of `tried`.
    pub(crate) fn select(
        &self,
        tried: &Tried,
        aim: Aim<'_>,
        now: Instant,
    ) -> Result<Picked, NoPick> {
        let mut selections = self.selections.load();
        let due = |selections: &Selections| {
            let selection = selections.of(aim.subset);
            selection.is_some_and(|selection| selection.is_to_be_replaced(now))
        };
        if due(&selections) {
            drop(selections);
            self.reselect();
            selections = self.selections.load();
        }
        let selection = selections.of(aim.subset).ok_or(NoPick::NoneUsable)?;
        let picked = selection.pick(tried, aim.key, &self.turns, now)?;
        if let Some(near) = picked.near {
            self.publisher.picked(near);
        }
        Ok(picked)
    }

    /// What a missing endpoint means to a call.
    pub(crate) fn no_pick(&self, none: NoPick, aim: Aim<'_>, now: Instant) -> CallError {
        match none {
            NoPick::AllFull => CallError::Overloaded,
            NoPick::NoneUsable => CallError::NoHealthyUpstream(self.why_none_usable(aim, now)),
            NoPick::AllRejected => self.all_rejected(aim, now),
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

    /// Whether no endpoint could be connected to just now.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        let members = self.members.lock();
        !members.iter().any(|member| member.health.is_within_reach())
    }

    /// A line for people: three endpoints with their reasons.
    fn why_none_usable(&self, aim: Aim<'_>, now: Instant) -> Arc<str> {
        let mut members = self.members();
        if let Some(subset) = aim.subset {
            members.retain(|one| subset.has(&one.labels()));
            if members.is_empty() {
                return format!("no endpoint is of the subset {subset}").into();
            }
        }
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
        let whose = aim
            .subset
            .map_or_else(String::new, |subset| format!("of the subset {subset}: "));
        format!("{whose}{}{more}", reasons.join("; ")).into()
    }

    /// For what, and when the next probe may pass.
    fn all_rejected(&self, aim: Aim<'_>, now: Instant) -> CallError {
        let members = self.members.lock();
        let asked =
            |member: &&Arc<Endpoint>| aim.subset.is_none_or(|subset| subset.has(&member.labels()));
        let breakers = members
            .iter()
            .filter(asked)
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

    /// Lets go of the connections to endpoints that take no requests, if there may be no more connections: somebody needs
    /// one to an endpoint that does.
    pub(crate) fn make_room(&self) {
        if self.connections.load(Relaxed) < self.config.load().limits.connections.get() {
            return;
        }
        let used = self.used();
        let is_used = |one: &Arc<Endpoint>| used.iter().any(|other| Arc::ptr_eq(one, other));
        for endpoint in self.members() {
            if endpoint.reserved.load(Relaxed) > 0
                && endpoint.load.in_flight() == 0
                && !is_used(&endpoint)
            {
                endpoint.let_go();
            }
        }
    }

    /// Takes over a configuration; endpoints whose identity is unchanged stay.
    pub(crate) fn apply(self: &Arc<Self>, config: &Arc<config::Cluster>, runtime: &Handle) {
        self.config.store(Arc::clone(config));
        self.coding.set(config);
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
        drop(members);
        self.publish();
        before.iter().for_each(|endpoint| endpoint.retire());
    }
}

// === impl Reservation ===

impl Drop for Reservation {
    fn drop(&mut self) {
        self.total.fetch_sub(1, AcqRel);
        // Nobody is called: the connection is about to close, and has to before there is another one.
        self.endpoint.reserved.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests;
