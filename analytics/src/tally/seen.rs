//! What tells a repeat from a new event, in constant memory.
//!
//! An outbox numbers its events, and in one partition first occurrences come in the order of the numbers: the highest one of
//! each outbox tells all repeats, for ever. Events of other makers have only an id: those of the last so many are kept.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::records::{PIECE, Records};
use crate::event::Origin;

/// Ids that are remembered of events that come without an outbox.
const RECENT: usize = 1 << 16;

/// What has been seen in one partition.
#[derive(Debug, Default)]
pub(super) struct Seen {
    outboxes: HashMap<Box<str>, u64>,
    /// The last ids, in a ring.
    recent: Vec<u64>,
    /// Where the next one goes.
    place: usize,
    ids: HashSet<u64>,
    /// Pieces of the ring that changed since the last checkpoint.
    changed: BTreeSet<usize>,
}

impl Seen {
    /// Whether an event has been seen before; from now on it has.
    pub(super) fn repeats(&mut self, origin: Origin<'_>) -> bool {
        match origin {
            Origin::Log => false,
            Origin::Outbox { name, sequence } => match self.outboxes.get_mut(name) {
                Some(highest) if sequence <= *highest => true,
                Some(highest) => {
                    *highest = sequence;
                    false
                }
                None => {
                    self.outboxes.insert(name.into(), sequence);
                    false
                }
            },
            Origin::Id(id) => {
                let new = self.ids.insert(id);
                if new {
                    self.remember(id);
                }
                !new
            }
        }
    }

    fn remember(&mut self, id: u64) {
        match self.recent.get_mut(self.place) {
            Some(oldest) => {
                self.ids.remove(oldest);
                *oldest = id;
            }
            None => self.recent.push(id),
        }
        self.changed.insert(self.place / PIECE);
        self.place = (self.place + 1) % RECENT;
    }

    /// Where the next id goes.
    pub(super) fn place(&self) -> u32 {
        u32::try_from(self.place).unwrap_or(0)
    }

    /// The pieces that changed since the last call.
    pub(super) fn take_changes(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.changed)
    }

    /// All pieces of the ring.
    pub(super) fn pieces(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.recent.len().div_ceil(PIECE)
    }

    /// Writes all outboxes and some pieces.
    pub(super) fn write(&self, records: &mut Records, pieces: impl Iterator<Item = usize>) {
        for (name, highest) in &self.outboxes {
            let key = [&[1], name.as_bytes()].concat();
            records.add(&key, &highest.to_be_bytes());
        }
        for piece in pieces {
            let number = u16::try_from(piece).unwrap_or(u16::MAX);
            let [high, low] = number.to_be_bytes();
            let ids = self.recent.chunks(PIECE).nth(piece).unwrap_or_default();
            let value: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
            records.add(&[5, high, low], &value);
        }
    }

    /// Sets an outbox' highest number as it was stored.
    pub(super) fn restore(&mut self, name: &str, highest: u64) {
        self.outboxes.insert(name.into(), highest);
    }

    /// Sets where the next id goes.
    pub(super) fn restore_place(&mut self, place: u32) {
        self.place = place as usize % RECENT;
    }

    /// Sets a piece of the ring; they come in their order.
    pub(super) fn restore_piece(&mut self, start: usize, ids: impl Iterator<Item = u64>) {
        if start == self.recent.len() {
            self.recent.extend(ids.take(RECENT.saturating_sub(start)));
        }
    }

    /// All pieces are there.
    pub(super) fn settle(&mut self) {
        self.ids = self.recent.iter().copied().collect();
        self.place = self.place.min(self.recent.len()) % RECENT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_never_repeats_below_its_highest_number() {
        let mut seen = Seen::default();
        let of = |name, sequence| Origin::Outbox { name, sequence };
        let told: Vec<bool> = [("a", 1), ("a", 5), ("a", 5), ("a", 2), ("b", 2), ("a", 6)]
            .into_iter()
            .map(|(name, sequence)| seen.repeats(of(name, sequence)))
            .collect();
        assert_eq!(told, [false, false, true, true, false, false]);
    }

    #[test]
    fn ids_are_remembered_for_so_many_events() {
        let mut seen = Seen::default();
        assert!(!seen.repeats(Origin::Id(1)) && seen.repeats(Origin::Id(1)));
        for id in 2..=RECENT as u64 + 1 {
            assert!(!seen.repeats(Origin::Id(id)));
        }
        assert!(!seen.repeats(Origin::Id(1)), "forgotten by now");
        assert_eq!((seen.recent.len(), seen.ids.len()), (RECENT, RECENT));
        let mut again = Seen::default();
        again.restore_place(seen.place());
        for (piece, ids) in seen.recent.chunks(PIECE).enumerate() {
            again.restore_piece(piece * PIECE, ids.iter().copied());
        }
        again.settle();
        assert!(again.repeats(Origin::Id(1)) && !again.repeats(Origin::Id(2)));
        assert!(!seen.repeats(Origin::Log) && !seen.repeats(Origin::Log));
    }
}
