//! `Timestamp` and `Duration` between their seconds and nanoseconds and their JSON texts.
//!
//! Refuses what the mapping has no form for: years outside 1 to 9999, durations beyond 315,576,000,000 s, nanoseconds of the wrong
//! sign or size, lower-case `t` and `z`, leap seconds.
//!
//! Spec: <https://protobuf.dev/reference/protobuf/google.protobuf/#timestamp>, RFC 3339

use crate::error::WireError;

const MIN_SECONDS: i64 = -62_135_596_800;
const MAX_SECONDS: i64 = 253_402_300_799;
const MAX_DURATION: i64 = 315_576_000_000;
const DAY: i64 = 86_400;

/// Seconds and nanoseconds of an RFC 3339 text.
pub(crate) fn parse_timestamp(text: &[u8]) -> Option<(i64, i32)> {
    let (head, rest) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| head[at] != byte) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits(&head[range]);
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second) = (part(11..13)?, part(14..16)?, part(17..19)?);
    let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
    if !valid || year < 1 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let local = days_since_epoch(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let seconds = local - zone_offset(zone)?;
    (MIN_SECONDS..=MAX_SECONDS)
        .contains(&seconds)
        .then_some((seconds, nanos))
}

/// `Z` or `+hh:mm` in seconds.
fn zone_offset(zone: &[u8]) -> Option<i64> {
    let (sign, time) = match zone {
        b"Z" => return Some(0),
        [b'+', time @ ..] => (1, time),
        [b'-', time @ ..] => (-1, time),
        _ => return None,
    };
    let [h1, h2, b':', m1, m2] = *time else {
        return None;
    };
    let (hours, minutes) = (digits(&[h1, h2])?, digits(&[m1, m2])?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Nanoseconds of an optional `.123`, and what follows it.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&length) {
        return None;
    }
    let (value, rest) = text.split_at(length);
    let nanos = digits(value)? * 10i64.pow(9 - length as u32);
    Some((i32::try_from(nanos).ok()?, rest))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0i64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap day is the last of one.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_since_epoch`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

/// Appends the RFC 3339 text, without quotes.
pub(crate) fn write_timestamp(
    seconds: i64,
    nanos: i32,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return Err(WireError::Time);
    }
    let (year, month, day) = date(seconds.div_euclid(DAY));
    let time = seconds.rem_euclid(DAY);
    let two = |value: i64| [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8];
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year % 100));
    let parts = [
        (b'-', month),
        (b'-', day),
        (b'T', time / 3600),
        (b':', time / 60 % 60),
        (b':', time % 60),
    ];
    for (separator, value) in parts {
        out.push(separator);
        out.extend_from_slice(&two(value));
    }
    write_fraction(nanos.unsigned_abs(), out);
    out.push(b'Z');
    Ok(())
}

/// Seconds and nanoseconds of a text like `-1.5s`.
pub(crate) fn parse_duration(text: &[u8]) -> Option<(i64, i32)> {
    let text = text.strip_suffix(b"s")?;
    let negative = text.first() == Some(&b'-');
    let text = &text[usize::from(negative)..];
    let whole = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (seconds, rest) = text.split_at(whole);
    let (nanos, rest) = fraction(rest)?;
    let seconds = digits(seconds)?;
    if whole == 0 || !rest.is_empty() || seconds > MAX_DURATION {
        return None;
    }
    Some(if negative {
        (-seconds, -nanos)
    } else {
        (seconds, nanos)
    })
}

/// Appends the text of a duration, without quotes.
pub(crate) fn write_duration(seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Result<(), WireError> {
    let opposed = (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0);
    if seconds.unsigned_abs() > MAX_DURATION.unsigned_abs()
        || nanos.unsigned_abs() > 999_999_999
        || opposed
    {
        return Err(WireError::Time);
    }
    if seconds < 0 || nanos < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(
        itoa::Buffer::new()
            .format(seconds.unsigned_abs())
            .as_bytes(),
    );
    write_fraction(nanos.unsigned_abs(), out);
    out.push(b's');
    Ok(())
}

/// A fraction of 3, 6 or 9 digits, whichever suffices; nothing for 0.
fn write_fraction(nanos: u32, out: &mut Vec<u8>) {
    let (mut value, width) = match nanos {
        0 => return,
        _ if nanos.is_multiple_of(1_000_000) => (nanos / 1_000_000, 3),
        _ if nanos.is_multiple_of(1_000) => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    let mut text = [b'0'; 9];
    for digit in text[..width].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.push(b'.');
    out.extend_from_slice(&text[..width]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn timestamp(seconds: i64, nanos: i32) -> String {
        let mut out = Vec::new();
        write_timestamp(seconds, nanos, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_instants() {
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(MIN_SECONDS, 0), "0001-01-01T00:00:00Z");
        assert_eq!(
            timestamp(MAX_SECONDS, 999_999_999),
            "9999-12-31T23:59:59.999999999Z"
        );
        assert_eq!(
            timestamp(951_782_400, 10_000_000),
            "2000-02-29T00:00:00.010Z"
        );
        assert_eq!(timestamp(-1, 1_000), "1969-12-31T23:59:59.000001Z");
        assert_eq!(
            parse_timestamp(b"1972-01-01T10:00:20.021+01:30"),
            Some((63_102_620, 21_000_000))
        );
        assert_eq!(parse_timestamp(b"1970-01-01T00:00:00-00:00"), Some((0, 0)));
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        let bad = "1970-01-01t00:00:00Z 1970-01-01T00:00:00z 1970-01-01T00:00:00 1970-13-01T00:00:00Z 1970-02-29T00:00:00Z \
            1970-01-01T24:00:00Z 1970-01-01T00:00:60Z 0000-01-01T00:00:00Z 10000-01-01T00:00:00Z 1970-01-01T00:00:00.Z \
            1970-01-01T00:00:00.0000000001Z 1970-01-01T00:00:00+0100 9999-12-31T23:59:59-00:01 0001-01-01T00:00:00+00:01 \
            1970-01-01T00:00:00Zx 1970-01-01T00:00:00é 70-01-01T00:00:00Z +970-01-01T00:00:00Z";
        for text in bad.split_whitespace().chain([""]) {
            assert_eq!(parse_timestamp(text.as_bytes()), None, "{text}");
        }
        for (seconds, nanos) in [
            (MIN_SECONDS - 1, 0),
            (MAX_SECONDS + 1, 0),
            (0, -1),
            (0, 1_000_000_000),
        ] {
            assert_eq!(
                write_timestamp(seconds, nanos, &mut Vec::new()),
                Err(WireError::Time)
            );
        }
    }

    #[test]
    fn durations() {
        let known = [
            ("0s", 0, 0),
            ("1.500s", 1, 500_000_000),
            ("-0.000000001s", 0, -1),
            ("-315576000000s", -MAX_DURATION, 0),
        ];
        for (text, seconds, nanos) in known {
            assert_eq!(
                parse_duration(text.as_bytes()),
                Some((seconds, nanos)),
                "{text}"
            );
            let mut out = Vec::new();
            write_duration(seconds, nanos, &mut out).unwrap();
            assert_eq!(out, text.as_bytes());
        }
        for text in [
            "",
            "s",
            "1",
            "-s",
            ".5s",
            "1.s",
            "1.0000000001s",
            "+1s",
            "1 s",
            "315576000001s",
            "--1s",
        ] {
            assert_eq!(parse_duration(text.as_bytes()), None, "{text}");
        }
        for (seconds, nanos) in [
            (1, -1),
            (-1, 1),
            (MAX_DURATION + 1, 0),
            (i64::MIN, 0),
            (0, i32::MIN),
        ] {
            assert_eq!(
                write_duration(seconds, nanos, &mut Vec::new()),
                Err(WireError::Time)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn timestamps_round_trip(seconds in MIN_SECONDS..=MAX_SECONDS, nanos in 0..1_000_000_000) {
            proptest::prop_assert_eq!(parse_timestamp(timestamp(seconds, nanos).as_bytes()), Some((seconds, nanos)));
        }
    }
}
