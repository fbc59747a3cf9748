//! The partition of a key, as Java's default partitioner chooses it: `(murmur2(key) & 0x7fffffff) % partitions`.
//!
//! Kafka's murmur2 (seed `0x9747b28c`): <https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/common/utils/Utils.java>

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// Which of so many partitions (or shards) a key belongs to; 0 if there are none.
pub(crate) fn partition(key: &[u8], partitions: u32) -> u32 {
    of_hash(hash(key), partitions)
}

/// The same for a key of which the hash is known.
pub(crate) fn of_hash(hash: u32, partitions: u32) -> u32 {
    (hash & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0)
}

/// Kafka's murmur2.
pub(crate) fn hash(data: &[u8]) -> u32 {
    // Java's length is an int as well; keys are far below it.
    let mut hash = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_kafka_does() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (text, hash) in &cases {
            assert_eq!(super::hash(text.as_bytes()).cast_signed(), *hash, "{text}");
        }
    }

    #[test]
    fn no_partitions_are_no_reason_to_fail() {
        assert_eq!(partition(b"article_001:like", 0), 0);
        assert!(partition(b"article_001:like", 4) < 4);
    }
}
