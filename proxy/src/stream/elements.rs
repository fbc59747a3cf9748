//! The messages in the body of a request that streams: JSON values one after the other, with or without line
//! breaks between them (NDJSON), or the elements of one array.
//!
//! Only the ends of values are looked for, each byte once; what is between is the transcoder's to judge. Refused:
//! values larger than the route's `max_body`, and what stands where no value can begin.

/// Cuts a body into values as it comes.
#[derive(Debug)]
pub(super) struct Elements {
    buffer: Vec<u8>,
    /// Of `buffer`, what has been looked at.
    scanned: usize,
    /// Where the value under way begins.
    start: usize,
    place: Place,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// A value of the top level that is an array is a message.
    lines: bool,
    most: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before anything.
    Start,
    /// Between the values of a sequence.
    Between,
    /// In an array, before its first element.
    Opened,
    /// In an array, after a comma.
    Comma,
    /// In an array, after an element.
    After,
    /// In a value, of an array or not.
    Value { array: bool },
    /// Behind the array.
    Closed,
}

/// Why a body is no stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ElementError {
    #[error("a message is larger than this route takes")]
    TooLarge,
    #[error("`{}` stands where a message, a comma or the end of the list belongs", .0.escape_ascii())]
    Unexpected(u8),
    #[error("it ends in the middle of a message or of the list")]
    CutShort,
}

/// Whether a content type says that each line is a message.
pub(super) fn is_lines(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii();
    [
        &b"application/x-ndjson"[..],
        b"application/ndjson",
        b"application/jsonl",
        b"application/x-json-stream",
    ]
    .iter()
    .any(|known| known.eq_ignore_ascii_case(kind))
}

impl Elements {
    /// `lines`: there is no array around the messages. A message may have `most` bytes.
    pub(super) fn new(lines: bool, most: usize) -> Self {
        Self {
            buffer: Vec::new(),
            scanned: 0,
            start: 0,
            place: Place::Start,
            depth: 0,
            in_string: false,
            escaped: false,
            lines,
            most,
        }
    }

    /// Takes the next piece of the body.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next message that is whole, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, ElementError> {
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            if let Place::Value { array } = self.place {
                if let Some(end) = self.step(byte) {
                    return Ok(Some(self.cut(end, array)));
                }
                if self.scanned - self.start > self.most {
                    return Err(ElementError::TooLarge);
                }
                continue;
            }
            self.scanned += 1;
            self.place = match (self.place, byte) {
                (_, b' ' | b'\t' | b'\r' | b'\n') => continue,
                (Place::Start, b'[') if !self.lines => Place::Opened,
                (Place::Opened | Place::After, b']') => Place::Closed,
                (Place::After, b',') => Place::Comma,
                (Place::Start | Place::Between, _) if begins_value(byte) => self.begin(false),
                (Place::Opened | Place::Comma, _) if begins_value(byte) => self.begin(true),
                _ => return Err(ElementError::Unexpected(byte)),
            };
        }
        if !matches!(self.place, Place::Value { .. }) {
            self.buffer.clear();
            self.scanned = 0;
        }
        Ok(None)
    }

    /// The message that ends with the body, after all others were taken.
    pub(super) fn last(&mut self) -> Result<Option<Vec<u8>>, ElementError> {
        match self.place {
            Place::Start | Place::Between | Place::Closed => Ok(None),
            // A number or a word ends where nothing follows.
            Place::Value { array: false } if self.depth == 0 && !self.in_string => {
                Ok(Some(self.cut(self.scanned, false)))
            }
            _ => Err(ElementError::CutShort),
        }
    }

    /// The byte that was read last begins a value.
    fn begin(&mut self, array: bool) -> Place {
        self.scanned -= 1;
        self.start = self.scanned;
        (self.depth, self.in_string, self.escaped) = (0, false, false);
        Place::Value { array }
    }

    /// Looks at a byte of a value; where the value ends, if it does.
    fn step(&mut self, byte: u8) -> Option<usize> {
        let first = self.scanned == self.start;
        if self.in_string {
            self.scanned += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return (!self.in_string && self.depth == 0).then_some(self.scanned);
        }
        match byte {
            b'"' if first || self.depth > 0 => self.in_string = true,
            b'{' | b'[' if first || self.depth > 0 => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                self.scanned += 1;
                return (self.depth == 0).then_some(self.scanned);
            }
            // What follows a number or a word.
            _ if self.depth == 0 && !continues_word(byte) => return Some(self.scanned),
            _ => {}
        }
        self.scanned += 1;
        None
    }

    fn cut(&mut self, end: usize, array: bool) -> Vec<u8> {
        let value = self.buffer[self.start..end].to_vec();
        self.buffer.drain(..end);
        (self.start, self.scanned) = (0, 0);
        self.place = match array {
            true => Place::After,
            false => Place::Between,
        };
        value
    }
}

fn begins_value(byte: u8) -> bool {
    matches!(byte, b'{' | b'[' | b'"' | b'-') || byte.is_ascii_alphanumeric()
}

fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn cut(body: &[u8], piece: usize, lines: bool) -> Result<Vec<String>, ElementError> {
        let (mut elements, mut found) = (Elements::new(lines, 1000), Vec::new());
        for piece in body.chunks(piece) {
            elements.push(piece);
            while let Some(element) = elements.next()? {
                found.push(String::from_utf8(element).unwrap());
            }
        }
        found.extend(
            elements
                .last()?
                .map(|last| String::from_utf8(last).unwrap()),
        );
        Ok(found)
    }

    #[test]
    fn messages_may_stand_in_lines_in_a_row_or_in_a_list() {
        for (body, lines, expected) in [
            ("{\"a\":1}\n{}\n", false, &["{\"a\":1}", "{}"][..]),
            ("{}{} {}", false, &["{}", "{}", "{}"]),
            (" [ {} , 1,\"]\" ] ", false, &["{}", "1", "\"]\""]),
            ("[1]\n[2]", true, &["[1]", "[2]"]),
            ("[]", false, &[]),
            ("", false, &[]),
            ("12 true\n\"a\\\"}\"", false, &["12", "true", "\"a\\\"}\""]),
            ("[[1],[2]]", false, &["[1]", "[2]"]),
        ] {
            for piece in [1, 2, 100] {
                let found = cut(body.as_bytes(), piece, lines).unwrap();
                assert_eq!(found, expected, "{body} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_no_stream_of_messages_is_refused() {
        for (body, error) in [
            ("[1", ElementError::CutShort),
            ("[1,", ElementError::CutShort),
            ("{", ElementError::CutShort),
            ("\"", ElementError::CutShort),
            ("[1 2]", ElementError::Unexpected(b'2')),
            ("[,]", ElementError::Unexpected(b',')),
            ("[] 1", ElementError::Unexpected(b'1')),
            ("1,2", ElementError::Unexpected(b',')),
            ("}", ElementError::Unexpected(b'}')),
        ] {
            assert_eq!(cut(body.as_bytes(), 1, false), Err(error), "{body}");
        }
        let large = format!("\"{}\"", "a".repeat(1001));
        assert_eq!(cut(large.as_bytes(), 7, false), Err(ElementError::TooLarge));
    }

    fn values() -> impl Strategy<Value = Vec<Value>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            ".{0,9}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        });
        prop::collection::vec(value, 0..6)
    }

    proptest! {
        #[test]
        fn values_come_out_as_they_went_in(values in values(), piece in 1usize..40, lines: bool) {
            let texts: Vec<String> = values.iter().map(Value::to_string).collect();
            let body = match lines {
                true => texts.join("\n"),
                false => format!("[{}]", texts.join(", ")),
            };
            prop_assert_eq!(cut(body.as_bytes(), piece, lines).unwrap(), texts);
        }

        #[test]
        fn no_bytes_panic(body in prop::collection::vec(prop::sample::select(&b"[]{},:\"\\a1 \n-"[..]), 0..40), lines: bool) {
            let whole = cut(&body, 100, lines);
            prop_assert_eq!(cut(&body, 1, lines), whole);
        }
    }
}
