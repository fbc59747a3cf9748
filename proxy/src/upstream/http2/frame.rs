//! The frame layer of HTTP/2, RFC 9113 section 4 and 6: heads, flags, and the frames that a client writes.

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// What a frame may carry unless its receiver allows more; this client never does.
pub(super) const DEFAULT_MAX: usize = 16_384;
/// What every client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A window cannot be larger.
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x01;
pub(super) const ACK: u8 = 0x01;
pub(super) const END_HEADERS: u8 = 0x04;
pub(super) const PADDED: u8 = 0x08;
const WITH_PRIORITY: u8 = 0x20;

/// `SETTINGS` identifiers.
pub(super) mod setting {
    pub(in super::super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in super::super) const MAX_FRAME_SIZE: u16 = 5;
    pub(in super::super) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

// === impl Head ===

impl Head {
    /// The head at the front of `bytes`, if all of it is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEAD>()?;
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        // The first bit of a stream's number means nothing and is to be ignored.
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        Some(Self {
            length,
            kind: *kind,
            flags: *flags,
            stream,
        })
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What a DATA or HEADERS frame carries without padding and priority.
    pub(super) fn content(self, mut payload: &[u8]) -> Option<&[u8]> {
        let mut padding = 0;
        if self.has(PADDED) {
            let (first, rest) = payload.split_first()?;
            (padding, payload) = (usize::from(*first), rest);
        }
        if self.kind == HEADERS && self.has(WITH_PRIORITY) {
            payload = payload.get(5..)?;
        }
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

/// Writes a head.
pub(super) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Writes a frame whose payload is one number.
pub(super) fn number(out: &mut Vec<u8>, kind: u8, stream: u32, value: u32) {
    head(out, 4, kind, 0, stream);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes SETTINGS.
pub(super) fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    head(out, settings.len() * 6, SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes PING.
pub(super) fn ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    head(out, 8, PING, flags, 0);
    out.extend_from_slice(&payload);
}

/// Writes GOAWAY; no stream of the peer was ever taken.
pub(super) fn goaway(out: &mut Vec<u8>, reason: u32) {
    head(out, 8, GOAWAY, 0, 0);
    out.extend_from_slice(&0u32.to_be_bytes());
    out.extend_from_slice(&reason.to_be_bytes());
}

/// Splits a header block, which starts at `start` of `out` behind room for one head, into frames of at most `max`.
pub(super) fn headers(out: &mut Vec<u8>, start: usize, max: usize, stream: u32) {
    let block = out.len() - start - HEAD;
    let mut frames = Vec::new();
    if block <= max {
        head(&mut frames, block, HEADERS, END_HEADERS, stream);
        return out[start..start + HEAD].copy_from_slice(&frames);
    }
    let rest = out.split_off(start + HEAD);
    out.truncate(start);
    let last = rest.len().div_ceil(max) - 1;
    for (index, part) in rest.chunks(max).enumerate() {
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        let flags = if index == last { END_HEADERS } else { 0 };
        head(out, part.len(), kind, flags, stream);
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn padding_and_priority_are_taken_off() {
        let head = |kind, flags| Head {
            length: 0,
            kind,
            flags,
            stream: 1,
        };
        assert_eq!(head(DATA, 0).content(b"abc"), Some(&b"abc"[..]));
        assert_eq!(head(DATA, PADDED).content(b"\x02abcde"), Some(&b"abc"[..]));
        assert_eq!(head(DATA, PADDED).content(b"\x05abcde"), Some(&b""[..]));
        assert_eq!(head(DATA, PADDED).content(b"\x06abcde"), None);
        assert_eq!(head(DATA, PADDED).content(b""), None);
        assert_eq!(
            head(HEADERS, WITH_PRIORITY).content(b"12345abc"),
            Some(&b"abc"[..])
        );
        assert_eq!(head(HEADERS, WITH_PRIORITY).content(b"1234"), None);
        assert_eq!(
            head(HEADERS, WITH_PRIORITY | PADDED).content(b"\x0112345abc!"),
            Some(&b"abc"[..])
        );
    }

    proptest! {
        #[test]
        fn heads_come_back(length in 0usize..1 << 24, kind: u8, flags: u8, stream in 0u32..1 << 31) {
            let mut out = Vec::new();
            head(&mut out, length, kind, flags, stream);
            prop_assert_eq!(Head::parse(&out), Some(Head { length, kind, flags, stream }));
            prop_assert_eq!(Head::parse(&out[..8]), None);
        }

        #[test]
        fn blocks_of_any_size_are_split(block in proptest::collection::vec(any::<u8>(), 1..400), max in 16usize..128) {
            let mut out = b"before".to_vec();
            out.extend_from_slice(&[0; HEAD]);
            out.extend_from_slice(&block);
            headers(&mut out, 6, max, 5);
            let (mut rest, mut joined, mut ended) = (&out[6..], Vec::new(), false);
            while let Some(head) = Head::parse(rest) {
                prop_assert!(!ended && head.length <= max && head.stream == 5);
                prop_assert_eq!(head.kind, if joined.is_empty() { HEADERS } else { CONTINUATION });
                joined.extend_from_slice(&rest[HEAD..HEAD + head.length]);
                ended = head.has(END_HEADERS);
                rest = &rest[HEAD + head.length..];
            }
            prop_assert!(ended && rest.is_empty());
            prop_assert_eq!(joined, block);
        }
    }
}
