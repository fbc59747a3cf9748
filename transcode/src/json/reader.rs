//! Reads JSON text once, from front to back, with the position of whatever is wrong.
//!
//! It refuses what RFC 8259 refuses: control characters in strings, trailing commas, numbers like `01`, and strings that are not
//! UTF-8. Nesting is limited, also in what is skipped.

use super::{escape, number};
use crate::error::JsonError;
use crate::wire::MAX_DEPTH;

/// A position in a JSON text.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// A string of the text, between its quotes.
#[derive(Clone, Copy)]
pub(crate) struct Str<'a> {
    /// UTF-8, with escapes as they stand.
    pub(crate) raw: &'a [u8],
    /// Where it begins in the text.
    pub(crate) offset: usize,
    /// There are escapes in it.
    pub(crate) escaped: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// From the position on.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    /// Moves on by bytes that the caller has looked at.
    #[inline(always)]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at = self.text.len().min(self.at + bytes);
    }

    /// The next byte that is not white space, without moving past it; 0 at the end, which no JSON token begins with.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    /// Moves past this byte if it is the next one.
    #[inline(always)]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    #[inline(always)]
    pub(crate) fn expect(&mut self, byte: u8, what: &str) -> Result<(), JsonError> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    /// `true`, `false` or `null`.
    pub(crate) fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
        self.peek();
        if self.rest().starts_with(literal.as_bytes()) {
            self.at += literal.len();
            return Ok(());
        }
        Err(JsonError::new(
            self.at,
            "not JSON: neither true, false, null, a number, a string, a list nor an object",
        ))
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.peek();
        if self.at == self.text.len() {
            return Ok(());
        }
        Err(JsonError::new(
            self.at,
            "text after the end of the JSON document",
        ))
    }

    /// After a member or element: true if another one follows, false at the closing byte, which is read.
    #[inline(always)]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, JsonError> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.expected(if close == b'}' {
                "a comma or }"
            } else {
                "a comma or ]"
            })),
        }
    }

    /// A string.
    #[inline(always)]
    pub(crate) fn string(&mut self, what: &str) -> Result<Str<'a>, JsonError> {
        if !self.eat(b'"') {
            return Err(self.expected(what));
        }
        self.string_after_quote()
    }

    /// A string whose opening quote has been read.
    #[inline(always)]
    pub(crate) fn string_after_quote(&mut self) -> Result<Str<'a>, JsonError> {
        let offset = self.at;
        let (end, ascii) = escape::find_special(self.text, offset);
        if ascii && self.text.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Str {
                raw: &self.text[offset..end],
                offset,
                escaped: false,
            });
        }
        self.long_string(offset, end)
    }

    /// A string in which something is special.
    fn long_string(&mut self, offset: usize, mut end: usize) -> Result<Str<'a>, JsonError> {
        let mut escaped = false;
        loop {
            match self.text.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end = escape::find_special(self.text, (end + 2).min(self.text.len())).0;
                }
                Some(_) => {
                    return Err(JsonError::new(
                        end,
                        "a control character in a string, which must be escaped",
                    ));
                }
                None => return Err(JsonError::new(end, "the text ends inside a string")),
            }
        }
        let raw = &self.text[offset..end];
        if simdutf8::basic::from_utf8(raw).is_err() {
            let valid = std::str::from_utf8(raw).map_or_else(|error| error.valid_up_to(), str::len);
            return Err(JsonError::new(offset + valid, "a string that is not UTF-8"));
        }
        self.at = end + 1;
        Ok(Str {
            raw,
            offset,
            escaped,
        })
    }

    /// The text of a number.
    pub(crate) fn number(&mut self, what: &str) -> Result<&'a [u8], JsonError> {
        let next = self.peek();
        if next != b'-' && !next.is_ascii_digit() {
            return Err(self.expected(what));
        }
        let rest = self.rest();
        let length =
            number::length(rest).ok_or_else(|| JsonError::new(self.at, "not a JSON number"))?;
        self.at += length;
        Ok(&rest[..length])
    }

    /// Skips a value of any kind.
    pub(crate) fn skip(&mut self, depth: u32) -> Result<(), JsonError> {
        match self.peek() {
            b'"' => self.skip_string(),
            b'{' | b'[' if depth > MAX_DEPTH => Err(too_deep(self.at)),
            b'{' => {
                self.at += 1;
                let mut more = !self.eat(b'}');
                while more {
                    self.skip_string()?;
                    self.expect(b':', "a colon")?;
                    self.skip(depth + 1)?;
                    more = self.more(b'}')?;
                }
                Ok(())
            }
            b'[' => {
                self.at += 1;
                let mut more = !self.eat(b']');
                while more {
                    self.skip(depth + 1)?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number("a value").map(drop),
            _ => Err(self.expected("a value")),
        }
    }

    fn skip_string(&mut self) -> Result<(), JsonError> {
        let string = self.string("a string")?;
        if string.escaped {
            escape::unescape(string.raw, string.offset, &mut Vec::new())?;
        }
        Ok(())
    }

    /// Something else stands here.
    #[cold]
    pub(crate) fn expected(&mut self, what: &str) -> JsonError {
        let found = match self.peek() {
            0 if self.at == self.text.len() => "the end of the text",
            b'"' => "a string",
            b'{' => "an object",
            b'[' => "a list",
            b'-' | b'0'..=b'9' => "a number",
            b't' | b'f' => "a boolean",
            b'n' => "null",
            b',' => "a comma",
            b':' => "a colon",
            b'}' | b']' => "a closing bracket",
            _ => "something that is not JSON",
        };
        JsonError::new(self.at, format!("expected {what}, found {found}"))
    }
}

impl<'a> Str<'a> {
    /// The characters it stands for; `buffer` is used if there are escapes.
    #[inline(always)]
    pub(crate) fn text<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], JsonError>
    where
        'a: 'b,
    {
        if !self.escaped {
            return Ok(self.raw);
        }
        buffer.clear();
        escape::unescape(self.raw, self.offset, buffer)?;
        Ok(buffer)
    }

    /// Appends the characters it stands for.
    #[inline(always)]
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        if self.escaped {
            return escape::unescape(self.raw, self.offset, out);
        }
        out.extend_from_slice(self.raw);
        Ok(())
    }
}

#[cold]
pub(crate) fn too_deep(at: usize) -> JsonError {
    JsonError::new(at, "nested too deeply")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn skips(text: &[u8]) -> bool {
        let mut reader = Reader::new(text);
        reader.skip(0).and_then(|()| reader.end()).is_ok()
    }

    proptest::proptest! {
        #[test]
        fn what_is_skipped_is_what_serde_json_reads(text in "[\\[\\]{}:,\"a0-9.eE+\\-\\\\ tru fals null]{0,24}") {
            // It reads 1e999 as an error; here the range belongs to the field.
            let reference = serde_json::from_str::<serde_json::Value>(&text);
            if !matches!(&reference, Err(error) if error.to_string().contains("out of range")) {
                proptest::prop_assert_eq!(skips(text.as_bytes()), reference.is_ok(), "{}", text);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            skips(&text);
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert!(skips(&nested(100)));
        assert!(!skips(&nested(100_000)));
    }

    #[test]
    fn errors_say_what_was_found_where() {
        let error = Reader::new(b"  }").skip(0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a value, found a closing bracket (at byte 2)"
        );
        let error = Reader::new(b"\"a\xff\"").skip(0).unwrap_err();
        assert_eq!(
            (error.offset(), error.what()),
            (2, "a string that is not UTF-8")
        );
        assert_eq!(Reader::new(b"\"a\n\"").skip(0).unwrap_err().offset(), 2);
        assert_eq!(
            Reader::new(b"\"abc").skip(0).unwrap_err().what(),
            "the text ends inside a string"
        );
    }
}
