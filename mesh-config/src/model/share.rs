//! Shares of a whole: `5%`, `0.5%`. They are kept in millionths, so that equal texts are equal values.
//! Refused: numbers without `%`, signs, exponents, more than four decimals, and over 100% where a part is meant.

use std::fmt;

/// A share of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    pub(crate) const FORM: &str = "write a percentage such as 5% or 0.5%";
    const PERCENT: u32 = 10_000;
    /// Of what may exceed 100%: a thousand times as much.
    const MAX_PERCENT: u32 = 100_000;

    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All of it.
    pub const ALL: Self = Self::from_percent::<100>();

    /// So many percent, at most 100.
    #[must_use]
    pub const fn from_percent<const PERCENT: u32>() -> Self {
        const { assert!(PERCENT <= 100) };
        Self(PERCENT * Self::PERCENT)
    }

    /// So many percent of something that may be more than 100.
    #[must_use]
    pub const fn from_more<const PERCENT: u32>() -> Self {
        const { assert!(PERCENT <= Self::MAX_PERCENT) };
        Self(PERCENT * Self::PERCENT)
    }

    /// `1.0` is all of it.
    #[must_use]
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / 1_000_000.0
    }

    /// In millionths: what a random number below 1,000,000 is compared with.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// A part of something, so at most 100%.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match Self::parse_any(text)? {
            share if share <= Self::ALL => Ok(share),
            _ => Err(format!("`{text}` is more than all of it: at most 100%")),
        }
    }

    /// A part that is not zero.
    pub(crate) fn parse_some(text: &str) -> Result<Self, String> {
        match Self::parse(text)? {
            Self::ZERO => Err(format!("`{text}` is zero: it must be more than that")),
            share => Ok(share),
        }
    }

    /// How much more something may be, which may well be more than 100%.
    pub(crate) fn parse_any(text: &str) -> Result<Self, String> {
        let form = Self::FORM;
        let odd = || format!("`{text}` is not a percentage: {form}");
        let number = match text.strip_suffix('%') {
            Some(number) => number,
            None if !text.is_empty() && decimal(text).is_some() => {
                return Err(format!("`{text}` has no `%`: {form}"));
            }
            None => return Err(odd()),
        };
        let (whole, fraction) = decimal(number).ok_or_else(odd)?;
        if fraction.len() > 4 {
            return Err(format!("`{text}` is too fine: at most four decimals"));
        }
        let too_much = || format!("`{text}` is too much: at most {}%", Self::MAX_PERCENT);
        let whole: u32 = whole.parse().map_err(|_| too_much())?;
        let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| odd())?;
        if whole > Self::MAX_PERCENT || (whole == Self::MAX_PERCENT && fraction > 0) {
            return Err(too_much());
        }
        Ok(Self(whole * Self::PERCENT + fraction))
    }
}

/// Digits, and perhaps a point with digits after it.
fn decimal(text: &str) -> Option<(&str, &str)> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (text, ""),
    };
    digits(whole).then_some((whole, fraction))
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / Self::PERCENT, self.0 % Self::PERCENT);
        if fraction == 0 {
            return write!(f, "{whole}%");
        }
        let fraction = format!("{fraction:04}");
        write!(f, "{whole}.{}%", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentages_are_millionths() {
        for (text, millionths, shown) in [
            ("0%", 0, "0%"),
            ("5%", 50_000, "5%"),
            ("0.5%", 5_000, "0.5%"),
            ("99.9%", 999_000, "99.9%"),
            ("00.0001%", 1, "0.0001%"),
            ("12.50%", 125_000, "12.5%"),
            ("100%", 1_000_000, "100%"),
            ("100.0000%", 1_000_000, "100%"),
        ] {
            let share = Share::parse(text).expect(text);
            assert_eq!(
                (share.millionths(), share.to_string().as_str()),
                (millionths, shown)
            );
        }
        let half = Share::parse("50%").expect("50%");
        assert_eq!((half.ratio(), half), (0.5, Share::from_percent::<50>()));
        assert_eq!(
            Share::parse_any("250%").expect("250%").ratio(),
            2.5,
            "what may exceed 100% does"
        );
    }

    #[test]
    fn what_is_no_share_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "is not a percentage"),
            ("%", "is not a percentage"),
            ("5", "has no `%`"),
            ("0.5", "has no `%`"),
            ("5 %", "is not a percentage"),
            (".5%", "is not a percentage"),
            ("5.%", "is not a percentage"),
            ("-5%", "is not a percentage"),
            ("+5%", "is not a percentage"),
            ("1e1%", "is not a percentage"),
            ("5%%", "is not a percentage"),
            ("٥%", "is not a percentage"),
            ("0.00001%", "at most four decimals"),
            ("100.0001%", "at most 100%"),
            ("101%", "at most 100%"),
            ("99999999999%", "at most 100000%"),
        ] {
            let why = Share::parse(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
        assert!(Share::parse_any("100000%").is_ok());
        assert!(Share::parse_any("100000.1%").is_err());
        assert!(Share::parse_some("0.0%").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_printed_reads_the_same(millionths in 0..=1_000_000_000_u32) {
            let share = Share(millionths);
            prop_assert_eq!(Share::parse_any(&share.to_string()), Ok(share));
            prop_assert_eq!(Share::parse(&share.to_string()).is_ok(), millionths <= 1_000_000);
        }

        #[test]
        fn any_text_is_a_share_or_a_reason(text in "[0-9.%+e -]{0,12}|\\PC{0,6}") {
            match Share::parse(&text) {
                Ok(share) => {
                    let float: f64 = text.trim_end_matches('%').parse().expect("a number");
                    prop_assert!((share.ratio() * 100.0 - float).abs() < 1e-9, "{} is {}", text, share);
                }
                Err(why) => prop_assert!(!why.is_empty()),
            }
        }
    }
}
