//! The overload manager: looks at memory, open connections and the lateness of the workers' event loops ten times a
//! second, and tells the door which priorities to turn away.
//!
//! What counts as too much, and how it comes back, is [`resilience::overload`]'s. The log has a line for each
//! change, never for a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mesh_config::model;
use parking_lot::Mutex;
use resilience::overload::{Bounds, Change, Level, Overload, Pressure, Priority};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::edge::Stats;

/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(100);

/// Who is turned away, and how many have been.
#[derive(Debug)]
pub struct Shedding {
    overload: Overload,
    shed: [AtomicU64; Priority::ALL.len()],
    last: Mutex<Pressure>,
}

impl Shedding {
    /// Nobody is turned away yet.
    pub fn new(config: &model::Overload) -> Self {
        Self {
            overload: Overload::new(bounds(config)),
            shed: Default::default(),
            last: Mutex::default(),
        }
    }

    /// Other bounds from now on.
    pub(crate) fn set(&self, config: &model::Overload) {
        self.overload.set(bounds(config));
    }

    /// Whether a request of that priority is turned away; it counts as such then.
    pub(crate) fn turns_away(&self, priority: Priority) -> bool {
        let shed = self.overload.sheds(priority);
        if shed {
            self.shed[priority as usize].fetch_add(1, Relaxed);
        }
        shed
    }

    /// Looks at the process for as long as it is polled. `most`: connections that may be open.
    pub(crate) async fn watch(self: Arc<Self>, edge: Arc<Stats>, most: usize) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let pressure = self.pressure(&edge, most, now);
            *self.last.lock() = pressure;
            if let Some(change) = self.overload.observe(pressure, now) {
                tell(change, pressure);
            }
        }
    }

    fn pressure(&self, edge: &Stats, most: usize, now: Instant) -> Pressure {
        let looked_at = self.overload.bounds().memory.is_some();
        let memory = looked_at.then(service_kit::metrics::resident_memory);
        Pressure {
            memory: memory.flatten().unwrap_or_default(),
            loop_lag: edge.lag(now),
            connections: edge.open() as f64 / most.max(1) as f64,
        }
    }

    /// Requests that have been turned away, by priority.
    pub(crate) fn shed(&self) -> [(&'static str, u64); Priority::ALL.len()] {
        Priority::ALL.map(|priority| {
            (
                priority.as_str(),
                self.shed[priority as usize].load(Relaxed),
            )
        })
    }

    /// Who is turned away now.
    pub(crate) fn level(&self) -> Level {
        self.overload.level()
    }

    /// What was used when it was last looked at.
    pub(crate) fn pressure_seen(&self) -> Pressure {
        *self.last.lock()
    }

    /// A line for `explain`; nothing while nobody is turned away.
    pub(crate) fn in_words(&self) -> String {
        match self.level() {
            Level::None => String::new(),
            level => format!(
                "overload   requests of these priorities are turned away now: {}\n",
                level.as_str()
            ),
        }
    }

    /// For the status page.
    pub(crate) fn json(&self) -> Value {
        let (bounds, seen) = (self.overload.bounds(), self.pressure_seen());
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        let mut shed = serde_json::Map::new();
        for (priority, count) in self.shed() {
            shed.insert(priority.to_owned(), count.into());
        }
        json!({
            "shedding": self.level().as_str(),
            "shed": shed,
            "memory": { "bytes": bounds.memory.map(|_| seen.memory), "bound": bounds.memory },
            "loop_lag": { "ms": millis(seen.loop_lag), "bound": bounds.loop_lag.map(millis) },
            "connections": { "share": seen.connections, "bound": bounds.connections },
        })
    }
}

fn bounds(config: &model::Overload) -> Bounds {
    Bounds {
        memory: config.memory.map(|bytes| bytes.get() as u64),
        loop_lag: config.loop_lag.map(model::Timeout::get),
        connections: config.connections.map(|share| share.ratio()),
    }
}

fn tell(change: Change, seen: Pressure) {
    let (before, now) = (change.from.as_str(), change.to.as_str());
    let Pressure {
        memory,
        loop_lag,
        connections,
    } = seen;
    if change.to > change.from {
        let short_of = change.by.as_str();
        tracing::warn!(
            before,
            now,
            short_of,
            memory,
            ?loop_lag,
            connections,
            "overloaded: requests of these priorities are turned away"
        );
    } else {
        tracing::info!(
            before,
            now,
            "less overloaded: requests of these priorities are turned away"
        );
    }
}
