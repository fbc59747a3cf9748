//! Names to indexes: a small open hash table that is built once and never allocates when asked.

/// Maps byte strings to numbers.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    entries: Box<[(Box<[u8]>, u32)]>,
    /// Index into `entries` plus one, 0 if free; a power of two of them, at most half of them in use.
    slots: Box<[u32]>,
}

impl NameTable {
    /// Of several entries with the same name, the first one wins.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = (&'n [u8], u32)>) -> NameTable {
        let mut entries: Vec<(Box<[u8]>, u32)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (name, value) in names {
            if seen.insert(name.to_vec()) {
                entries.push((name.into(), value));
            }
        }
        let mut slots = vec![0u32; (entries.len() * 2).next_power_of_two()];
        let mask = slots.len() - 1;
        for (index, (name, _)) in entries.iter().enumerate() {
            let mut at = hash(name) as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = index as u32 + 1;
        }
        NameTable {
            entries: entries.into(),
            slots: slots.into(),
        }
    }

    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash(name) as usize & mask;
        loop {
            let index = (*self.slots.get(at)? as usize).checked_sub(1)?;
            let (entry, value) = &self.entries[index];
            if **entry == *name {
                return Some(*value);
            }
            at = (at + 1) & mask;
        }
    }
}

/// Eight bytes at a time; the last ones overlap those before them.
#[inline(always)]
fn hash(name: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(FACTOR);
        product ^ (product >> 32)
    };
    let mut hash = name.len() as u64;
    let mut rest = name;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        hash = mix(hash, u64::from_le_bytes(*chunk));
        rest = after;
    }
    if rest.is_empty() {
        return hash;
    }
    if let Some(last) = name.last_chunk::<8>() {
        return mix(hash, u64::from_le_bytes(*last));
    }
    let word = match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => name
            .iter()
            .fold(0, |word, &byte| word << 8 | u64::from(byte)),
    };
    mix(hash, word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        for count in [0, 1, 2, 7, 300] {
            let names: Vec<String> = (0..count)
                .map(|n| format!("{}{n}", "field_".repeat(n % 5)))
                .collect();
            let table = NameTable::new(names.iter().map(|name| name.as_bytes()).zip(0..));
            for (name, index) in names.iter().zip(0..) {
                assert_eq!(table.get(name.as_bytes()), Some(index));
            }
            for other in ["", "x", "field", "field_field_field_field_field_"] {
                assert_eq!(table.get(other.as_bytes()), None);
            }
        }
    }

    #[test]
    fn the_first_of_equal_names_wins() {
        let table = NameTable::new([(b"a".as_slice(), 1), (b"a".as_slice(), 2)]);
        assert_eq!(table.get(b"a"), Some(1));
    }
}
