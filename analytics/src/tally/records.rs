//! The state of a partition as records, on disk and in snapshots: the same keys and values in both.
//!
//! ```text
//! 0                                          -> next position u64, newest event i64, place in the ring of ids u32
//! 1 outbox                                   -> highest number, u64
//! 2 type u16                                 -> its name
//! 3 type u16, counter u32                    -> count i64, known since u32, resource
//! 4 resolution u8, bucket i64, type, counter -> sum, i128              (order is time: retention drops a prefix)
//! 5 piece u16                                -> up to 1,024 ids, u64
//! 6 type u16                                 -> largest count that went, floors
//! ```
//! Numbers are big-endian, a bucket's sign bit flipped so that bytes sort like numbers. In this order a type is known before
//! its counters and a counter before its cells. In a row, records are: length of the key u16, of the value u32, both.

use crate::state::Resolution;

/// Ids in one record.
pub(super) const PIECE: usize = 1024;

/// Records in a row.
#[derive(Debug, Default)]
pub(super) struct Records(pub(super) Vec<u8>);

impl Records {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        // Keys and values are short: names of at most 256 bytes, pieces of 8 KiB.
        let key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
        let value_length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&key_length.to_be_bytes());
        self.0.extend_from_slice(&value_length.to_be_bytes());
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(value);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        read(&self.0)
    }
}

/// Reads records in a row.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut reader = Reader(rest);
        let key_length = usize::from(reader.u16()?);
        let value_length = usize::try_from(reader.u32()?).ok()?;
        let record = (reader.take(key_length)?, reader.take(value_length)?);
        rest = reader.0;
        Some(record)
    })
}

/// The key of a counter's count.
pub(super) fn row_key(counter_type: u16, key: u32) -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend_from_slice(&counter_type.to_be_bytes());
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes
}

/// The key of a cell.
pub(super) fn cell_key(
    resolution: Resolution,
    bucket: i64,
    counter_type: u16,
    key: u32,
) -> Vec<u8> {
    let mut bytes = bucket_key(resolution, bucket);
    bytes.extend_from_slice(&counter_type.to_be_bytes());
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes
}

/// What the keys of a bucket's cells begin with.
pub(super) fn bucket_key(resolution: Resolution, bucket: i64) -> Vec<u8> {
    let tag = match resolution {
        Resolution::Minute => 0,
        Resolution::Hour => 1,
        Resolution::Day => 2,
    };
    let mut bytes = vec![4, tag];
    bytes.extend_from_slice(&(bucket ^ i64::MIN).to_be_bytes());
    bytes
}

/// Takes a record apart; `None` is what this program does not write.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.number::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.number().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.number().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.number().map(i64::from_be_bytes)
    }

    pub(super) fn i128(&mut self) -> Option<i128> {
        self.number().map(i128::from_be_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(std::mem::take(&mut self.0)).ok()
    }

    pub(super) fn bucket(&mut self) -> Option<(usize, i64)> {
        let resolution = usize::from(self.u8()?);
        (resolution < Resolution::ALL.len()).then_some(())?;
        Some((resolution, self.i64()? ^ i64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_a_torn_one_ends_them() {
        let mut records = Records::default();
        records.add(b"a", b"");
        records.add(&cell_key(Resolution::Hour, -5, 7, 9), b"value");
        let all: Vec<_> = read(&records.0).collect();
        assert_eq!(
            (all.len(), all[0], all[1].1),
            (2, (&b"a"[..], &b""[..]), &b"value"[..])
        );
        let mut reader = Reader(&all[1].0[1..]);
        assert_eq!(
            (reader.bucket(), reader.u16(), reader.u32()),
            (Some((1, -5)), Some(7), Some(9))
        );
        assert_eq!(read(&records.0[..records.0.len() - 1]).count(), 1);
        assert!(bucket_key(Resolution::Day, -1) < bucket_key(Resolution::Day, 0));
    }
}
