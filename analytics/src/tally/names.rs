//! The names of one type's counters, each a number: text in blocks, found by hash.
//!
//! Ten million counters are ten million names: a text and a table entry each, no allocation of their own. The hash is kept
//! in the table, so that it grows without reading a name.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A counter within its type: small, and never given to another.
pub(super) type Key = u32;

const BLOCK: usize = 64 * 1024;

/// Names by number and numbers by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    hasher: DefaultHashBuilder,
    table: HashTable<(u32, Key)>,
    blocks: Vec<String>,
    places: Vec<Place>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    block: u32,
    start: u16,
    length: u16,
}

impl Names {
    /// The bytes that they take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.places.len() * size_of::<Place>() + self.table.allocation_size()
    }

    /// The name of a counter.
    pub(super) fn name(&self, key: Key) -> &str {
        let name = |place: &Place| {
            let start = usize::from(place.start);
            self.blocks
                .get(place.block as usize)?
                .get(start..start + usize::from(place.length))
        };
        self.places
            .get(key as usize)
            .and_then(name)
            .unwrap_or_default()
    }

    /// The number of a name that is known.
    pub(super) fn find(&self, name: &str) -> Option<Key> {
        let hash = self.hash(name);
        let found = self.table.find(spread(hash), |(known, key)| {
            *known == hash && self.name(*key) == name
        });
        found.map(|(_, key)| *key)
    }

    /// The number of a name, and whether it is new.
    pub(super) fn intern(&mut self, name: &str) -> (Key, bool) {
        if let Some(key) = self.find(name) {
            return (key, false);
        }
        // More than 2^32 counters of one type do not fit any memory that this runs in.
        let key = Key::try_from(self.places.len()).unwrap_or(Key::MAX);
        let place = self.keep(name);
        self.places.push(place);
        let hash = self.hash(name);
        self.table
            .insert_unique(spread(hash), (hash, key), |(hash, _)| spread(*hash));
        (key, true)
    }

    fn keep(&mut self, name: &str) -> Place {
        let full = |block: &String| block.len() + name.len() > BLOCK;
        if self.blocks.last().is_none_or(full) {
            self.blocks
                .push(String::with_capacity(BLOCK.max(name.len())));
            self.bytes += BLOCK;
        }
        let block = self.blocks.len() - 1;
        let text = &mut self.blocks[block];
        // A block is shorter than 2^16 before its last name.
        let start = u16::try_from(text.len()).unwrap_or(u16::MAX);
        text.push_str(name);
        Place {
            block: u32::try_from(block).unwrap_or(u32::MAX),
            start,
            length: u16::try_from(name.len()).unwrap_or(u16::MAX),
        }
    }

    fn hash(&self, name: &str) -> u32 {
        // Half of a good hash is a good hash.
        (self.hasher.hash_one(name) >> 32) as u32
    }
}

/// A table looks at both ends of a hash.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_find_each_other() {
        let mut names = Names::default();
        let name = |at: u32| format!("{at}{}", "x".repeat(at as usize % 200));
        for at in 0..5000 {
            assert_eq!(names.intern(&name(at)), (at, true));
        }
        for at in 0..5000 {
            assert_eq!(names.intern(&name(at)), (at, false));
            assert_eq!(names.name(at), name(at));
        }
        assert_eq!((names.find("nobody"), names.name(9999)), (None, ""));
        assert_eq!(names.intern(""), (5000, true));
    }
}
