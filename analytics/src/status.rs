//! What the service tells of itself: `/status` and `GetStatus`, which give the same.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use proto::analytics::{GetStatusResponse, Lag as LagMessage};
use serde_json::{Value, json};
use service_kit::Readiness;

use crate::source::{Head, Lag};
use crate::tally::Tally;

/// The service's name.
pub const SERVICE: &str = "analytics";
/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The state, the source's head, and what else there is to tell.
pub struct ServiceStatus {
    tally: Arc<Tally>,
    readiness: Readiness,
    store: &'static str,
    source: OnceLock<(String, Box<dyn Head>)>,
    started_at: i64,
}

impl ServiceStatus {
    pub(crate) fn new(tally: Arc<Tally>, store: &'static str, readiness: Readiness) -> Self {
        Self {
            tally,
            readiness,
            store,
            source: OnceLock::new(),
            started_at: unix_seconds(),
        }
    }

    pub(crate) fn set_source(&self, name: &str, head: Box<dyn Head>) {
        if self.source.set((name.to_owned(), head)).is_err() {
            tracing::error!(source = name, "a second source is not counted in the lag");
        }
    }

    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Whether there is anything to be fed by.
    pub(crate) fn has_source(&self) -> bool {
        self.source.get().is_some()
    }

    /// How many partitions the events have, if that is known.
    pub(crate) fn partitions(&self) -> Option<u32> {
        self.source.get()?.1.partitions()
    }

    /// How far the answers are behind the events. Without a source there is nothing to be behind of.
    pub fn lag(&self) -> Lag {
        let lag = |(_, head): &(String, Box<dyn Head>)| head.lag(&self.tally.positions());
        self.source.get().map(lag).unwrap_or_default()
    }

    /// The unix second as of which a partition's answers are true: when nothing of it was unread last, or its newest event if
    /// there has been more since.
    pub(crate) fn as_of(&self, partition: u32, position: u64, newest: i64) -> i64 {
        let now = unix_seconds();
        match self.source.get() {
            Some((_, head)) => head.as_of(partition, position, newest, now),
            None => now,
        }
    }

    /// What `/status` adds to the keys that all programs have.
    pub fn to_json(&self) -> Value {
        let Lag { messages, seconds } = self.lag();
        let size = self.tally.size();
        json!({
            "store": self.store,
            "source": self.source.get().map(|(name, _)| name),
            "lag": {"messages": messages, "seconds": seconds},
            "counters": size.counters,
            "cells": size.cells,
            "memory_bytes": size.bytes,
            "partitions": self.tally.own(),
            "started_at": self.started_at,
        })
    }

    pub(crate) fn to_message(&self) -> GetStatusResponse {
        let Lag { messages, seconds } = self.lag();
        GetStatusResponse {
            service: SERVICE.to_owned(),
            version: VERSION.to_owned(),
            store: self.store.to_owned(),
            ready: self.readiness.is_ready(),
            waiting_for: self.readiness.waiting_for(),
            lag: Some(LagMessage { messages, seconds }),
            started_at: self.started_at,
            partitions: self.tally.own(),
        }
    }
}

impl fmt::Debug for ServiceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceStatus")
            .field("store", &self.store)
            .field("lag", &self.lag())
            .finish_non_exhaustive()
    }
}

/// The wall clock.
pub(crate) fn unix_seconds() -> i64 {
    unix_millis().div_euclid(1000)
}

/// The wall clock.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
