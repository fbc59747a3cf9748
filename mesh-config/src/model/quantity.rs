//! Quantities with a unit: durations `250ms`, `5s`, `2m`, `1h`; sizes `512B`, `64KiB`, `4MiB`, `1GiB`.
//! Refused: numbers without a unit, fractions, zero, and what would overflow a clock or an address space.

use std::fmt;
use std::time::Duration;

/// A length of time that is not zero, and at most a year, so that adding it to a clock never overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timeout(Duration);

impl Timeout {
    pub(crate) const FORM: &str = "write a duration such as 250ms, 5s, 2m or 1h";
    const MAX: Duration = Duration::from_secs(366 * 24 * 3600);

    /// So many seconds; zero does not compile.
    #[must_use]
    pub const fn from_secs<const SECONDS: u64>() -> Self {
        const { assert!(SECONDS > 0 && SECONDS <= Self::MAX.as_secs()) };
        Self(Duration::from_secs(SECONDS))
    }

    /// So many milliseconds; zero does not compile.
    #[must_use]
    pub const fn from_millis<const MILLIS: u64>() -> Self {
        const { assert!(MILLIS > 0 && MILLIS <= Self::MAX.as_secs() * 1_000) };
        Self(Duration::from_millis(MILLIS))
    }

    /// As a duration of the standard library.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// As a length of time that may be none; `None`: it is zero, or longer than a year.
    #[must_use]
    pub fn new(duration: Duration) -> Option<Self> {
        (!duration.is_zero() && duration <= Self::MAX).then_some(Self(duration))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = Self::FORM;
        let (number, unit) =
            split(text).ok_or_else(|| format!("`{text}` is not a duration: {form}"))?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" => return Err(format!("`{text}` has no unit: {form}")),
            _ => return Err(format!("`{unit}` is not a unit of time: {form}")),
        };
        let millis = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(factor));
        match millis.map(Duration::from_millis) {
            Some(Duration::ZERO) => Err(format!("`{text}` is zero: it must be longer than that")),
            Some(duration) if duration <= Self::MAX => Ok(Self(duration)),
            _ => Err(format!("`{text}` is too long: at most 8784h")),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (factor, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if millis.is_multiple_of(factor) {
                return write!(f, "{}{unit}", millis / factor);
            }
        }
        write!(f, "{millis}ms")
    }
}

/// A number of bytes that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(usize);

impl ByteSize {
    pub(crate) const FORM: &str = "write a size such as 512B, 64KiB, 4MiB or 1GiB";

    /// So many times 1,024 bytes; zero does not compile.
    #[must_use]
    pub const fn from_kib<const KIB: usize>() -> Self {
        const { assert!(KIB > 0 && KIB < usize::MAX / 1024) };
        Self(KIB * 1024)
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = Self::FORM;
        let (number, unit) =
            split(text).ok_or_else(|| format!("`{text}` is not a size: {form}"))?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "" => return Err(format!("`{text}` has no unit: {form}")),
            _ => return Err(format!("`{unit}` is not a unit of size: {form}")),
        };
        let bytes = number
            .parse::<usize>()
            .ok()
            .and_then(|n| n.checked_mul(1 << shift));
        match bytes {
            Some(0) => Err(format!("`{text}` is zero: it must be larger than that")),
            Some(bytes) if isize::try_from(bytes).is_ok() => Ok(Self(bytes)),
            _ => Err(format!("`{text}` is too large")),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Digits, then letters (perhaps none). Anything else is `None`.
fn split(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let letters = unit.bytes().all(|b| b.is_ascii_alphabetic());
    (!number.is_empty() && letters).then_some((number, unit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn durations_read_and_print_alike() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            let timeout = Timeout::parse(text).expect(text);
            assert_eq!(
                (timeout.get(), timeout.to_string()),
                (Duration::from_millis(millis), text.to_owned())
            );
        }
        assert_eq!(Timeout::parse("90s").expect("90s").to_string(), "90s");
    }

    #[test]
    fn sizes_read_and_print_alike() {
        for (text, bytes) in [
            ("512B", 512),
            ("64KiB", 65_536),
            ("4MiB", 4_194_304),
            ("1GiB", 1 << 30),
        ] {
            let size = ByteSize::parse(text).expect(text);
            assert_eq!((size.get(), size.to_string()), (bytes, text.to_owned()));
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "0s",
            "-5s",
            "1.5s",
            "5 s",
            "5S",
            "5d",
            "99999999999999999999s",
            "9000h",
            "1m30s",
        ] {
            assert!(Timeout::parse(text).is_err(), "{text} was taken");
        }
        for text in [
            "",
            "4",
            "MiB",
            "0B",
            "4MB",
            "4mib",
            "1.5MiB",
            "99999999999GiB",
            "9223372036854775808B",
        ] {
            assert!(ByteSize::parse(text).is_err(), "{text} was taken");
        }
    }
}
