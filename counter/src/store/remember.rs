//! What a store remembers of a key, and for how long: two generations, the older one dropped whole.
//!
//! New keys go into the newer generation. When that is as old as the retention it becomes the older one, and what was the
//! older one, in which by then every key is past its retention, is dropped in one piece: nothing is forgotten early, nothing is
//! cleaned up one by one, and a look-up asks two tables. At most the keys of twice the retention are kept.

use super::{Counted, StoreError, UnixMillis};
use crate::id::CounterId;

/// The first answer to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) value: i64,
    pub(super) delta: i64,
    pub(super) at: UnixMillis,
}

impl Record {
    /// A key past its retention is as if it were not there, wherever its generation is. A clock set back keeps it longer.
    pub(super) fn is_live(&self, now: UnixMillis, retention: i64) -> bool {
        now.0.saturating_sub(self.at.0) < retention
    }

    /// The answer to a repeat.
    pub(super) fn answer(&self, counter: &CounterId, delta: i64) -> Result<Counted, StoreError> {
        if self.delta != delta {
            return Err(StoreError::KeyReused {
                key: counter.key().into(),
                first: self.delta,
                delta,
            });
        }
        Ok(Counted {
            value: self.value,
            at: self.at,
            replayed: true,
        })
    }
}

/// Which generation is written, since when, and the bytes in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Generations {
    /// The newer one; the older one is the number before. 0 before the first key.
    pub(super) newest: u64,
    pub(super) since: i64,
    pub(super) newer_bytes: u64,
    pub(super) older_bytes: u64,
}

/// What a turn of the generations leaves to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The older generation; the newer one became the older.
    Older,
    /// Both: nothing was remembered for longer than they are kept.
    Both,
}

impl Generations {
    pub(super) fn bytes(&self) -> u64 {
        self.newer_bytes + self.older_bytes
    }

    /// Starts a new generation if it is time to.
    pub(super) fn turn(&mut self, now: UnixMillis, retention: i64) -> Option<Turn> {
        let age = now.0.saturating_sub(self.since);
        if self.newest > 0 && age < retention {
            return None;
        }
        let both = self.newest == 0 || age >= retention.saturating_mul(2);
        // After a gap there is no generation just before the newest.
        let step = if both { 2 } else { 1 };
        *self = Self {
            newest: self.newest + step,
            since: now.0,
            newer_bytes: 0,
            older_bytes: if both { 0 } else { self.newer_bytes },
        };
        Some(if both { Turn::Both } else { Turn::Older })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generation_turns_at_the_retention_and_not_before() {
        let mut generations = Generations::default();
        assert_eq!(generations.turn(UnixMillis(5000), 1000), Some(Turn::Both));
        generations.newer_bytes = 7;
        assert_eq!(generations.turn(UnixMillis(5999), 1000), None);
        assert_eq!(generations.turn(UnixMillis(6000), 1000), Some(Turn::Older));
        assert_eq!((generations.older_bytes, generations.newer_bytes), (7, 0));
        assert_eq!(
            generations.turn(UnixMillis(5), 1000),
            None,
            "a clock set back"
        );
        assert_eq!(generations.turn(UnixMillis(8000), 1000), Some(Turn::Both));
        assert_eq!(generations.bytes(), 0);
    }

    proptest! {
        /// Whatever the times of use, a key is in one of the two generations for as long as it is live.
        #[test]
        fn no_key_is_dropped_while_it_is_live(steps in prop::collection::vec(0i64..2500, 1..40)) {
            let retention = 1000;
            let (mut now, mut generations) = (UnixMillis(1_700_000_000_000), Generations::default());
            let (mut newer, mut older, mut all) = (Vec::new(), Vec::new(), Vec::new());
            for step in steps {
                now.0 += step;
                match generations.turn(now, retention) {
                    None => {}
                    Some(Turn::Older) => older = std::mem::take(&mut newer),
                    Some(Turn::Both) => (newer, older) = (Vec::new(), Vec::new()),
                }
                let record = Record { value: 1, delta: 1, at: now };
                newer.push(record);
                all.push(record);
                for record in all.iter().filter(|record| record.is_live(now, retention)) {
                    prop_assert!(newer.contains(record) || older.contains(record));
                }
            }
        }
    }
}
