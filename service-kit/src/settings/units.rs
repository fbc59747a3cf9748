//! Durations and sizes as all configuration of the mesh writes them: `250ms`, `5s`, `64KiB`.

use std::time::Duration;

/// Reads `250ms`, `5s`, `2m`, `1h` or `7d`; a fraction (`1.5s`) is fine.
pub fn duration(text: &str) -> Result<Duration, String> {
    const WHY: &str = "not a duration: write it like 250ms, 5s, 2m or 1h";
    let (number, unit) = split(text).ok_or(WHY)?;
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(WHY.to_owned()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| WHY.to_owned())
}

/// Reads `4096`, `64KiB`, `4MiB` or `1GiB`.
pub fn size(text: &str) -> Result<u64, String> {
    const WHY: &str = "not a size: write it like 4096, 64KiB, 4MiB or 1GiB";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| WHY)?;
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(WHY.to_owned()),
    };
    number.checked_mul(factor).ok_or_else(|| WHY.to_owned())
}

/// A plain decimal number and what follows it.
fn split(text: &str) -> Option<(f64, &str)> {
    let digits = text
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        for wrong in [
            "",
            "5",
            "s",
            "-1s",
            "1 s",
            "1e3s",
            "1.2.3s",
            "99999999999999999999d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096").unwrap(), 4096);
        assert_eq!(size("64KiB").unwrap(), 65536);
        for wrong in ["", "MiB", "1MB", "-1", "1.5KiB", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
