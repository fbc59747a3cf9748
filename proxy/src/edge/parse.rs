//! Reads a request line and header section of HTTP/1.1 (RFC 9112), strictly.
//!
//! A scan finds the lines while bytes come in, at a cost that does not grow with the number of reads,
//! and the parser runs once over the whole head. Refused, among others: bare CR or LF, folded lines,
//! white space before a colon, a missing, repeated or malformed Host, and every framing that two
//! readers could understand in two ways. Leading empty lines: one is tolerated.

use http::{Method, Version};

use super::grammar;
use super::head::{Field, Head, Span};
use super::limits::EdgeLimits;
use super::refusal::Refusal;

/// How a request's body is delimited, and what its head says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) body: Body,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
}

/// Finds line ends in a head that comes piece by piece.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    scanned: usize,
    line_start: usize,
    /// The end of each line found, without its CRLF.
    lines: Vec<u32>,
    skipped_line: bool,
    checked_line: bool,
}

impl Scanner {
    /// Forgets everything, for the next request.
    pub(super) fn reset(&mut self) {
        self.scanned = 0;
        self.line_start = 0;
        self.lines.clear();
        self.skipped_line = false;
        self.checked_line = false;
    }

    /// Takes what is in the head's buffer; `Some` once the head is whole and right.
    pub(super) fn advance(
        &mut self,
        head: &mut Head,
        limits: &EdgeLimits,
    ) -> Result<Option<Framing>, Refusal> {
        if !self.skipped_line && head.buffer.starts_with(b"\r\n") {
            head.buffer.drain(..2);
            self.scanned = 0;
            self.skipped_line = true;
        }
        if self.scan(&head.buffer, limits)? {
            head.end = self.line_start;
            return parse(head, &self.lines, limits).map(Some);
        }
        if let (Some(&end), false) = (self.lines.first(), self.checked_line) {
            // What will be refused anyway need not be waited for.
            request_line(head, end as usize, limits)?;
            self.checked_line = true;
        }
        Ok(None)
    }

    /// Looks for line ends in what is new; true at the end of the head.
    fn scan(&mut self, buffer: &[u8], limits: &EdgeLimits) -> Result<bool, Refusal> {
        let base = self.scanned;
        self.scanned = buffer.len();
        for found in memchr::memchr_iter(b'\n', &buffer[base..]) {
            let at = base + found;
            if at == 0 || buffer[at - 1] != b'\r' {
                return Err(Refusal::BadRequest("a line ends in a bare line feed"));
            }
            let (start, end) = (self.line_start, at - 1);
            self.line_start = at + 1;
            if self.line_start > limits.header_bytes {
                return Err(self.too_large());
            }
            if start == end {
                return match self.lines.is_empty() {
                    true => Err(Refusal::BadRequest("the request line is empty")),
                    false => Ok(true),
                };
            }
            self.lines.push(end as u32);
            if self.lines.len() > limits.header_count + 1 {
                return Err(Refusal::HeaderTooLarge);
            }
        }
        self.rest_fits(buffer.len(), limits)?;
        match self.begins_well(buffer) {
            true => Ok(false),
            false => Err(Refusal::BadRequest("this is no request line")),
        }
    }

    /// Whether what there is of a request line can be the start of one; TLS cannot.
    fn begins_well(&self, buffer: &[u8]) -> bool {
        let first = buffer.first().copied().unwrap_or(b'\r');
        !self.lines.is_empty() || first == b'\r' || grammar::token_byte(first) != 0
    }

    /// Bounds a head that is not yet whole.
    fn rest_fits(&self, length: usize, limits: &EdgeLimits) -> Result<(), Refusal> {
        /// A method, two spaces and the version, generously.
        const AROUND_TARGET: usize = 64;
        let long_line = self.lines.is_empty() && length > limits.uri_bytes + AROUND_TARGET;
        match long_line || length > limits.header_bytes {
            true => Err(self.too_large()),
            false => Ok(()),
        }
    }

    fn too_large(&self) -> Refusal {
        match self.lines.is_empty() {
            true => Refusal::UriTooLong,
            false => Refusal::HeaderTooLarge,
        }
    }
}

/// What the fields say that concerns the session.
#[derive(Default)]
struct Seen {
    host: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

fn parse(head: &mut Head, lines: &[u32], limits: &EdgeLimits) -> Result<Framing, Refusal> {
    let mut ends = lines.iter().map(|&end| end as usize);
    let mut previous = ends
        .next()
        .ok_or(Refusal::BadRequest("there is no request line"))?;
    let absolute = request_line(head, previous, limits)?;
    head.fields.clear();
    head.lowered.clear();
    head.authority = Span::default();
    head.host = Span::default();
    (head.upgrades, head.websocket, head.nominates) = (false, false, false);
    let mut seen = Seen::default();
    for end in ends {
        let field = split_field(head, previous + 2, end)?;
        head.fields.push(field);
        note(head, field, &mut seen)?;
        previous = end;
    }
    if let Some(authority) = absolute {
        take_authority(head, authority)?;
    }
    frame(head, &seen)
}

/// The authority of a target in absolute-form is the request's. A `Host` that says otherwise would have to be ignored
/// (RFC 9112 section 3.2.2); clients have to send the same, so it is rather a sign of somebody who tries parsers.
fn take_authority(head: &mut Head, authority: Span) -> Result<(), Refusal> {
    let (host, target) = (head.authority.range(), authority.range());
    let same = head.buffer[host.clone()].eq_ignore_ascii_case(&head.buffer[target]);
    if !host.is_empty() && !same {
        return Err(Refusal::BadRequest("the Host is not that of the target"));
    }
    head.authority = authority;
    match head.set_host() {
        true => Ok(()),
        false => Err(Refusal::BadRequest("the target's host is not a host")),
    }
}

/// `METHOD SP target SP HTTP/1.x`, with exactly one space each. Gives the authority of a target in absolute-form.
fn request_line(head: &mut Head, end: usize, limits: &EdgeLimits) -> Result<Option<Span>, Refusal> {
    let line = &head.buffer[..end];
    let space =
        memchr::memchr(b' ', line).ok_or(Refusal::BadRequest("the request line has no target"))?;
    let method = Method::from_bytes(&line[..space])
        .map_err(|_| Refusal::BadRequest("the method is not a token"))?;
    let rest = &line[space + 1..];
    let length =
        memchr::memchr(b' ', rest).ok_or(Refusal::BadRequest("the request line has no version"))?;
    let (target, version) = (&rest[..length], &rest[length + 1..]);
    head.version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::VersionNotSupported);
        }
        _ => {
            return Err(Refusal::BadRequest(
                "the request line does not end in an HTTP version",
            ));
        }
    };
    if target.len() > limits.uri_bytes {
        return Err(Refusal::UriTooLong);
    }
    let authority = grammar::absolute_form(target);
    let path = authority.as_ref().map_or(0, |authority| authority.end);
    check_target(&method, &target[path..])?;
    head.method = method;
    let start = space + 1;
    head.set_target(Span::new(start + path, start + length));
    Ok(authority.map(|authority| Span::new(start + authority.start, start + authority.end)))
}

fn check_target(method: &Method, target: &[u8]) -> Result<(), Refusal> {
    if *method == Method::CONNECT {
        return Err(Refusal::NotImplemented(
            "this server is no proxy for CONNECT",
        ));
    }
    let asterisk = target == b"*" && *method == Method::OPTIONS;
    match asterisk || grammar::is_origin_form(target) {
        true => Ok(()),
        false => Err(Refusal::BadRequest(
            "the request target is not a path, or has bytes that must be encoded",
        )),
    }
}

/// `name ":" OWS value OWS`; lower-cases the name.
fn split_field(head: &mut Head, start: usize, end: usize) -> Result<Field, Refusal> {
    let line = &mut head.buffer[start..end];
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::BadRequest("a header field is folded over lines"));
    }
    let colon =
        memchr::memchr(b':', line).ok_or(Refusal::BadRequest("a header field has no colon"))?;
    if colon == 0 {
        return Err(Refusal::BadRequest("a header field has no name"));
    }
    for (offset, byte) in line[..colon].iter_mut().enumerate() {
        let lower = grammar::token_byte(*byte);
        if lower == 0 {
            return Err(Refusal::BadRequest("a header field's name is not a token"));
        }
        if lower != *byte {
            *byte = lower;
            head.lowered.push((start + offset) as u32);
        }
    }
    let untrimmed = &line[colon + 1..];
    if !grammar::is_field_value(untrimmed) {
        return Err(Refusal::BadRequest(
            "a header field's value has a control character",
        ));
    }
    let value = grammar::trim(untrimmed);
    let leading = untrimmed
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    let value_start = start + colon + 1 + leading.min(untrimmed.len() - value.len());
    Ok(Field {
        name: Span::new(start, start + colon),
        value: Span::new(value_start, value_start + value.len()),
    })
}

/// Takes note of a field that decides where the request ends or what becomes of the connection.
fn note(head: &mut Head, field: Field, seen: &mut Seen) -> Result<(), Refusal> {
    let value = &head.buffer[field.value.range()];
    match &head.buffer[field.name.range()] {
        b"host" => {
            if std::mem::replace(&mut seen.host, true) {
                return Err(Refusal::BadRequest("there is more than one Host"));
            }
            head.authority = field.value;
            if !head.set_host() {
                return Err(Refusal::BadRequest("the Host is not a host"));
            }
        }
        b"content-length" => {
            let length = grammar::decimal(value)
                .ok_or(Refusal::BadRequest("the Content-Length is not a number"))?;
            if seen.length.replace(length).is_some() {
                return Err(Refusal::BadRequest("there is more than one Content-Length"));
            }
        }
        b"transfer-encoding" => {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::NotImplemented(
                    "the only transfer coding here is chunked",
                ));
            }
            if std::mem::replace(&mut seen.chunked, true) {
                return Err(Refusal::BadRequest(
                    "there is more than one Transfer-Encoding",
                ));
            }
        }
        b"connection" => {
            for option in value.split(|&byte| byte == b',').map(grammar::trim) {
                let is = |known: &[u8]| option.eq_ignore_ascii_case(known);
                seen.close |= is(b"close");
                seen.keep_alive |= is(b"keep-alive");
                head.nominates |= !is(b"close") && !is(b"keep-alive");
            }
        }
        b"upgrade" => head.upgrades = true,
        b"expect" if head.version == Version::HTTP_11 => {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::ExpectationFailed);
            }
            seen.expects_continue = true;
        }
        _ => {}
    }
    Ok(())
}

/// RFC 9112 section 6.3, without its ways to guess.
fn frame(head: &Head, seen: &Seen) -> Result<Framing, Refusal> {
    let is_11 = head.version == Version::HTTP_11;
    if is_11 && !seen.host {
        return Err(Refusal::BadRequest("there is no Host"));
    }
    let body = match (seen.chunked, seen.length) {
        (true, Some(_)) => {
            return Err(Refusal::BadRequest(
                "there are both Content-Length and Transfer-Encoding",
            ));
        }
        (true, None) if !is_11 => {
            return Err(Refusal::BadRequest("HTTP/1.0 knows no Transfer-Encoding"));
        }
        (true, None) => Body::Chunked,
        (false, length) => Body::Length(length.unwrap_or(0)),
    };
    let keep_alive = !seen.close && (is_11 || seen.keep_alive);
    let expects_continue = seen.expects_continue && body != Body::Length(0);
    Ok(Framing {
        body,
        keep_alive,
        expects_continue,
    })
}

#[cfg(test)]
mod tests;
