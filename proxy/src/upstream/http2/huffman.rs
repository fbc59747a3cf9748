//! Decoding of HPACK's Huffman code, RFC 7541 section 5.2 and appendix B. The code is canonical (within one
//! length, codes count up in the order of symbols), so the lengths alone define it and a symbol is found by
//! comparing with the first code of each length. Refused: the end-of-string symbol, and padding that is not
//! fewer than eight one bits.

/// Length of the code of each byte, then of the end-of-string symbol.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
    6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23,
    23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26,
    27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
    25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const END_OF_STRING: u16 = 256;
const SHORTEST: u32 = 5;
const LONGEST: u32 = 30;

static TABLE: Table = Table::new();

struct Table {
    /// By length: the first code, how many there are, and where their symbols start.
    first: [u32; LONGEST as usize + 1],
    count: [u32; LONGEST as usize + 1],
    start: [u32; LONGEST as usize + 1],
    symbols: [u16; 257],
}

// === impl Table ===

impl Table {
    const fn new() -> Self {
        let mut table = Self {
            first: [0; LONGEST as usize + 1],
            count: [0; LONGEST as usize + 1],
            start: [0; LONGEST as usize + 1],
            symbols: [0; 257],
        };
        let (mut length, mut code, mut placed) = (1, 0, 0);
        while length <= LONGEST as usize {
            code <<= 1;
            table.first[length] = code;
            table.start[length] = placed;
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    table.symbols[placed as usize] = symbol as u16;
                    (code, placed) = (code + 1, placed + 1);
                }
                symbol += 1;
            }
            table.count[length] = placed - table.start[length];
            length += 1;
        }
        table
    }
}

/// Appends what `encoded` stands for; `None` if that breaks the rules.
pub(super) fn decode(encoded: &[u8], decoded: &mut Vec<u8>) -> Option<()> {
    let (mut bits, mut available) = (0u64, 0u32);
    let mut input = encoded.iter();
    loop {
        while available <= 56
            && let Some(byte) = input.next()
        {
            bits = bits << 8 | u64::from(*byte);
            available += 8;
        }
        let Some((symbol, length)) = symbol(bits, available) else {
            let padding = bits & ((1 << available) - 1);
            return (available < 8 && padding == (1 << available) - 1).then_some(());
        };
        if symbol == END_OF_STRING {
            return None;
        }
        decoded.push(symbol as u8);
        available -= length;
    }
}

/// The symbol at the front of the `available` lowest bits, and its length.
fn symbol(bits: u64, available: u32) -> Option<(u16, u32)> {
    (SHORTEST..=LONGEST.min(available)).find_map(|length| {
        let code = (bits >> (available - length)) as u32 & ((1 << length) - 1);
        let index = code.wrapping_sub(TABLE.first[length as usize]);
        let known = index < TABLE.count[length as usize];
        known.then(|| {
            (
                TABLE.symbols[(TABLE.start[length as usize] + index) as usize],
                length,
            )
        })
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    /// The other direction, for tests.
    pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
        let (mut bits, mut used, mut encoded) = (0u64, 0, Vec::new());
        for byte in text {
            let length = u32::from(LENGTHS[usize::from(*byte)]);
            let (start, count) = (TABLE.start[length as usize], TABLE.count[length as usize]);
            let place = (start..start + count)
                .find(|at| TABLE.symbols[*at as usize] == u16::from(*byte))
                .unwrap();
            bits = bits << length | u64::from(TABLE.first[length as usize] + place - start);
            used += length;
            while used >= 8 {
                used -= 8;
                encoded.push((bits >> used) as u8);
            }
        }
        if used > 0 {
            encoded.push((bits << (8 - used)) as u8 | (0xff >> used));
        }
        encoded
    }

    #[test]
    fn examples_of_the_rfc() {
        for (encoded, text) in [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (
                &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f],
                "custom-key",
            ),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ] {
            let mut decoded = Vec::new();
            decode(encoded, &mut decoded).expect(text);
            assert_eq!(decoded, text.as_bytes());
            assert_eq!(encode(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn padding_and_end_of_string_are_checked() {
        // "0" is 00000; padding of zeros, a whole byte of padding, the end-of-string symbol.
        for bad in [
            &[0x00][..],
            &[0x07, 0xff],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xfc],
        ] {
            assert_eq!(decode(bad, &mut Vec::new()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn all_texts_come_back(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut decoded = Vec::new();
            prop_assert_eq!(decode(&encode(&text), &mut decoded), Some(()));
            prop_assert_eq!(decoded, text);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes, &mut Vec::new());
        }
    }
}
