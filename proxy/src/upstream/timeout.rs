//! The `grpc-timeout` header: `TimeoutValue TimeoutUnit`, at most eight digits, see
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. Rounded down, so that a backend never
//! believes in more time than there is, in the finest unit that fits.

use std::time::Duration;

/// Nanoseconds per unit, finest first.
const UNITS: [(u128, u8); 6] = [
    (1, b'n'),
    (1_000, b'u'),
    (1_000_000, b'm'),
    (1_000_000_000, b'S'),
    (60_000_000_000, b'M'),
    (3_600_000_000_000, b'H'),
];
const MOST: u128 = 99_999_999;

/// The header's text for what is left: digits and the unit, at the front of the array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    bytes: [u8; 9],
    len: usize,
}

/// What is left, in the finest unit that fits.
pub(crate) fn text(left: Duration) -> Text {
    let nanos = left.as_nanos();
    let (value, unit) = UNITS
        .iter()
        .map(|(size, unit)| (nanos / size, *unit))
        .find(|(value, _)| *value <= MOST)
        .unwrap_or((MOST, b'H'));
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(value).as_bytes();
    let mut text = Text {
        bytes: [0; 9],
        len: digits.len() + 1,
    };
    text.bytes[..digits.len()].copy_from_slice(digits);
    text.bytes[digits.len()] = unit;
    text
}

// === impl Text ===

impl Text {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &[u8]) -> Duration {
        let (digits, unit) = text.split_at(text.len() - 1);
        assert!((1..=8).contains(&digits.len()), "{} digits", digits.len());
        let value: u128 = std::str::from_utf8(digits).unwrap().parse().unwrap();
        let (size, _) = UNITS.iter().find(|(_, letter)| *letter == unit[0]).unwrap();
        let nanos = value * size;
        Duration::new(
            u64::try_from(nanos / 1_000_000_000).unwrap(),
            (nanos % 1_000_000_000) as u32,
        )
    }

    #[test]
    fn known_values() {
        for (left, expected) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(5), "5000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(u64::from(u32::MAX) * 60), "71582788H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(
                std::str::from_utf8(text(left).as_bytes()).unwrap(),
                expected
            );
        }
    }

    proptest! {
        #[test]
        fn never_more_than_is_left_and_not_much_less(seconds in 0u64..100_000_000_000, nanos in 0u32..1_000_000_000) {
            let left = Duration::new(seconds, nanos);
            let said = parse(text(left).as_bytes());
            prop_assert!(said <= left);
            // The unit below, a thousandth of this one or more, took over 99,999,999: there are 100,000 of this one.
            prop_assert!(left - said <= left / 100_000);
        }
    }
}
