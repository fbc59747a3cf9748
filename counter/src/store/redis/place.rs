//! Where things stand in Redis: the keys that are used together with a counter, and what is known of them.
//!
//! A place is a set of keys that share a hash tag: where idempotency keys stand, where the outbox stands. Alone, one Redis has
//! one place for all counters. In a cluster each slot has its own, with a tag that hashes to that slot, so that a script can
//! use them together with the slot's counters.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::script::Others;
use super::slot;
use crate::idempotency::Origin;

/// Keys that are used together, and what a script told of them last.
pub(super) struct Place {
    tag: Box<str>,
    keys: [Box<str>; Origin::ALL.len()],
    outbox: Box<str>,
    bytes: [AtomicU64; Origin::ALL.len()],
    unsent: AtomicU64,
    /// Calls since `unsent` was true; 0 if it never was.
    calls: AtomicU32,
}

/// Room for events that nobody fills before somebody looks: see [`Place::has_plenty`].
const PLENTY: u64 = 1_000_000;
/// Calls that may go out in a row without a look at the outbox.
const UNSEEN: u32 = 16;

impl Place {
    /// The place of this tag.
    pub(super) fn new(tag: &str) -> Self {
        let key = |name: &str| format!("{{{tag}}}:{name}").into_boxed_str();
        Self {
            tag: tag.into(),
            keys: Origin::ALL.map(|origin| key(&format!("keys:{}", origin.label()))),
            outbox: key("outbox"),
            bytes: Default::default(),
            unsent: AtomicU64::new(0),
            calls: AtomicU32::new(0),
        }
    }

    /// The hash that says where the idempotency keys of an origin stand.
    pub(super) fn keys(&self, origin: Origin) -> &str {
        &self.keys[origin as usize]
    }

    /// The hash that says where the outbox stands; its events are in the streams named after it.
    pub(super) fn outbox(&self) -> &str {
        &self.outbox
    }

    /// The stream of a shard.
    pub(super) fn stream(&self, shard: u32) -> String {
        format!("{}:{shard}", self.outbox)
    }

    /// The hash of what `migrate` brought in of each counter.
    pub(super) fn imported(&self) -> String {
        format!("{{{}}}:imported", self.tag)
    }

    /// A key that is written so that `WAIT` has something to wait for.
    pub(super) fn mark(&self) -> String {
        format!("{{{}}}:mark", self.tag)
    }

    /// Bytes that the keys of each origin take.
    pub(super) fn bytes(&self) -> [u64; Origin::ALL.len()] {
        let load = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        self.bytes.each_ref().map(load)
    }

    pub(super) fn set_bytes(&self, origin: Origin, bytes: u64) {
        self.bytes[origin as usize].store(bytes, Ordering::Relaxed);
    }

    /// Events in the outbox, as far as is known here.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    pub(super) fn set_unsent(&self, events: u64) {
        self.unsent.store(events, Ordering::Relaxed);
        self.calls.store(1, Ordering::Relaxed);
    }

    /// Whether the outbox, of which this is the bound, has room for sure for what is about to be sent. A look costs as much as
    /// some increments, so a call goes without one if a million events had room a few calls ago. Calls have 512 events at most,
    /// so that a service exceeds the bound by 7,680 at worst, and only if others fill the outbox meanwhile.
    pub(super) fn has_plenty(&self, bound: u64) -> bool {
        let left = bound.saturating_sub(self.unsent());
        let calls = self.calls.load(Ordering::Relaxed);
        if calls == 0 || calls >= UNSEEN || left < PLENTY {
            return false;
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        true
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.tag)
    }
}

/// All places of a Redis, made when they are first needed.
pub(super) struct Places(Box<[OnceLock<Arc<Place>>]>);

impl Places {
    /// The one place of a Redis that is no cluster.
    pub(super) fn one() -> Self {
        Self(Box::new([OnceLock::new()]))
    }

    /// A place for each slot of a cluster.
    pub(super) fn by_slot() -> Self {
        Self((0..slot::COUNT).map(|_| OnceLock::new()).collect())
    }

    /// How many there can be.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The number of the place where this key of Redis stands.
    pub(super) fn of(&self, key: &str) -> usize {
        if self.0.len() == 1 {
            return 0;
        }
        usize::from(slot::of(key.as_bytes()))
    }

    /// The place with this number.
    pub(super) fn get(&self, number: usize) -> Arc<Place> {
        let alone = self.0.len() == 1;
        let make = || {
            if alone {
                return Arc::new(Place::new("highpress"));
            }
            // A cluster has so many slots that the numbers fit.
            Arc::new(Place::new(&slot::tag(number as u16)))
        };
        match self.0.get(number) {
            Some(place) => place.get_or_init(make).clone(),
            None => make(),
        }
    }

    /// What is known to be in all places but this one.
    pub(super) fn others(&self, place: &Place) -> Others {
        let mut others = Others::default();
        if self.0.len() == 1 {
            others.are_none = true;
            return others;
        }
        let mine = |other: &Arc<Place>| std::ptr::eq(&**other, place);
        for other in self.used().filter(|other| !mine(other)) {
            for (sum, bytes) in others.bytes.iter_mut().zip(other.bytes()) {
                *sum += bytes;
            }
            others.unsent += other.unsent();
        }
        others
    }

    /// Whether the place with this number was used so far.
    pub(super) fn is_used(&self, number: usize) -> bool {
        self.0
            .get(number)
            .is_some_and(|place| place.get().is_some())
    }

    /// The places that were used so far.
    pub(super) fn used(&self) -> impl Iterator<Item = &Arc<Place>> {
        self.0.iter().filter_map(OnceLock::get)
    }
}
