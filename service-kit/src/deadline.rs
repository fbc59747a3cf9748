//! `grpc-timeout`: how long the caller waits. `TimeoutValue TimeoutUnit`, at most eight digits and one of H M S m u n.

use std::time::Duration;

use http::HeaderMap;

/// A `grpc-timeout` that is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout must be one to eight digits and one of H, M, S, m, u, n")]
pub struct Malformed;

/// What the header says; `None` if there is none.
///
/// # Errors
/// If it says something else.
pub fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    headers
        .get("grpc-timeout")
        .map(|value| parse(value.as_bytes()))
        .transpose()
}

fn parse(text: &[u8]) -> Result<Duration, Malformed> {
    let (unit, digits) = text.split_last().ok_or(Malformed)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(value * 3600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return Err(Malformed),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse(b"1H").unwrap(), Duration::from_secs(3600));
        assert_eq!(parse(b"2M").unwrap(), Duration::from_secs(120));
        assert_eq!(
            parse(b"99999999S").unwrap(),
            Duration::from_secs(99_999_999)
        );
        assert_eq!(parse(b"250m").unwrap(), Duration::from_millis(250));
        assert_eq!(parse(b"5u").unwrap(), Duration::from_micros(5));
        assert_eq!(parse(b"7n").unwrap(), Duration::from_nanos(7));
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in [
            "",
            "S",
            "1",
            "-1S",
            "1.5S",
            "123456789S",
            "1 S",
            "1s",
            "1000",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text}");
        }
    }
}
