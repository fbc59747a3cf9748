//! JSON numbers, and the integers and floats that protobuf's mapping lets them stand for.
//!
//! Integers may come as `1.0` or `1e2`: they are worked out exactly, in decimal, so that no digit of an int64 is lost.

/// An integer of up to 64 bits and its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integer {
    pub(crate) negative: bool,
    pub(crate) magnitude: u64,
}

impl Integer {
    /// As a signed number between `min` and `max`.
    #[inline(always)]
    pub(crate) fn signed(self, min: i64, max: i64) -> Option<i64> {
        let value = if self.negative {
            0i64.checked_sub_unsigned(self.magnitude)?
        } else {
            i64::try_from(self.magnitude).ok()?
        };
        (min..=max).contains(&value).then_some(value)
    }

    /// As an unsigned number up to `max`.
    #[inline(always)]
    pub(crate) fn unsigned(self, max: u64) -> Option<u64> {
        ((!self.negative || self.magnitude == 0) && self.magnitude <= max).then_some(self.magnitude)
    }
}

/// The integer literal (`-?(0|[1-9][0-9]*)`) at the front and its length, if it fits and nothing of a number follows it.
#[inline(always)]
pub(crate) fn plain_integer(text: &[u8]) -> Option<(Integer, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut at = start;
    let mut magnitude: u64 = 0;
    while let Some(&byte) = text.get(at) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            if matches!(byte, b'.' | b'e' | b'E') {
                return None;
            }
            break;
        }
        if at - start < 19 {
            magnitude = magnitude * 10 + u64::from(digit);
        } else {
            magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        at += 1;
    }
    let leading_zero = at - start > 1 && text[start] == b'0';
    (at > start && !leading_zero).then_some((
        Integer {
            negative,
            magnitude,
        },
        at,
    ))
}

/// The length of the JSON number at the front; `None` if there is none.
pub(crate) fn length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text[at] == b'0') {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        at += 1 + fraction;
        if fraction == 0 {
            return None;
        }
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        at += exponent;
        if exponent == 0 {
            return None;
        }
    }
    Some(at)
}

/// The integer that a whole JSON number stands for; `None` if it has a fraction or more than 64 bits.
pub(crate) fn exact_integer(number: &[u8]) -> Option<Integer> {
    let negative = number.first() == Some(&b'-');
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let mark = number.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = number.split_at(mark.unwrap_or(number.len()));
    let point = mantissa
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(mantissa.len());
    let fraction = mantissa.len().saturating_sub(point + 1);
    let digits = mantissa
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .map(|byte| u64::from(byte - b'0'));
    let zeros = mantissa
        .iter()
        .rev()
        .filter(|&&byte| byte != b'.')
        .take_while(|&&byte| byte == b'0')
        .count();
    let count = digits.clone().count();
    if zeros == count {
        return Some(Integer {
            negative,
            magnitude: 0,
        });
    }
    let significant = digits.take(count - zeros);
    let magnitude = significant
        .into_iter()
        .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(digit))?;
    let exponent =
        exponent_value(exponent)? - i64::try_from(fraction).ok()? + i64::try_from(zeros).ok()?;
    let scale = 10u64.checked_pow(u32::try_from(exponent).ok()?)?;
    Some(Integer {
        negative,
        magnitude: magnitude.checked_mul(scale)?,
    })
}

/// `e+12` as 12, empty as 0.
fn exponent_value(exponent: &[u8]) -> Option<i64> {
    let Some(digits) = exponent.get(1..) else {
        return Some(0);
    };
    std::str::from_utf8(digits)
        .ok()?
        .parse::<i32>()
        .ok()
        .map(i64::from)
}

/// The integer that a text stands for, which must be one JSON number and nothing else.
pub(crate) fn integer_text(text: &[u8]) -> Option<Integer> {
    match plain_integer(text) {
        Some((integer, end)) if end == text.len() => Some(integer),
        _ => (length(text)? == text.len())
            .then(|| exact_integer(text))
            .flatten(),
    }
}

/// The double that a whole JSON number stands for; `None` if it is too large.
pub(crate) fn double(number: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// The float that a whole JSON number stands for; `None` if it is too large. Not by way of a double, which would round twice.
pub(crate) fn float(number: &[u8]) -> Option<f32> {
    let value: f32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn signed(text: &str) -> Option<i64> {
        integer_text(text.as_bytes())?.signed(i64::MIN, i64::MAX)
    }

    #[test]
    fn integers_are_exact_in_every_form() {
        let max = i64::MAX;
        assert_eq!(signed("9223372036854775807"), Some(max));
        assert_eq!(signed("9223372036854775807.000"), Some(max));
        assert_eq!(signed("9.223372036854775807e18"), Some(max));
        assert_eq!(signed("92233720368547758070e-1"), Some(max));
        assert_eq!(signed("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed("9223372036854775808"), None);
        assert_eq!(signed("1e5"), Some(100_000));
        assert_eq!(signed("1E+2"), Some(100));
        assert_eq!(signed("100e-2"), Some(1));
        assert_eq!(signed("-0"), Some(0));
        assert_eq!(signed("0e999999999"), Some(0));
        assert_eq!(signed("0.000"), Some(0));
        assert_eq!(
            integer_text(b"18446744073709551615")
                .unwrap()
                .unsigned(u64::MAX),
            Some(u64::MAX)
        );
    }

    #[test]
    fn what_is_no_integer_is_refused() {
        let bad = "0.5 1e-1 1e400 18446744073709551616 01 -01 00 +1 1. .5 1e 1e+ - 0x1 1_0 NaN Infinity 1e99999999999999999999";
        for text in bad.split(' ').chain(["", " 1", "1 ", "1\n"]) {
            assert_eq!(integer_text(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn the_length_is_that_of_the_json_grammar() {
        assert_eq!(length(b"12]"), Some(2));
        assert_eq!(length(b"-1.5e+3,"), Some(7));
        for bad in ["", "-", "01", "1.", "1.e5", "1e", ".5", "+1", "x"] {
            assert_eq!(length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn floats_out_of_range_are_refused() {
        assert_eq!(double(b"1.89769e308"), None);
        assert_eq!(float(b"3.502823e38"), None);
        assert_eq!(float(b"3.4028234663852886e38"), Some(f32::MAX));
        assert_eq!(float(b"1e-60"), Some(0.0));
    }
}
