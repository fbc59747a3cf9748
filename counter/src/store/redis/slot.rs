//! Slots of a Redis cluster: which one a key hashes to, and a hash tag for each of them.
//!
//! CRC16 as XMODEM has it, of the whole key or of what stands between the first `{` and the `}` after it:
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>

use std::sync::OnceLock;

/// How many slots a cluster has.
pub(super) const COUNT: usize = 16_384;

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// The slot of a key.
pub(super) fn of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc(tag.unwrap_or(key)) % COUNT as u16
}

fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

/// A hash tag that hashes to this slot: the same whoever asks, for ever.
pub(super) fn tag(slot: u16) -> String {
    static NUMBERS: OnceLock<Box<[u32]>> = OnceLock::new();
    let numbers = NUMBERS.get_or_init(numbers);
    let number = numbers.get(usize::from(slot)).copied().unwrap_or_default();
    text(number)
}

fn text(number: u32) -> String {
    format!("highpress:{number}")
}

/// For each slot the smallest number whose tag hashes to it.
fn numbers() -> Box<[u32]> {
    let mut found = vec![None; COUNT];
    let mut missing = COUNT;
    for number in 0.. {
        let slot = &mut found[usize::from(of(text(number).as_bytes()))];
        if slot.is_none() {
            *slot = Some(number);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    found.into_iter().map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots as `CLUSTER KEYSLOT` gives them.
    #[test]
    fn slots_are_those_of_redis() {
        for (key, slot) in [
            ("foo", 12_182),
            ("123456789", 12_739),
            ("{user1000}.following", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
        ] {
            assert_eq!(of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn every_slot_has_a_tag_of_its_own() {
        for slot in 0..COUNT as u16 {
            assert_eq!(of(format!("{{{}}}:outbox", tag(slot)).as_bytes()), slot);
        }
        assert_eq!(tag(0), tag(0));
    }
}
