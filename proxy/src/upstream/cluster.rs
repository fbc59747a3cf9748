//! A cluster: its endpoints, the policy over them, its limits and its counts. The object lives as long as the
//! configuration names the cluster; a reload changes it in place, so that nothing learnt is lost.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use mesh_config::model::{self as config, Endpoints};
use parking_lot::Mutex;
use resilience::limiter::{Bounds, Limiter, Permit};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::attempts;
use super::counters::{Counters, Outcome};
use super::endpoint::Endpoint;
use super::error::CallError;
use super::method::Method;
use super::probe;
use super::reply::Reply;
use super::resolve;
use super::selection::{NoPick, Selection, Tried, Turns};

/// Requests that share a connection to a backend that speaks HTTP/2, unless it allows fewer.
pub(crate) const HTTP2_STREAMS: usize = 100;

/// Backends that do the same, under one name.
#[derive(Debug)]
pub struct Cluster {
    name: Arc<str>,
    config: ArcSwap<config::Cluster>,
    members: Mutex<Vec<Arc<Endpoint>>>,
    selection: ArcSwap<Selection>,
    turns: Turns,
    pub(crate) limiter: Arc<Limiter>,
    connections: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    retries: Retries,
    workers: usize,
}

/// Tries beyond the first, by why the one before failed.
#[derive(Debug, Default)]
struct Retries {
    connect: AtomicU64,
    refused: AtomicU64,
}

/// One unary call.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// What is called.
    pub method: &'a Method,
    /// Headers beside those of the method: ASCII metadata, and binary metadata already in base64.
    pub metadata: &'a [(HeaderName, HeaderValue)],
    /// The request message with its five-byte prefix.
    pub message: Bytes,
    /// When the caller has no use for an answer any more.
    pub deadline: Instant,
    /// How large the response message may be.
    pub max_response: usize,
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
        let selection = Selection::new(
            &[],
            config.load_balancing.policy,
            config.limits.per_endpoint,
        );
        Arc::new(Self {
            name: config.name.as_str().into(),
            config: ArcSwap::new(Arc::clone(config)),
            members: Mutex::default(),
            selection: ArcSwap::from_pointee(selection),
            turns: Turns::default(),
            limiter: Arc::new(Limiter::new(bounds(config))),
            connections: Arc::default(),
            counters: Arc::new(Counters::new(workers)),
            retries: Retries::default(),
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

    /// Waits for a free slot within the limits of the cluster; for callers that pick for themselves.
    ///
    /// # Errors
    /// `Overloaded` at once, or `DeadlineExceeded`.
    pub async fn admit(&self, deadline: Instant) -> Result<Permit<Arc<Limiter>>, CallError> {
        let permit = Limiter::acquire(Arc::clone(&self.limiter), deadline).await;
        permit.map_err(CallError::from)
    }

    /// Picks an endpoint for a request that is passed through, but none of `tried`.
    ///
    /// # Errors
    /// `NoHealthyUpstream` or `Overloaded`.
    pub fn pick(self: &Arc<Self>, worker: usize, tried: &Tried) -> Result<Attempt, CallError> {
        self.start(worker, tried, Instant::now(), None)
            .map_err(|none| match none {
                NoPick::AllFull => CallError::Overloaded,
                NoPick::NoneUsable => CallError::NoHealthyUpstream(self.why_none_usable()),
            })
    }

    /// Whether a request would find an endpoint now.
    #[must_use]
    pub fn has_usable(&self) -> bool {
        self.members
            .lock()
            .iter()
            .any(|member| member.health.is_usable())
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

    /// Tries that ended so, over all workers.
    #[must_use]
    pub fn attempts(&self, outcome: Outcome) -> u64 {
        self.counters.sum(outcome)
    }

    /// Tries beyond a call's first, by why the one before failed.
    #[must_use]
    pub fn retries(&self) -> [(&'static str, u64); 2] {
        [
            ("connect", self.retries.connect.load(Relaxed)),
            ("refused_stream", self.retries.refused.load(Relaxed)),
        ]
    }

    pub(crate) fn retried(&self, after: &CallError) {
        let cell = match after {
            CallError::Refused { .. } => &self.retries.refused,
            _ => &self.retries.connect,
        };
        cell.fetch_add(1, Relaxed);
    }

    /// Requests in flight and requests that wait for a slot.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        (self.limiter.in_flight(), self.limiter.waiting())
    }

    pub(crate) fn members(&self) -> Vec<Arc<Endpoint>> {
        self.members.lock().clone()
    }

    pub(crate) fn start(
        &self,
        worker: usize,
        tried: &Tried,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Attempt, NoPick> {
        let endpoint = self.selection.load().pick(tried, &self.turns, now)?;
        Ok(Attempt::start(endpoint, worker, now, deadline))
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.config.load().connect_timeout.get()
    }

    /// A line for people.
    pub(crate) fn why_none_usable(&self) -> Arc<str> {
        let members = self.members.lock();
        let reasons: Vec<_> = members
            .iter()
            .take(3)
            .map(|member| format!("{}: {}", member.name(), member.health.reasons().join(", ")))
            .collect();
        let more = if members.len() > 3 {
            format!("; and {} more", members.len() - 3)
        } else {
            String::new()
        };
        format!("{}{more}", reasons.join("; ")).into()
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
        let Endpoints::Static(wanted) = &config.endpoints;
        self.config.store(Arc::clone(config));
        self.limiter.set(bounds(config));
        let mut members = self.members.lock();
        let mut before = std::mem::take(&mut *members);
        for target in wanted {
            let known = before
                .iter()
                .position(|endpoint| endpoint.is(&target.address, config.protocol));
            let endpoint = known.map_or_else(
                || self.new_endpoint(target, config.protocol, runtime),
                |index| before.swap_remove(index),
            );
            endpoint.set_weight(target.weight.get());
            members.push(endpoint);
        }
        self.publish(&members);
        drop(members);
        before.iter().for_each(|endpoint| endpoint.retire());
    }

    /// The configuration does not name it any more.
    pub(crate) fn retire(&self) {
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
    }

    /// With the lock of the members held, so that the latest state is published last.
    fn publish(&self, members: &[Arc<Endpoint>]) {
        let config = self.config.load();
        let selection = Selection::new(
            members,
            config.load_balancing.policy,
            config.limits.per_endpoint,
        );
        self.selection.store(Arc::new(selection));
    }

    fn new_endpoint(
        self: &Arc<Self>,
        target: &config::Endpoint,
        protocol: config::Protocol,
        runtime: &Handle,
    ) -> Arc<Endpoint> {
        let endpoint = Endpoint::new(self, &target.address, protocol, self.workers);
        if target.address.socket_addr().is_none() {
            resolve::keep_resolved(&endpoint, runtime);
        }
        endpoint
    }
}

/// What the limits mean for requests. Those that are passed through wait for a connection as they wait for a
/// slot: no more are let in than the connections that are allowed can carry.
fn bounds(config: &config::Cluster) -> Bounds {
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

// === impl Reservation ===

impl Drop for Reservation {
    fn drop(&mut self) {
        self.total.fetch_sub(1, AcqRel);
        self.endpoint.reserved.fetch_sub(1, AcqRel);
    }
}
