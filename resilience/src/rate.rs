//! Rate limits: the generic cell rate algorithm, one number to a bucket, and a bounded table of buckets.
//!
//! A bucket holds `burst` and is refilled evenly at `requests` in each `per`; a request that finds it empty is
//! refused and takes nothing. The number is the time at which the bucket will be full again (the "theoretical
//! arrival time" of <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>), so time needs no timer and a
//! bucket that nobody uses costs nothing.
//!
//! [`Buckets`] never holds more than [`MOST_KEYS`]: where a key finds no room, the bucket that is nearest to full
//! gives way. A full one is no different from one that was never there; another gives its key back what it had
//! used. So nobody is ever refused for want of room, and memory is bounded whatever clients send as keys. Keys are
//! kept as hashes under a secret of the process, so nobody can choose keys that fall together.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::{Clock, nanos};

/// Buckets that share a lock, and from which one gives way.
const WAYS: usize = 16;
const SETS: usize = 4096;
/// How many keys are told apart at once.
pub const MOST_KEYS: usize = SETS * WAYS;

/// A rate and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// Nanoseconds in which one request's worth flows in.
    interval: u64,
    burst: u32,
}

/// What a bucket says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub allowed: bool,
    /// What the bucket holds when it is full.
    pub limit: u32,
    /// How many more would pass right now.
    pub remaining: u32,
    /// When one more than `remaining` would pass; nothing while the bucket is full.
    pub reset_after: Duration,
    /// When a refused request would pass; zero for one that may.
    pub retry_after: Duration,
}

/// Buckets by key. Rate and burst come with each request, so that others may hold from one to the next.
#[derive(Debug)]
pub struct Buckets {
    clock: Clock,
    /// For the empty key: a limit that all requests share takes no lock.
    shared: AtomicU64,
    sets: Box<[Mutex<Vec<Bucket>>]>,
    secret: RandomState,
    evicted: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    key: u64,
    full_at: u64,
}

// === impl Gcra ===

impl Gcra {
    /// `requests` in each `per`, `burst` at once after a rest. A request's worth is rounded down to nanoseconds,
    /// so no rate is below what is stated; more than one in a nanosecond is one.
    #[must_use]
    pub fn new(requests: NonZeroU32, per: Duration, burst: NonZeroU32) -> Self {
        Self {
            interval: (nanos(per) / u64::from(requests.get())).max(1),
            burst: burst.get(),
        }
    }

    /// What a bucket that will be full at `full_at` says at `now`, and when it will be full then.
    fn ask(self, full_at: u64, now: u64) -> (Decision, u64) {
        let room = self.interval.saturating_mul(u64::from(self.burst));
        // A bucket that was larger before is now empty at most.
        let used = full_at.saturating_sub(now).min(room);
        let after = used.saturating_add(self.interval);
        let (allowed, used) = if after <= room {
            (true, after)
        } else {
            (false, used)
        };
        let next = now.saturating_add(used);
        (self.decision(allowed, Duration::from_nanos(used)), next)
    }

    /// The decision in words, of a bucket that will be full in `used` from now: for buckets that live elsewhere too.
    #[must_use]
    pub fn decision(self, allowed: bool, used: Duration) -> Decision {
        let used = nanos(used);
        let taken = used.div_ceil(self.interval);
        let remaining = u64::from(self.burst).saturating_sub(taken);
        // It holds one more when what is used has gone down to a whole number of requests, one less than now.
        let reset_after = match taken {
            0 => 0,
            taken => used.saturating_sub((taken - 1).saturating_mul(self.interval)),
        };
        let most = u64::from(self.burst - 1).saturating_mul(self.interval);
        Decision {
            allowed,
            limit: self.burst,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset_after: Duration::from_nanos(reset_after),
            retry_after: match allowed {
                true => Duration::ZERO,
                false => Duration::from_nanos(used.saturating_sub(most)),
            },
        }
    }

    /// In how long one request's worth flows in.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// What a full bucket holds.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }
}

// === impl Buckets ===

impl Buckets {
    /// All buckets full.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: Clock::start(),
            shared: AtomicU64::new(0),
            sets: (0..SETS).map(|_| Mutex::default()).collect(),
            secret: RandomState::new(),
            evicted: AtomicU64::new(0),
        }
    }

    /// Takes one out of the bucket of `key`, if it holds one.
    pub fn take(&self, gcra: Gcra, key: &[u8], now: Instant) -> Decision {
        let now = self.clock.nanos(now);
        match key {
            [] => self.take_shared(gcra, now),
            key => self.take_keyed(gcra, self.secret.hash_one(key), now),
        }
    }

    /// Buckets that have given way before they were full.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    fn take_shared(&self, gcra: Gcra, now: u64) -> Decision {
        let mut seen = self.shared.load(Acquire);
        loop {
            let (decision, next) = gcra.ask(seen, now);
            if !decision.allowed {
                return decision;
            }
            match self
                .shared
                .compare_exchange_weak(seen, next, AcqRel, Acquire)
            {
                Ok(_) => return decision,
                Err(newer) => seen = newer,
            }
        }
    }

    fn take_keyed(&self, gcra: Gcra, key: u64, now: u64) -> Decision {
        // The remainder is below SETS, which is a usize.
        let mut set = self.sets[(key % SETS as u64) as usize].lock();
        if let Some(bucket) = set.iter_mut().find(|bucket| bucket.key == key) {
            let (decision, next) = gcra.ask(bucket.full_at, now);
            if decision.allowed {
                bucket.full_at = next;
            }
            return decision;
        }
        let (decision, full_at) = gcra.ask(0, now);
        self.insert(&mut set, Bucket { key, full_at }, now);
        decision
    }

    fn insert(&self, set: &mut Vec<Bucket>, bucket: Bucket, now: u64) {
        if let Some(full) = set.iter_mut().find(|other| other.full_at <= now) {
            *full = bucket;
            return;
        }
        if set.len() < WAYS {
            set.push(bucket);
            return;
        }
        if let Some(fullest) = set.iter_mut().min_by_key(|other| other.full_at) {
            *fullest = bucket;
            self.evicted.fetch_add(1, Relaxed);
        }
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
