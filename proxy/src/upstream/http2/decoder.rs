//! Decoding of header blocks, RFC 7541. One decoder a connection: it keeps the dynamic table that the peer
//! builds, so every block has to pass through it, those of streams that nobody waits for any more included.
//! Refused: indexes of nothing, integers without an end, table sizes above what was allowed, and lists larger
//! than [`MAX_LIST`] (decoded to the end for the table's sake, but not handed on).

use std::collections::VecDeque;

use super::huffman;
use super::static_table::STATIC;

/// What is accepted of one list, counted as the specification does: 32 bytes a field beside its text.
pub(super) const MAX_LIST: usize = 64 * 1024;
/// `SETTINGS_HEADER_TABLE_SIZE`: the default, which is not announced.
const MAX_TABLE: usize = 4096;
const OVERHEAD: usize = 32;

/// One connection's decoder.
#[derive(Debug)]
pub(super) struct Decoder {
    table: VecDeque<Entry>,
    size: usize,
    max: usize,
    /// Of the literal that is being decoded.
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    name: usize,
}

/// The whole connection is of no use any more: `COMPRESSION_ERROR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoded {
    Whole,
    /// Larger than [`MAX_LIST`]; the rest was not handed on.
    TooLarge,
}

/// The bytes of a block that are left.
struct Input<'a>(&'a [u8]);

// === impl Decoder ===

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            max: MAX_TABLE,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Gives each field of the block to `take`, in order.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<Decoded, Broken> {
        let mut input = Input(block);
        let mut total = 0;
        let mut counted = |name: &[u8], value: &[u8]| {
            total += name.len() + value.len() + OVERHEAD;
            if total <= MAX_LIST {
                take(name, value);
            }
        };
        let mut fields = false;
        while let Some(first) = input.0.first().copied() {
            match first {
                0x80.. => {
                    let (name, value) = self.field(input.integer(7)?)?;
                    counted(name, value);
                }
                0x40.. => {
                    self.literal(&mut input, 6)?;
                    counted(&self.name, &self.value);
                    self.insert();
                }
                0x20.. if fields => return Err(Broken),
                0x20.. => {
                    self.resize(input.integer(5)?)?;
                    continue;
                }
                _ => {
                    self.literal(&mut input, 4)?;
                    counted(&self.name, &self.value);
                }
            }
            fields = true;
        }
        Ok(if total <= MAX_LIST {
            Decoded::Whole
        } else {
            Decoded::TooLarge
        })
    }

    fn literal(&mut self, input: &mut Input<'_>, prefix: u32) -> Result<(), Broken> {
        let index = input.integer(prefix)?;
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        if index == 0 {
            input.string(&mut name)?;
        } else {
            name.extend_from_slice(self.field(index)?.0);
        }
        self.name = name;
        self.value.clear();
        input.string(&mut self.value)
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), Broken> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|index| STATIC.get(index)) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = index
            .checked_sub(STATIC.len() + 1)
            .and_then(|index| self.table.get(index))
            .ok_or(Broken)?;
        Ok(entry.text.split_at(entry.name))
    }

    /// Adds the literal that was just decoded.
    fn insert(&mut self) {
        let size = self.name.len() + self.value.len() + OVERHEAD;
        self.evict_to(self.max.saturating_sub(size));
        if size <= self.max {
            let text = [self.name.as_slice(), &self.value].concat().into();
            self.table.push_front(Entry {
                text,
                name: self.name.len(),
            });
            self.size += size;
        }
    }

    fn resize(&mut self, max: usize) -> Result<(), Broken> {
        if max > MAX_TABLE {
            return Err(Broken);
        }
        self.max = max;
        self.evict_to(max);
        Ok(())
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.text.len() + OVERHEAD;
        }
    }
}

// === impl Input ===

impl Input<'_> {
    /// An integer whose first bits share a byte with something else. Larger than any block: broken.
    fn integer(&mut self, prefix: u32) -> Result<usize, Broken> {
        let mask = (1usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    fn string(&mut self, text: &mut Vec<u8>) -> Result<(), Broken> {
        let huffman = self.0.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = self.integer(7)?;
        let (raw, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        if huffman {
            return huffman::decode(raw, text).ok_or(Broken);
        }
        text.extend_from_slice(raw);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.0.split_first().ok_or(Broken)?;
        self.0 = rest;
        Ok(*first)
    }
}

#[cfg(test)]
mod tests;
