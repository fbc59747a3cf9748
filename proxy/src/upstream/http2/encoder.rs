//! Header blocks of gRPC requests, RFC 7541. What repeats (path, authority, the headers that gRPC asks for) is
//! put into the peer's dynamic table the first time and costs one byte from then on; what does not repeat
//! (deadlines, metadata) never enters it. Entries are added until the table is full and then no more, so that
//! none is ever evicted and an entry's place is plain arithmetic. No Huffman code: on such short values it
//! saves bytes that cost nothing and takes time that does.

use http::{HeaderName, HeaderValue};

use crate::upstream::message::ACCEPTED;

/// `:method: POST` and `:scheme: http` of the static table.
const POST_HTTP: [u8; 2] = [0x83, 0x86];
const AUTHORITY: u64 = 1;
const PATH: u64 = 4;
const CONTENT_TYPE: u64 = 31;
const USER_AGENT: u64 = 58;
/// The first index of the dynamic table.
const DYNAMIC: u64 = 62;
/// What an entry counts beside its text.
const OVERHEAD: usize = 32;
/// The table's size unless the peer says otherwise, and the most that is used of what it allows.
pub(super) const DEFAULT_TABLE: usize = 4096;

const TIMEOUT: &str = "grpc-timeout";
const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const AGENT: &str = concat!("highpress/", env!("CARGO_PKG_VERSION"));

/// What goes into a header block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestHead<'a> {
    pub(crate) path: &'a str,
    pub(crate) authority: &'a str,
    /// The value of `grpc-timeout`; empty: there is none.
    pub(crate) timeout: &'a [u8],
    pub(crate) metadata: &'a [(HeaderName, HeaderValue)],
    /// The value of `grpc-encoding`, if messages may be encoded.
    pub(crate) coding: Option<&'static str>,
    /// `metadata` is the head of a caller who speaks gRPC, with a content type and user agent of its own.
    pub(crate) passed: bool,
}

/// One connection's encoder.
#[derive(Debug)]
pub(super) struct Encoder {
    /// The size that the peer's table may have.
    table: usize,
    room: usize,
    /// The table's size to announce at the start of the next block.
    resize: Option<usize>,
    entries: u64,
    /// Places of entries, counted from the oldest.
    authority: Option<u64>,
    te: Option<u64>,
    content_type: Option<u64>,
    agent: Option<u64>,
    accepts: Option<u64>,
    timeout: Option<u64>,
    paths: Vec<(Box<str>, u64)>,
}

/// How a field's name is written.
#[derive(Clone, Copy)]
enum Name<'a> {
    Static(u64),
    Text(&'a str),
}

// === impl Encoder ===

impl Encoder {
    /// For a peer whose table has this size.
    pub(super) fn new(table: usize) -> Self {
        let table = table.min(DEFAULT_TABLE);
        Self {
            table,
            room: table,
            resize: (table < DEFAULT_TABLE).then_some(table),
            entries: 0,
            authority: None,
            te: None,
            content_type: None,
            agent: None,
            accepts: None,
            timeout: None,
            paths: Vec::new(),
        }
    }

    /// Whether it may go on if the peer's table has this size from now on.
    pub(super) fn fits(&self, table: usize) -> bool {
        table >= self.table
    }

    /// Appends the block of a request.
    pub(super) fn encode(&mut self, head: &RequestHead<'_>, out: &mut Vec<u8>) {
        if let Some(size) = self.resize.take() {
            integer(0x20, 5, size as u64, out);
        }
        out.extend_from_slice(&POST_HTTP);
        if head.passed {
            // Callers choose such paths: they could fill the table with any.
            integer(0x00, 4, PATH, out);
            string(head.path.as_bytes(), out);
        } else {
            self.path(head.path, out);
        }
        self.authority = self.kept(self.authority, Name::Static(AUTHORITY), head.authority, out);
        self.te = self.kept(self.te, Name::Text("te"), "trailers", out);
        if !head.passed {
            let (kind, grpc) = (Name::Static(CONTENT_TYPE), "application/grpc");
            self.content_type = self.kept(self.content_type, kind, grpc, out);
            self.agent = self.kept(self.agent, Name::Static(USER_AGENT), AGENT, out);
            self.accepts = self.kept(self.accepts, Name::Text(ACCEPT_ENCODING), ACCEPTED, out);
        }
        if let Some(coding) = head.coding {
            out.push(0x00);
            string(ENCODING.as_bytes(), out);
            string(coding.as_bytes(), out);
        }
        if !head.timeout.is_empty() {
            self.timeout(head.timeout, out);
        }
        for (name, value) in head.metadata {
            // Passed on as the caller marked it; neither kind enters the table.
            out.push(if value.is_sensitive() { 0x10 } else { 0x00 });
            string(name.as_str().as_bytes(), out);
            string(value.as_bytes(), out);
        }
    }

    fn path(&mut self, path: &str, out: &mut Vec<u8>) {
        let known = self
            .paths
            .iter()
            .find(|(known, _)| **known == *path)
            .map(|(_, place)| *place);
        let place = self.kept(known, Name::Static(PATH), path, out);
        if let (None, Some(place)) = (known, place) {
            self.paths.push((path.into(), place));
        }
    }

    /// The name is in the table after the first time, the value never again.
    fn timeout(&mut self, value: &[u8], out: &mut Vec<u8>) {
        if let Some(place) = self.timeout {
            integer(0x00, 4, self.index(place), out);
            return string(value, out);
        }
        self.timeout = self.enter(Name::Text(TIMEOUT), value, out);
    }

    /// A field with always the same value; returns its place, if it has one now.
    fn kept(
        &mut self,
        place: Option<u64>,
        name: Name<'_>,
        value: &str,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let Some(place) = place else {
            return self.enter(name, value.as_bytes(), out);
        };
        integer(0x80, 7, self.index(place), out);
        Some(place)
    }

    /// A literal that enters the table if there is room.
    fn enter(&mut self, name: Name<'_>, value: &[u8], out: &mut Vec<u8>) -> Option<u64> {
        let size = name.len() + value.len() + OVERHEAD;
        let fits = size <= self.room;
        let (first, prefix) = if fits { (0x40, 6) } else { (0x00, 4) };
        match name {
            Name::Static(index) => integer(first, prefix, index, out),
            Name::Text(text) => {
                out.push(first);
                string(text.as_bytes(), out);
            }
        }
        string(value, out);
        if !fits {
            return None;
        }
        self.room -= size;
        self.entries += 1;
        Some(self.entries - 1)
    }

    /// The newest entry has the lowest index.
    fn index(&self, place: u64) -> u64 {
        DYNAMIC + self.entries - 1 - place
    }
}

// === impl Name ===

impl Name<'_> {
    fn len(self) -> usize {
        match self {
            Self::Static(AUTHORITY) => ":authority".len(),
            Self::Static(PATH) => ":path".len(),
            Self::Static(CONTENT_TYPE) => "content-type".len(),
            Self::Static(_) => "user-agent".len(),
            Self::Text(text) => text.len(),
        }
    }
}

/// An integer whose first `prefix` bits share a byte with `first`. Nearly all fit there.
#[inline]
fn integer(first: u8, prefix: u32, value: u64, out: &mut Vec<u8>) {
    let mask = (1u64 << prefix) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    long_integer(first, mask, value, out);
}

#[cold]
fn long_integer(first: u8, mask: u64, value: u64, out: &mut Vec<u8>) {
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    integer(0x00, 7, text.len() as u64, out);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::super::decoder::Decoder;
    use super::*;
    use proptest::prelude::*;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        decoder
            .decode(block, |name, value| fields.push((text(name), text(value))))
            .expect("a block that can be decoded");
        fields
    }

    fn expected(head: &RequestHead<'_>) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", head.path),
            (":authority", head.authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", AGENT),
            (ACCEPT_ENCODING, ACCEPTED),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        fields.extend(
            head.coding
                .map(|coding| (ENCODING.to_owned(), coding.to_owned())),
        );
        fields.push((
            TIMEOUT.to_owned(),
            String::from_utf8(head.timeout.to_vec()).unwrap(),
        ));
        fields.extend(
            head.metadata
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())),
        );
        fields
    }

    #[test]
    fn what_repeats_costs_a_byte() {
        let (mut encoder, mut out) = (Encoder::new(DEFAULT_TABLE), Vec::new());
        let head = RequestHead {
            path: "/counter.CounterService/GetCounter",
            authority: "127.0.0.1:50051",
            timeout: b"4999123u",
            metadata: &[],
            coding: None,
            passed: false,
        };
        encoder.encode(&head, &mut out);
        out.clear();
        encoder.encode(&head, &mut out);
        assert_eq!(out.len(), 2 + 6 + (2 + 9), "{out:?}");
    }

    proptest! {
        #[test]
        fn the_peer_reads_what_was_written(
            calls in proptest::collection::vec((0usize..90, "[0-9]{1,8}[numSMH]", "[a-z-]{1,12}", "[!-~]{0,300}", any::<bool>()), 1..60),
            coding in proptest::sample::select(vec![None, Some("gzip")]),
            table in proptest::sample::select(vec![0usize, 31, 100, 200, 4096, 65_536]),
        ) {
            let (mut encoder, mut decoder) = (Encoder::new(table), Decoder::new());
            for (method, timeout, name, value, sensitive) in calls {
                let path = format!("/package.Service{method}/Method");
                let mut value = HeaderValue::from_str(&value).unwrap();
                value.set_sensitive(sensitive);
                let metadata = [(HeaderName::from_bytes(name.as_bytes()).unwrap(), value)];
                let head = RequestHead { path: &path, authority: "backend:50051", timeout: timeout.as_bytes(), metadata: &metadata, coding, passed: false };
                let mut block = Vec::new();
                encoder.encode(&head, &mut block);
                prop_assert_eq!(decoded(&mut decoder, &block), expected(&head));
            }
        }
    }
}
