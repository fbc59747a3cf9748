//! How many requests of a route are let in: decided at the door, before a body is read, where the bucket is in
//! this process; a bucket in Redis is asked when the body is there.
//!
//! Buckets and numbers outlive a reload as long as the route and its `key` stay. A store that does not answer in
//! time is not waited for: `when_away` says what holds then. Refused: keys in the clear in Redis, because
//! headers may carry secrets.

mod fields;
mod key;
mod link;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mesh_config::Snapshot;
use mesh_config::model::{self, RateKey, RateStore, Route, WhenAway};
use parking_lot::Mutex;
use resilience::rate::{Buckets, Decision, Gcra};
use service_kit::Readiness;
use tokio::runtime::Handle;
use tokio::time::Instant;

use self::fields::Fields;
use self::key::Key;
pub(crate) use self::key::Keyed;
use self::store::{Place, Store};
use crate::edge::Headers;
use crate::error::GatewayError;

/// The limit of one route.
#[derive(Debug)]
pub(crate) struct RouteLimit {
    gcra: Gcra,
    key: Key,
    fields: Fields,
    kept: Arc<Remembered>,
    global: Option<Global>,
}

/// Where a limit is counted for all gateways together.
#[derive(Debug)]
struct Global {
    store: Arc<Store>,
    place: Place,
    when_away: WhenAway,
}

/// What a route's limit has learnt.
#[derive(Debug, Default)]
struct Remembered {
    key: Vec<RateKey>,
    buckets: Buckets,
    limited: AtomicU64,
    away: AtomicU64,
}

/// What a request was told at the door.
#[derive(Debug)]
pub(crate) enum Ticket {
    /// Its route has no limit.
    Free,
    /// It has been counted.
    Counted(Decision),
    /// It is still to be counted in the store, under this key.
    Pending(Box<[u8]>),
    /// The store is away, and it was let in without being counted.
    Uncounted,
}

/// The limits of all routes, over reloads.
#[derive(Debug)]
pub struct RateLimits {
    runtime: Handle,
    readiness: Readiness,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    routes: BTreeMap<String, Arc<Remembered>>,
    /// By URL, which is not shown.
    stores: BTreeMap<String, Arc<Store>>,
}

/// The numbers of one route's limit.
#[derive(Debug)]
pub struct LimitView {
    /// The route.
    pub route: String,
    /// Requests that were refused.
    pub limited: u64,
    /// Requests that were decided without the store.
    pub away: u64,
    /// Buckets that gave way before they were full.
    pub evicted: u64,
}

/// A store as pages and metrics show it.
#[derive(Debug)]
pub struct StoreView {
    /// Its address, without a password.
    pub store: String,
    /// Whether it answers.
    pub up: bool,
}

/// Counts what is still to be counted; a route without a limit lets everything in.
pub(crate) async fn settle(
    limit: Option<&RouteLimit>,
    ticket: &mut Ticket,
) -> Result<(), GatewayError> {
    match (limit, &ticket) {
        (Some(limit), Ticket::Pending(_)) => limit.settle(ticket).await,
        _ => Ok(()),
    }
}

// === impl RouteLimit ===

impl RouteLimit {
    /// Counts a request that has just come, or says that it is to be counted later.
    pub(crate) fn enter(&self, request: &Keyed<'_>, now: Instant) -> Result<Ticket, Decision> {
        let key = self.key.of(request);
        match self.global {
            Some(_) => Ok(Ticket::Pending(key.as_slice().into())),
            None => self.count_here(&key, now),
        }
    }

    /// Counts what is still to be counted.
    async fn settle(&self, ticket: &mut Ticket) -> Result<(), GatewayError> {
        let (Ticket::Pending(key), Some(global)) = (&*ticket, &self.global) else {
            return Ok(());
        };
        let decision = match global.store.take(&global.place, key, self.gcra).await {
            Ok(decision) => decision,
            Err(_) => {
                self.kept.away.fetch_add(1, Relaxed);
                match global.when_away {
                    WhenAway::Local => self.kept.buckets.take(self.gcra, key, Instant::now()),
                    WhenAway::Allow => {
                        *ticket = Ticket::Uncounted;
                        return Ok(());
                    }
                    WhenAway::Refuse => {
                        *ticket = Ticket::Uncounted;
                        return Err(GatewayError::RateStoreAway);
                    }
                }
            }
        };
        *ticket = Ticket::Counted(decision);
        match decision.allowed {
            true => Ok(()),
            false => Err(self.refused(decision)),
        }
    }

    /// Adds what a client is told of the limit.
    pub(crate) fn describe(&self, ticket: &Ticket, headers: &mut Headers) {
        self.fields.add(ticket, headers);
    }

    /// The error of a request that was refused.
    pub(crate) fn refused(&self, decision: Decision) -> GatewayError {
        self.kept.limited.fetch_add(1, Relaxed);
        GatewayError::RateLimited(fields::whole_seconds(decision.retry_after))
    }

    fn count_here(&self, key: &[u8], now: Instant) -> Result<Ticket, Decision> {
        let decision = self.kept.buckets.take(self.gcra, key, now);
        match decision.allowed {
            true => Ok(Ticket::Counted(decision)),
            false => Err(decision),
        }
    }
}

// === impl RateLimits ===

impl RateLimits {
    /// No limits yet; connections to stores will be kept up on `runtime`.
    pub fn new(runtime: Handle, readiness: Readiness) -> Self {
        Self {
            runtime,
            readiness,
            known: Mutex::default(),
        }
    }

    /// The limit of a route, with what it has learnt.
    pub(crate) fn of(&self, route: &Route) -> Option<RouteLimit> {
        let limit = route.rate_limit.as_ref()?;
        let mut known = self.known.lock();
        let name = route.name.as_str();
        Some(RouteLimit {
            gcra: Gcra::new(limit.requests, limit.per.get(), limit.burst),
            key: Key::new(&limit.key),
            fields: Fields::new(name, limit),
            kept: known.route(name, &limit.key),
            global: self.global(&mut known, name, limit),
        })
    }

    fn global(&self, known: &mut Known, name: &str, limit: &model::RateLimit) -> Option<Global> {
        let RateStore::Redis(url) = &limit.store else {
            return None;
        };
        let start = || Arc::new(Store::start(url, &self.runtime, &self.readiness));
        let store = known
            .stores
            .entry(url.expose().to_owned())
            .or_insert_with(start);
        Some(Global {
            store: store.clone(),
            place: Place::of(name),
            when_away: limit.when_away,
        })
    }

    /// Forgets routes and stores that a configuration does not have any more.
    pub(crate) fn retain(&self, snapshot: &Snapshot) {
        let limits = || {
            snapshot
                .routes
                .iter()
                .filter_map(|route| Some((route, route.rate_limit.as_ref()?)))
        };
        let mut known = self.known.lock();
        known
            .routes
            .retain(|name, _| limits().any(|(route, _)| route.name.as_str() == name));
        known.stores.retain(|known, _| {
            limits().any(
                |(_, limit)| matches!(&limit.store, RateStore::Redis(url) if url.expose() == known),
            )
        });
    }

    /// The numbers of every limit.
    pub fn limits(&self) -> Vec<LimitView> {
        let known = self.known.lock();
        let view = |(route, kept): (&String, &Arc<Remembered>)| LimitView {
            route: route.clone(),
            limited: kept.limited.load(Relaxed),
            away: kept.away.load(Relaxed),
            evicted: kept.buckets.evicted(),
        };
        known.routes.iter().map(view).collect()
    }

    /// Every store.
    pub fn stores(&self) -> Vec<StoreView> {
        let known = self.known.lock();
        known.stores.values().map(|store| store.view()).collect()
    }
}

// === impl Known ===

impl Known {
    fn route(&mut self, name: &str, key: &[RateKey]) -> Arc<Remembered> {
        let kept = self.routes.entry(name.to_owned()).or_default();
        if kept.key != key {
            *kept = Arc::new(Remembered {
                key: key.to_vec(),
                ..Remembered::default()
            });
        }
        kept.clone()
    }
}

/// A limit in words, for `explain`.
pub(crate) fn in_words(limit: &model::RateLimit) -> String {
    let keys: Vec<String> = limit.key.iter().map(ToString::to_string).collect();
    let bucket = match keys.is_empty() {
        true => "for the whole route".to_owned(),
        false => format!("for each {}", keys.join(", ")),
    };
    let where_counted = match &limit.store {
        RateStore::Local => "counted here".to_owned(),
        RateStore::Redis(url) => format!(
            "counted in {url}, `{}` while that is away",
            limit.when_away.as_str()
        ),
    };
    format!(
        "{} requests in {:?}, {} at once, {bucket}; {where_counted}; more get 429",
        limit.requests,
        limit.per.get(),
        limit.burst
    )
}
