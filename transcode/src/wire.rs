//! The protobuf wire format: reading tags, varints and lengths without running past the end, and writing them.
//!
//! Refuses what the specification refuses: varints of more than ten bytes, field number 0, wire types 6 and 7, groups that do
//! not match, lengths past the end.
//!
//! Spec: <https://protobuf.dev/programming-guides/encoding/>

use crate::error::WireError;

pub(crate) const VARINT: u32 = 0;
pub(crate) const FIXED64: u32 = 1;
pub(crate) const DELIMITED: u32 = 2;
pub(crate) const GROUP: u32 = 3;
pub(crate) const GROUP_END: u32 = 4;
pub(crate) const FIXED32: u32 = 5;

/// How deep messages may nest, in both directions.
pub(crate) const MAX_DEPTH: u32 = 100;

/// Reads a message's bytes from front to back.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn starting_at(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { bytes, at }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next byte, without moving.
    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.longer_varint(),
        }
    }

    /// Up to eight bytes at once: the first byte without its high bit ends it, and the groups of seven bits are moved together.
    #[inline]
    fn longer_varint(&mut self) -> Result<u64, WireError> {
        let Some(chunk) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) else {
            return self.long_varint();
        };
        let word = u64::from_le_bytes(*chunk);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.long_varint();
        }
        self.at += ends.trailing_zeros() as usize / 8 + 1;
        let word = word & (ends ^ (ends - 1));
        let word = (word & 0x7f00_7f00_7f00_7f00) >> 1 | (word & 0x007f_007f_007f_007f);
        let word = (word & 0x3fff_0000_3fff_0000) >> 2 | (word & 0x0000_3fff_0000_3fff);
        Ok((word & 0x0fff_ffff_0000_0000) >> 4 | (word & 0x0000_0000_0fff_ffff))
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in 0..10 {
            let byte = *self.bytes.get(self.at).ok_or(WireError::Truncated)?;
            self.at += 1;
            // The tenth byte has one bit left.
            if shift == 9 && byte > 1 {
                return Err(WireError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    /// Field number and wire type in one, as written; at most five bytes.
    #[inline(always)]
    pub(crate) fn tag(&mut self) -> Result<u32, WireError> {
        let start = self.at;
        let tag = self.varint()?;
        if self.at - start > 5 || tag > u64::from(u32::MAX) || tag < 8 {
            return Err(WireError::Tag);
        }
        Ok(tag as u32)
    }

    #[inline(always)]
    pub(crate) fn delimited(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
        let rest = self.bytes.get(self.at..).ok_or(WireError::Truncated)?;
        let slice = rest.get(..length).ok_or(WireError::Truncated)?;
        self.at += length;
        Ok(slice)
    }

    #[inline]
    pub(crate) fn fixed32(&mut self) -> Result<u32, WireError> {
        let bytes = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk);
        let bytes: &[u8; 4] = bytes.ok_or(WireError::Truncated)?;
        self.at += 4;
        Ok(u32::from_le_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, WireError> {
        let bytes = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk);
        let bytes: &[u8; 8] = bytes.ok_or(WireError::Truncated)?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// What is between a group's start tag, which has been read, and its end tag, which is read too.
    pub(crate) fn group(&mut self, number: u32, depth: u32) -> Result<&'a [u8], WireError> {
        let start = self.at;
        loop {
            let end = self.at;
            let tag = self.tag()?;
            if tag & 7 == GROUP_END {
                if tag >> 3 != number {
                    return Err(WireError::Group);
                }
                return Ok(&self.bytes[start..end]);
            }
            self.skip(tag, depth + 1)?;
        }
    }

    /// Skips the value behind a tag that has been read.
    pub(crate) fn skip(&mut self, tag: u32, depth: u32) -> Result<(), WireError> {
        if depth > MAX_DEPTH {
            return Err(WireError::Depth);
        }
        match tag & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            DELIMITED => self.delimited().map(drop),
            GROUP => self.group(tag >> 3, depth).map(drop),
            GROUP_END => Err(WireError::Group),
            FIXED32 => self.fixed32().map(drop),
            _ => Err(WireError::Tag),
        }
    }
}

#[inline(always)]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Room for the length of what follows; see [`close`].
#[inline(always)]
pub(crate) fn open(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Writes the length of everything since [`open`] before it. One byte was kept for it; a longer one moves the content.
#[inline(always)]
pub(crate) fn close(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
    } else {
        close_long(out, start, length);
    }
}

fn close_long(out: &mut Vec<u8>, start: usize, length: usize) {
    let mut varint = [0; 10];
    let mut used = 0;
    let mut rest = length;
    while rest >= 0x80 {
        varint[used] = rest as u8 | 0x80;
        rest >>= 7;
        used += 1;
    }
    varint[used] = rest as u8;
    let end = out.len();
    out.resize(end + used, 0);
    out.copy_within(start..end, start + used);
    out[start - 1..start + used].copy_from_slice(&varint[..=used]);
}

#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn lengths_are_patched_in_front() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 70_000] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut out = vec![9];
            let start = open(&mut out);
            out.extend_from_slice(&content);
            close(&mut out, start);
            let mut cursor = Cursor::new(&out[1..]);
            assert_eq!(cursor.delimited().unwrap(), content);
            assert!(cursor.is_at_end());
        }
    }

    #[test]
    fn varints_round_trip() {
        for value in (0..64).map(|bits| 0xfedc_ba98_7654_3211u64 >> bits) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Cursor::new(&out).varint(), Ok(value));
            let length = out.len();
            out.extend_from_slice(&[0xff; 9]);
            let mut cursor = Cursor::new(&out);
            assert_eq!((cursor.varint(), cursor.at()), (Ok(value), length));
        }
        assert_eq!(Cursor::new(&[0xff; 10]).varint(), Err(WireError::Varint));
        assert_eq!(Cursor::new(&[0xff; 9]).varint(), Err(WireError::Truncated));
    }

    #[test]
    fn zigzag_is_its_own_way_back() {
        for value in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!((zigzag(-1), zigzag(1), zigzag(-2)), (1, 2, 3));
    }

    #[test]
    fn tags_that_do_not_exist_are_refused() {
        let tag = |bytes: &[u8]| Cursor::new(bytes).tag();
        assert_eq!(tag(&[0x08]), Ok(8));
        assert_eq!(tag(&[0x00]), Err(WireError::Tag), "field number 0");
        assert_eq!(
            tag(&[0x88, 0x80, 0x80, 0x80, 0x80, 0x00]),
            Err(WireError::Tag),
            "overlong"
        );
        assert_eq!(
            Cursor::new(&[]).skip(0x0e, 0),
            Err(WireError::Tag),
            "wire type 6"
        );
        assert_eq!(
            Cursor::new(&[0x14]).skip(0x0b, 0),
            Err(WireError::Group),
            "group 1 ended as 2"
        );
    }
}
