//! Strings between JSON and UTF-8, both ways: eight bytes at a time as long as nothing is special.

use crate::error::{JsonError, WireError};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that is `"`, `\` or a control character; right up to the first that is.
#[inline(always)]
fn special(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    let quotes = quote.wrapping_sub(ONES) & !quote;
    let slashes = slash.wrapping_sub(ONES) & !slash;
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | slashes | controls) & HIGH
}

/// The next byte at or after `at` that is `"`, `\` or a control character (or the end), and whether what comes before it is ASCII.
#[inline(always)]
pub(crate) fn find_special(text: &[u8], mut at: usize) -> (usize, bool) {
    let mut seen = 0;
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let found = special(word);
        if found != 0 {
            // Of the last word, only what stands before the find counts.
            let before = (found & found.wrapping_neg()).wrapping_sub(1) >> 7;
            return (
                at + (found.trailing_zeros() / 8) as usize,
                (seen | (word & before)) & HIGH == 0,
            );
        }
        seen |= word;
        at += 8;
    }
    while let Some(&byte) = text.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        seen |= u64::from(byte);
        at += 1;
    }
    (at, seen & HIGH == 0)
}

/// Appends bytes; few of them without a call to copy them, which for names and numbers costs more than the copying.
#[inline(always)]
pub(crate) fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let end = out.len() + bytes.len();
    // Both ends, which overlap in the middle, make one word.
    if let (8..=16, Some(first), Some(last)) = (
        bytes.len(),
        bytes.first_chunk::<8>(),
        bytes.last_chunk::<8>(),
    ) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        let word = u128::from(first) | u128::from(last) << ((bytes.len() - 8) * 8);
        out.extend_from_slice(&word.to_le_bytes());
    } else if let (4..=7, Some(first), Some(last)) = (
        bytes.len(),
        bytes.first_chunk::<4>(),
        bytes.last_chunk::<4>(),
    ) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        let word = u64::from(first) | u64::from(last) << ((bytes.len() - 4) * 8);
        out.extend_from_slice(&word.to_le_bytes());
    } else if bytes.len() < 4 {
        bytes.iter().for_each(|&byte| out.push(byte));
    } else {
        out.extend_from_slice(bytes);
    }
    out.truncate(end);
}

/// Appends a JSON string with its quotes; refuses bytes that are not UTF-8.
#[inline(always)]
pub(crate) fn write_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    out.reserve(text.len() + 2);
    let (end, ascii) = find_special(text, 0);
    if end == text.len() && ascii {
        out.push(b'"');
        put_short(out, text);
        out.push(b'"');
        return Ok(());
    }
    write_escaped(text, end, out)
}

#[cold]
fn write_escaped(text: &[u8], mut end: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    simdutf8::basic::from_utf8(text).map_err(|_| WireError::Utf8)?;
    out.push(b'"');
    let mut start = 0;
    while let Some(&byte) = text.get(end) {
        out.extend_from_slice(&text[start..end]);
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
            }
        }
        start = end + 1;
        end = find_special(text, start).0;
    }
    out.extend_from_slice(&text[start..]);
    out.push(b'"');
    Ok(())
}

/// Appends what a JSON string stands for; `raw` is between its quotes and ends there, `offset` is where it begins in the document.
#[cold]
pub(crate) fn unescape(raw: &[u8], offset: usize, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + found]);
        at += found;
        let bad = |what: &str| JsonError::new(offset + at, what);
        let simple = match raw.get(at + 1) {
            Some(b'u') => {
                let (letter, length) = unicode(&raw[at..]).ok_or_else(|| {
                    bad("\\u does not stand for a character: four hexadecimal digits, surrogates in pairs")
                })?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                at += length;
                continue;
            }
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            _ => return Err(bad("unknown escape in a string")),
        };
        out.push(simple);
        at += 2;
    }
    out.extend_from_slice(&raw[at..]);
    Ok(())
}

/// The character that an `\uXXXX`, or a pair of them, stands for, and the length of it.
fn unicode(escape: &[u8]) -> Option<(char, usize)> {
    let first = hex4(escape)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = hex4(escape.get(6..)?)?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(code)?, 12))
}

fn hex4(escape: &[u8]) -> Option<u32> {
    let digits = escape.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |code, &digit| {
        Some(code << 4 | char::from(digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn find_slowly(text: &[u8]) -> (usize, bool) {
        let special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        let end = text.iter().position(special).unwrap_or(text.len());
        (end, text[..end].is_ascii())
    }

    proptest::proptest! {
        #[test]
        fn special_bytes_are_found_like_one_by_one(text in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            proptest::prop_assert_eq!(find_special(&text, 0), find_slowly(&text));
        }

        #[test]
        fn plain_runs_end_where_they_should(plain in "[ -!#-\\[\\]-~é\u{7f}]{0,40}", rest in "[\"\\\\\u{0}-\u{1f}]?[a-zé]{0,9}") {
            let text = format!("{plain}{rest}");
            proptest::prop_assert_eq!(find_special(text.as_bytes(), 0), find_slowly(text.as_bytes()));
        }

        #[test]
        fn strings_survive_both_ways(text in "\\PC*|[\u{0}-\u{30}\"\\\\]*") {
            let mut json = Vec::new();
            write_string(text.as_bytes(), &mut json).unwrap();
            proptest::prop_assert_eq!(&serde_json::from_slice::<String>(&json).unwrap(), &text);
            let mut back = Vec::new();
            unescape(&json[1..json.len() - 1], 0, &mut back).unwrap();
            proptest::prop_assert_eq!(back, text.into_bytes());
        }
    }

    #[test]
    fn short_copies_copy() {
        let bytes: Vec<u8> = (0..40).collect();
        for length in 0..40 {
            let mut out = vec![9];
            put_short(&mut out, &bytes[..length]);
            assert_eq!(out, [&[9], &bytes[..length]].concat());
        }
    }

    #[test]
    fn escapes_that_stand_for_nothing_are_refused() {
        for bad in [
            "\\",
            "\\x",
            "\\U0041",
            "\\u12",
            "\\u12g4",
            "\\ud800",
            "\\udc00",
            "\\ud800\\ud800",
            "\\ud800x",
            "\\u+123",
        ] {
            unescape(bad.as_bytes(), 0, &mut Vec::new()).expect_err(bad);
        }
    }

    #[test]
    fn pairs_of_surrogates_are_one_character() {
        let mut out = Vec::new();
        unescape(b"\\ud83d\\uDE00\\/", 0, &mut out).unwrap();
        assert_eq!(out, "😀/".as_bytes());
    }
}
