//! Which fields and oneofs of an object have been there, and taking back what a repeated member has written.

use crate::tables::FieldTable;
use crate::wire::Cursor;

/// A set of small numbers that allocates only above 63.
#[derive(Default)]
pub(super) struct Seen {
    low: u64,
    high: Vec<u64>,
}

impl Seen {
    /// True if it was there already.
    #[inline(always)]
    pub(super) fn insert(&mut self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1 << (index % 64));
        let word = match word {
            0 => &mut self.low,
            _ => self.high_word(word - 1),
        };
        let before = *word;
        *word |= bit;
        before & bit != 0
    }

    fn high_word(&mut self, word: usize) -> &mut u64 {
        if self.high.len() <= word {
            self.high.resize(word + 1, 0);
        }
        &mut self.high[word]
    }
}

/// Removes every record of a field from the unfinished message that begins at `start`.
pub(super) fn remove_records(wire: &mut Vec<u8>, start: usize, field: &FieldTable) {
    let mut kept = start;
    let mut at = start;
    while at < wire.len() {
        let mut cursor = Cursor::starting_at(wire, at);
        let Ok(tag) = cursor.tag() else { return };
        if cursor.skip(tag, 0).is_err() {
            return;
        }
        let end = cursor.at();
        if tag >> 3 != field.tag >> 3 {
            wire.copy_within(at..end, kept);
            kept += end - at;
        }
        at = end;
    }
    wire.truncate(kept);
}
