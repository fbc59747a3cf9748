//! Percent-decoding (RFC 3986, section 2.1) as paths and queries need it.
//!
//! A variable of one segment is decoded whole; one that spans several keeps `%2F`, so that an
//! encoded slash cannot be mistaken for a separator (`google/api/http.proto`, "path template
//! syntax"). A `%` without two hexadecimal digits, and bytes that are not UTF-8, are refused.

use smallvec::SmallVec;
use std::fmt;

/// A decoded text: it lives on the stack unless it is long.
pub(crate) type Decoded = SmallVec<[u8; 128]>;

/// Which encoded characters become plain ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All of them: a variable of one segment.
    Segment,
    /// All but `%2F`: a variable of several segments.
    Segments,
    /// All of them, and `+` is a space: a query's name or value.
    Query,
}

/// Why a text could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadEncoding {
    /// A `%` that two hexadecimal digits do not follow.
    Percent,
    /// The decoded bytes are not UTF-8.
    Utf8,
}

impl fmt::Display for BadEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadEncoding::Percent => "holds a `%` that is not followed by two hexadecimal digits",
            BadEncoding::Utf8 => "is not UTF-8 once it is percent-decoded",
        })
    }
}

/// Decodes `raw`, without a copy where there is nothing to decode.
pub(crate) fn decode<'a>(
    raw: &'a str,
    mode: Mode,
    space: &'a mut Decoded,
) -> Result<&'a str, BadEncoding> {
    let bytes = raw.as_bytes();
    let plain = match mode {
        Mode::Query => memchr::memchr2(b'%', b'+', bytes).is_none(),
        Mode::Segment | Mode::Segments => memchr::memchr(b'%', bytes).is_none(),
    };
    if plain {
        return Ok(raw);
    }
    space.clear();
    decode_bytes(bytes, mode, space)?;
    simdutf8::basic::from_utf8(space).map_err(|_| BadEncoding::Utf8)
}

/// Decodes `raw` to bytes, appended to `out`.
pub(crate) fn decode_bytes(raw: &[u8], mode: Mode, out: &mut Decoded) -> Result<(), BadEncoding> {
    let mut rest = raw;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            let plain = if mode == Mode::Query && first == b'+' {
                b' '
            } else {
                first
            };
            out.push(plain);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return Err(BadEncoding::Percent);
        };
        let byte = hex(*high)? << 4 | hex(*low)?;
        if byte == b'/' && mode == Mode::Segments {
            out.extend_from_slice(&[b'%', *high, *low]);
        } else {
            out.push(byte);
        }
        rest = tail;
    }
    Ok(())
}

fn hex(digit: u8) -> Result<u8, BadEncoding> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadEncoding::Percent),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn decoded(raw: &str, mode: Mode) -> Result<String, BadEncoding> {
        decode(raw, mode, &mut Decoded::new()).map(str::to_owned)
    }

    #[test]
    fn one_segment_is_decoded_whole() {
        let cases = [
            ("", ""),
            ("abc", "abc"),
            ("a%20b", "a b"),
            ("a%2Fb%2fc", "a/b/c"),
            ("%C3%A9", "é"),
            ("a+b", "a+b"),
            ("%25", "%"),
            ("%00", "\0"),
        ];
        for (raw, want) in cases {
            assert_eq!(decoded(raw, Mode::Segment).as_deref(), Ok(want), "{raw}");
        }
    }

    #[test]
    fn several_segments_keep_an_encoded_slash_as_it_was_sent() {
        let cases = [
            ("a/b%2Fc/d%2fe", "a/b%2Fc/d%2fe"),
            ("a/%62%20c", "a/b c"),
            ("a%3Ab%3Fc%23d", "a:b?c#d"),
            ("%252F", "%2F"),
        ];
        for (raw, want) in cases {
            assert_eq!(decoded(raw, Mode::Segments).as_deref(), Ok(want), "{raw}");
        }
    }

    #[test]
    fn a_query_reads_plus_as_a_space() {
        assert_eq!(decoded("a+b%2Bc", Mode::Query).as_deref(), Ok("a b+c"));
    }

    #[test]
    fn broken_encodings_are_refused() {
        for raw in ["%", "%2", "a%zz", "%G0", "%0g", "%%20"] {
            assert_eq!(
                decoded(raw, Mode::Segment),
                Err(BadEncoding::Percent),
                "{raw}"
            );
        }
        for raw in ["%ff", "%C3", "%ED%A0%80", "a%80b"] {
            assert_eq!(decoded(raw, Mode::Segment), Err(BadEncoding::Utf8), "{raw}");
        }
    }
}
