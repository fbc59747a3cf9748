//! Hashes that are the same in every process and version: gateways side by side agree on them.

/// A step that visits every number once before it comes back.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of some bytes. FNV-1a, finished so that similar keys lie apart.
#[must_use]
pub fn point(key: &[u8]) -> u64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed(hash)
}

/// The finaliser of splitmix64: every bit of the result depends on every bit of the input.
#[must_use]
pub fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The hash number `n` of those that a seed has.
#[must_use]
pub fn nth(seed: u64, n: u64) -> u64 {
    mixed(seed.wrapping_add(GOLDEN.wrapping_mul(n.wrapping_add(1))))
}

/// A hash as a number from 0 up to 1.
#[must_use]
pub fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
