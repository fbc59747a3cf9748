//! When a process has too much to do, and whom it turns away then: the least important first, and everybody
//! only when that was not enough.
//!
//! Each resource has three marks. At its bound requests of low priority are shed; beyond a second and a third
//! mark normal and high ones too. Up at once, down one priority at a time and only after the pressure has been clear
//! of the mark for [`HOLD`], so that it does not flutter. Refused: guessing, so a resource without a bound counts
//! for nothing.
//!
//! | resource | low | normal | high |
//! |---|---|---|---|
//! | memory | at the bound | 10 % above | 20 % above |
//! | loop lag | at the bound | twice | four times |
//! | connections | at the bound | a third of the way from there to all | two thirds |

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the pressure must be low before more is let in.
pub const HOLD: Duration = Duration::from_secs(1);
/// How far below a mark is clear of it.
const CLEAR: f64 = 0.9;
/// How far above its bound memory reaches the second mark, and again the third.
const MEMORY_STEP: f64 = 0.1;

/// From when on a resource is short. `None`: it is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// Bytes in RAM.
    pub memory: Option<u64>,
    /// How late timers of the event loop are.
    pub loop_lag: Option<Duration>,
    /// Share of the connections that may be open.
    pub connections: Option<f64>,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// Bytes in RAM.
    pub memory: u64,
    /// How late timers of the event loop are.
    pub loop_lag: Duration,
    /// Share of the connections that may be open.
    pub connections: f64,
}

/// How important a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Shed first.
    Low,
    /// Shed next.
    Normal,
    /// Shed last.
    High,
}

/// Who is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nobody.
    None,
    /// Low priority.
    Low,
    /// Low and normal.
    Normal,
    /// Everybody.
    All,
}

/// A resource that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes in RAM.
    Memory,
    /// Lateness of timers.
    LoopLag,
    /// Open connections.
    Connections,
}

/// A change of level, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The level before.
    pub from: Level,
    /// The level now.
    pub to: Level,
    /// The resource that is shortest.
    pub by: Resource,
}

/// Watches the pressure. Asking is one load; one task tells it what is used.
#[derive(Debug)]
pub struct Overload {
    level: AtomicU8,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    bounds: Bounds,
    /// Since when the pressure is clear of the mark of the level.
    clear_since: Option<Instant>,
}

// === impl Overload ===

impl Overload {
    /// Nobody is turned away yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            level: AtomicU8::new(Level::None as u8),
            watched: Mutex::new(Watched {
                bounds,
                clear_since: None,
            }),
        }
    }

    /// Whether a request of that priority is turned away now.
    #[must_use]
    pub fn sheds(&self, priority: Priority) -> bool {
        self.level.load(Relaxed) > priority as u8
    }

    /// Who is turned away now.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::of(self.level.load(Relaxed))
    }

    /// The bounds in force.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.watched.lock().bounds
    }

    /// Other bounds; they count from the next observation on.
    pub fn set(&self, bounds: Bounds) {
        self.watched.lock().bounds = bounds;
    }

    /// What is used at `now`.
    pub fn observe(&self, pressure: Pressure, now: Instant) -> Option<Change> {
        let mut watched = self.watched.lock();
        let from = self.level();
        let (reached, by) = watched.bounds.highest(&pressure, 1.0);
        let (held, _) = watched.bounds.highest(&pressure, CLEAR);
        let to = if reached > from {
            watched.clear_since = None;
            reached
        } else if held >= from {
            watched.clear_since = None;
            from
        } else {
            let since = *watched.clear_since.get_or_insert(now);
            if now.saturating_duration_since(since) < HOLD {
                return None;
            }
            watched.clear_since = None;
            Level::of(from as u8 - 1)
        };
        self.level.store(to as u8, Relaxed);
        (to != from).then_some(Change { from, to, by })
    }
}

// === impl Bounds ===

impl Bounds {
    /// The highest level whose mark, scaled by `scale`, is reached, and the resource that is furthest.
    fn highest(&self, pressure: &Pressure, scale: f64) -> (Level, Resource) {
        let reached = |resource| (self.level(resource, pressure, scale), resource);
        [Resource::LoopLag, Resource::Memory, Resource::Connections]
            .map(reached)
            .into_iter()
            .max_by_key(|(level, _)| *level)
            .unwrap_or((Level::None, Resource::Memory))
    }

    fn level(&self, resource: Resource, pressure: &Pressure, scale: f64) -> Level {
        let Some(marks) = self.marks(resource) else {
            return Level::None;
        };
        let used = match resource {
            Resource::Memory => pressure.memory as f64,
            Resource::LoopLag => pressure.loop_lag.as_secs_f64(),
            Resource::Connections => pressure.connections,
        };
        let reached = marks.iter().filter(|mark| used >= **mark * scale).count();
        Level::of(u8::try_from(reached).unwrap_or_default())
    }

    /// From where on low, normal and high priority are shed.
    fn marks(&self, resource: Resource) -> Option<[f64; 3]> {
        match resource {
            Resource::Memory => self
                .memory
                .map(|bound| [0.0, 1.0, 2.0].map(|step| bound as f64 * (1.0 + step * MEMORY_STEP))),
            Resource::LoopLag => self
                .loop_lag
                .map(|bound| [1.0, 2.0, 4.0].map(|times| bound.as_secs_f64() * times)),
            Resource::Connections => self
                .connections
                .map(|bound| [0.0, 1.0, 2.0].map(|third| bound + (1.0 - bound) * third / 3.0)),
        }
    }
}

// === impl Level ===

impl Level {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Low,
            2 => Self::Normal,
            _ => Self::All,
        }
    }

    /// A word for metrics, pages and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Low => "low",
            Self::Normal => "low and normal",
            Self::All => "low, normal and high",
        }
    }
}

// === impl Priority ===

impl Priority {
    /// All of them, in the order in which they are shed.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// A word for metrics, pages and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

// === impl Resource ===

impl Resource {
    /// A word for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::LoopLag => "event loop lag",
            Self::Connections => "open connections",
        }
    }
}

#[cfg(test)]
mod tests;
