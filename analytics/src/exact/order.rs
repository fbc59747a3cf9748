//! Values in descending order, so that a page of a ranking costs its own length.
//!
//! Keeping order costs two tree operations per event, so it is made when somebody asks first and given up when nobody has asked
//! for a while: catching up on old events, or a type that nobody looks at, pays nothing.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::state::Place;

/// An order that nobody asked for in so many seconds is given up.
const IDLE: i64 = 900;

type Key = (Reverse<i128>, Arc<str>);

/// Counters by value, the largest first, ties by resource; or nothing, while nobody asks.
#[derive(Debug, Default)]
pub(super) struct Order {
    keys: Option<BTreeSet<Key>>,
    asked: AtomicI64,
}

impl Order {
    /// One counter changes its value, comes (no old one) or goes (no new one).
    pub(super) fn moved(&mut self, resource: &Arc<str>, old: Option<i128>, new: Option<i128>) {
        let Some(keys) = &mut self.keys else { return };
        if old == new {
            return;
        }
        if let Some(old) = old {
            keys.remove(&(Reverse(old), resource.clone()));
        }
        if let Some(new) = new {
            keys.insert((Reverse(new), resource.clone()));
        }
    }

    /// Makes the order from all values, unless it is there.
    pub(super) fn build(&mut self, values: impl Iterator<Item = (i128, Arc<str>)>) {
        if self.keys.is_none() {
            self.keys = Some(
                values
                    .map(|(value, resource)| (Reverse(value), resource))
                    .collect(),
            );
        }
    }

    /// Everything is about to change: the order will be made again when somebody asks.
    pub(super) fn give_up(&mut self) {
        self.keys = None;
    }

    /// Gives the order up if nobody has asked for long.
    pub(super) fn cool(&mut self, now: i64) {
        if now - self.asked.load(Ordering::Relaxed) > IDLE {
            self.keys = None;
        }
    }

    /// At most `limit` places after a place, and whether there are more; `None` while there is no order.
    pub(super) fn page(
        &self,
        limit: usize,
        after: Option<&Place>,
        now: i64,
    ) -> Option<(Vec<Place>, bool)> {
        let keys = self.keys.as_ref()?;
        self.asked.store(now, Ordering::Relaxed);
        let first = after.map_or(Bound::Unbounded, |place| {
            Bound::Excluded((Reverse(place.value), place.resource_id.clone()))
        });
        let keys = keys.range((first, Bound::Unbounded));
        Some(page(
            keys.map(|(Reverse(value), resource)| (*value, resource)),
            limit,
            after,
        ))
    }
}

/// At most `limit` places from values in order, ranks continuing after a place; and whether there are more.
pub(super) fn page<'a>(
    mut values: impl Iterator<Item = (i128, &'a Arc<str>)>,
    limit: usize,
    after: Option<&Place>,
) -> (Vec<Place>, bool) {
    let first = after.map_or(1, |place| place.rank.saturating_add(1));
    let places = (first..)
        .zip(values.by_ref().take(limit))
        .map(|(rank, (value, resource))| Place {
            rank,
            value,
            resource_id: resource.clone(),
        })
        .collect();
    (places, values.next().is_some())
}
