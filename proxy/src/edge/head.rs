//! A request's head: one buffer, and ranges into it.
//!
//! The buffer is the connection's read buffer, kept from request to request, so that reading a head
//! allocates nothing. Names are lower-cased in place; what was changed is remembered so that the
//! bytes can be given on as they were sent.

use std::net::SocketAddr;
use std::ops::Range;

use http::{HeaderMap, Method, Version};
use tokio::time::Instant;

use super::grammar;

/// A request line and header section that has been read and validated.
#[derive(Debug, Clone)]
pub struct Head {
    /// From HTTP/1: this request's bytes and what came behind them. From HTTP/2: path and fields.
    pub(super) buffer: Vec<u8>,
    /// Where the head ends in the buffer.
    pub(super) end: usize,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) authority: Span,
    pub(super) host: Span,
    pub(super) fields: Vec<Field>,
    /// Offsets of bytes that were upper-case letters in names.
    pub(super) lowered: Vec<u32>,
    pub(super) peer: SocketAddr,
    pub(super) received: Instant,
    /// There is a field `upgrade`.
    pub(super) upgrades: bool,
    /// `Connection` names fields that are this connection's alone.
    pub(super) nominates: bool,
    /// The connection has become a WebSocket.
    pub(super) websocket: bool,
}

/// A range of the buffer, half the size of a `Range<usize>`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// A header field's name and value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
}

impl Span {
    /// Heads are bounded far below 4 GiB by the limits, so that nothing is cut here.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Head {
    /// An empty head of a connection from `peer`.
    pub(super) fn new(peer: SocketAddr, capacity: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(capacity),
            end: 0,
            method: Method::GET,
            version: Version::HTTP_11,
            path: Span::default(),
            query: None,
            authority: Span::default(),
            host: Span::default(),
            fields: Vec::with_capacity(16),
            lowered: Vec::new(),
            peer,
            received: Instant::now(),
            upgrades: false,
            nominates: false,
            websocket: false,
        }
    }

    /// The head of a request that came by no connection: to ask what would become of it.
    pub fn of(request: &http::Request<()>) -> Self {
        Self::of_peer(request, None)
    }

    /// The head of a request that came from there, which has been read already.
    pub(crate) fn of_peer(request: &http::Request<()>, peer: Option<SocketAddr>) -> Self {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut head = Self::new(peer.unwrap_or(nobody), 0);
        let uri = request.uri();
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let host = request
            .headers()
            .get(http::header::HOST)
            .map(|host| host.as_bytes());
        let authority = host.or(uri
            .authority()
            .map(|authority| authority.as_str().as_bytes()));
        head.fill(
            request.method().clone(),
            target,
            authority.unwrap_or_default(),
            request.headers(),
        );
        head
    }

    /// The method, as sent.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path, raw: percent-encoded and with its dot segments. `*` in `OPTIONS *`.
    pub fn path(&self) -> &str {
        self.text(self.path)
    }

    /// What stands behind the first `?`, raw.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.text(span))
    }

    /// `Host` or `:authority` as sent, with its port; empty if an HTTP/1.0 client sent none.
    pub fn authority(&self) -> &str {
        self.text(self.authority)
    }

    /// The authority's host, without the port, in the case in which it was sent.
    pub fn host(&self) -> &str {
        self.text(self.host)
    }

    /// The first field of that name, which must be given in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers()
            .find(|(found, _)| *found == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// Every field in the order in which they came: name in lower case, value without the white
    /// space around it.
    pub fn headers(&self) -> HeadHeaders<'_> {
        HeadHeaders {
            buffer: &self.buffer,
            fields: self.fields.iter(),
        }
    }

    /// The fields that are not this connection's alone: those that `Connection` names are (RFC 9110 section 7.6.1).
    pub(crate) fn end_to_end(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers()
            .filter(|(name, _)| !self.nominates || !self.has_option("connection", name))
    }

    /// Whether a list field has that member, in any letter case.
    fn has_option(&self, name: &str, wanted: &[u8]) -> bool {
        let lines = self
            .headers()
            .filter(|(found, _)| *found == name.as_bytes());
        let mut options = lines.flat_map(|(_, value)| value.split(|byte| *byte == b','));
        options.any(|option| grammar::trim(option).eq_ignore_ascii_case(wanted))
    }

    /// The version of the request.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The other end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// When the head was complete.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Whether the client wants to go on as a WebSocket, rightly or not (RFC 6455 section 4.2.1).
    pub fn wants_websocket(&self) -> bool {
        self.upgrades
            && self.version == Version::HTTP_11
            && self.method == Method::GET
            && self.has_option("upgrade", b"websocket")
            && self.has_option("connection", b"upgrade")
    }

    /// Whether the messages of the call are those of a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// Becomes what the request for a WebSocket counts as.
    /// `parameter` of the query said so, and is not the call's.
    pub(super) fn take_up(&mut self, method: Method, parameter: Option<&str>) {
        self.method = method;
        self.websocket = true;
        let (Some(parameter), Some(query)) = (parameter, self.query) else {
            return;
        };
        let pairs = self.text(query).split('&');
        let kept: Vec<&str> = pairs
            .filter(|pair| pair.split('=').next() != Some(parameter))
            .collect();
        let kept = kept.join("&");
        let (start, end) = (query.range().start, query.range().start + kept.len());
        self.buffer[start..end].copy_from_slice(kept.as_bytes());
        self.query = (!kept.is_empty()).then(|| Span::new(start, end));
    }

    /// Fills the head from an HTTP/2 request's parts, which the caller has validated.
    pub(super) fn fill(
        &mut self,
        method: Method,
        target: &str,
        authority: &[u8],
        fields: &HeaderMap,
    ) {
        self.buffer.clear();
        self.fields.clear();
        self.lowered.clear();
        self.method = method;
        self.version = Version::HTTP_2;
        (self.upgrades, self.websocket, self.nominates) = (false, false, false);
        let target = self.append(target.as_bytes());
        self.set_target(target);
        self.authority = self.append(authority);
        for (name, value) in fields {
            let name = self.append(name.as_str().as_bytes());
            let value = self.append(value.as_bytes());
            self.fields.push(Field { name, value });
        }
        self.end = self.buffer.len();
        self.received = Instant::now();
    }

    /// Splits a target into path and query.
    pub(super) fn set_target(&mut self, target: Span) {
        let found = memchr::memchr(b'?', &self.buffer[target.range()]);
        let mark = found.map(|at| target.start + at as u32);
        self.path = Span {
            start: target.start,
            end: mark.unwrap_or(target.end),
        };
        self.query = mark.map(|at| Span {
            start: at + 1,
            end: target.end,
        });
    }

    /// Finds the host in the authority; false if there is none.
    pub(super) fn set_host(&mut self) -> bool {
        let length = grammar::host_length(&self.buffer[self.authority.range()]);
        let start = self.authority.start;
        self.host = Span {
            start,
            end: start + length.unwrap_or(0) as u32,
        };
        length.is_some()
    }

    /// Leaves nothing of a head that was not understood, as far as an answer depends on it.
    pub(super) fn forget(&mut self) {
        self.method = Method::GET;
        self.version = Version::HTTP_11;
    }

    /// What to leave out when this request is given on: what precedes the path in the target, which is for whom the
    /// client took this server, and an upgrade to anything but WebSocket.
    pub(super) fn left_out(&self) -> Vec<Range<usize>> {
        let target = self.method.as_str().len() + 1;
        let before_path = target..self.path.range().start;
        let absolute = Some(before_path).filter(|range| !range.is_empty());
        let upgrade = self.foreign_upgrade().unwrap_or_default();
        absolute.into_iter().chain(upgrade).collect()
    }

    /// The lines of an upgrade to anything but WebSocket.
    fn foreign_upgrade(&self) -> Option<Vec<Range<usize>>> {
        let upgrade = self.header("upgrade")?;
        let websocket = upgrade.eq_ignore_ascii_case(b"websocket");
        let lines = self.fields.iter().filter(|field| {
            let name = &self.buffer[field.name.range()];
            name == b"upgrade" || name == b"http2-settings"
        });
        (!websocket).then(|| lines.map(|field| self.line(field)).collect())
    }

    /// A field's whole line, with its line end.
    fn line(&self, field: &Field) -> Range<usize> {
        let value_end = field.value.end as usize;
        let rest = memchr::memchr(b'\n', &self.buffer[value_end..]).unwrap_or_default();
        field.name.start as usize..value_end + rest + 1
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        Span::new(start, self.buffer.len())
    }

    fn text(&self, span: Span) -> &str {
        // Everything that is asked for here has been found to be ASCII when it was read.
        std::str::from_utf8(&self.buffer[span.range()]).unwrap_or_default()
    }
}

/// The fields of a [`Head`].
#[derive(Debug, Clone)]
pub struct HeadHeaders<'a> {
    buffer: &'a [u8],
    fields: std::slice::Iter<'a, Field>,
}

impl<'a> Iterator for HeadHeaders<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.fields.next()?;
        Some((
            &self.buffer[field.name.range()],
            &self.buffer[field.value.range()],
        ))
    }
}
