//! Which requests a route of a `service-router` takes: path, header lines, query parameters and methods, by Consul's rules, on the
//! request as it came to the gateway.

use std::fmt;
use std::net::IpAddr;

use mesh_config::model::Pattern;
use smallvec::SmallVec;

use crate::edge::Head;

/// What can be asked of a request.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// As it was sent, percent-encoded.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    lines: &'a dyn Lines<'a>,
}

/// Where a request's header lines are.
pub(crate) trait Lines<'a> {
    /// The first line of this name, which is in lower case.
    fn header(&self, name: &str) -> Option<&'a [u8]>;
    /// The value of the first cookie of this name.
    fn cookie(&self, name: &str) -> Option<&'a [u8]>;
    /// Who sent it.
    fn peer(&self) -> Option<IpAddr>;
}

/// All of them have to hold; of no conditions, all requests are meant.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Conditions {
    pub(super) path: Option<Text>,
    pub(super) headers: Vec<Field>,
    pub(super) query: Vec<Field>,
    pub(super) methods: Vec<String>,
}

/// A condition on a header line or a query parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    /// Of a header line: in lower case.
    pub(super) name: String,
    /// `None`: it has to be there, whatever it is.
    pub(super) value: Option<Text>,
    /// The opposite has to be true.
    pub(super) invert: bool,
}

/// A condition on a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) how: How,
    pub(super) text: String,
    /// Letters are as their small ones; `text` is in them.
    pub(super) ignore_case: bool,
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum How {
    Exact,
    Prefix,
    Suffix,
    Contains,
    /// As a whole.
    Regex(Pattern),
}

impl<'a> Asked<'a> {
    pub(crate) fn new(
        method: &'a str,
        path: &'a str,
        query: Option<&'a str>,
        lines: &'a dyn Lines<'a>,
    ) -> Self {
        Self {
            method,
            path,
            query,
            lines,
        }
    }

    /// Does something with what a head asks.
    pub(crate) fn of<T>(head: &'a Head, then: impl FnOnce(&Asked<'_>) -> T) -> T {
        let (method, path) = (head.method().as_str(), head.path());
        then(&Asked::new(method, path, head.query(), &head))
    }

    pub(super) fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.lines.header(name)
    }

    pub(super) fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.lines.cookie(name)
    }

    /// The bytes of the client's address, the same by whatever family it came.
    pub(super) fn address(&self) -> Option<SmallVec<[u8; 16]>> {
        Some(match self.lines.peer()?.to_canonical() {
            IpAddr::V4(ip) => SmallVec::from_slice(&ip.octets()),
            IpAddr::V6(ip) => SmallVec::from_slice(&ip.octets()),
        })
    }

    /// The first parameter of this name, raw.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        let pairs = self.query?.split('&');
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let found = pairs.find(|(key, _)| *key == name);
        found.map(|(_, value)| value.as_bytes())
    }
}

impl<'a> Lines<'a> for &'a Head {
    fn header(&self, name: &str) -> Option<&'a [u8]> {
        Head::header(self, name)
    }

    fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let lines = self.headers().filter(|(field, _)| *field == b"cookie");
        cookie_in(lines.map(|(_, line)| line), name)
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(Head::peer(self).ip())
    }
}

/// The value of a cookie (RFC 6265 section 4.2.1).
pub(crate) fn cookie_in<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    pairs
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

impl Conditions {
    pub(super) fn hold(&self, asked: &Asked<'_>) -> bool {
        let method =
            self.methods.is_empty() || self.methods.iter().any(|method| method == asked.method);
        let path = self.path.as_ref();
        method
            && path.is_none_or(|path| path.holds(asked.path.as_bytes()))
            && self
                .headers
                .iter()
                .all(|field| field.holds(asked.header(&field.name)))
            && self
                .query
                .iter()
                .all(|field| field.holds(asked.parameter(&field.name)))
    }
}

impl Field {
    fn holds(&self, value: Option<&[u8]>) -> bool {
        let holds = match (&self.value, value) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(text), Some(value)) => text.holds(value),
        };
        holds != self.invert
    }
}

impl Text {
    pub(super) fn holds(&self, value: &[u8]) -> bool {
        if self.ignore_case && !matches!(self.how, How::Regex(_)) {
            return self.compares(&value.to_ascii_lowercase());
        }
        self.compares(value)
    }

    fn compares(&self, value: &[u8]) -> bool {
        let text = self.text.as_bytes();
        match &self.how {
            How::Exact => value == text,
            How::Prefix => value.starts_with(text),
            How::Suffix => value.ends_with(text),
            How::Contains => text.is_empty() || value.windows(text.len()).any(|part| part == text),
            How::Regex(pattern) => pattern.matches(value),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::Exact => write!(f, "= {}", self.text),
            How::Prefix => write!(f, "{}…", self.text),
            How::Suffix => write!(f, "…{}", self.text),
            How::Contains => write!(f, "…{}…", self.text),
            How::Regex(_) => write!(f, "~ {}", self.text),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.methods.is_empty() {
            parts.push(self.methods.join("|"));
        }
        parts.extend(self.path.as_ref().map(|path| format!("path {path}")));
        for (what, fields) in [("header", &self.headers), ("query", &self.query)] {
            for field in fields {
                let not = if field.invert { "not " } else { "" };
                let value = field.value.as_ref();
                let value = value.map_or("present".to_owned(), ToString::to_string);
                parts.push(format!("{not}{what} {} {value}", field.name));
            }
        }
        if parts.is_empty() {
            return f.write_str("any");
        }
        f.write_str(&parts.join(", "))
    }
}
