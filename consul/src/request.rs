//! A request, before it is sent: path and query are encoded here and nowhere else, so that no service, tag, key or filter
//! can add a parameter or a header of its own.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::error::Rule;

/// A request to one endpoint of the API.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) body: Bytes,
    /// How long the head of the answer may take.
    pub(crate) patience: Duration,
    /// The right that it needs.
    pub(crate) rule: Rule,
    /// 404 is an answer, not an error.
    pub(crate) may_be_missing: bool,
}

impl Request {
    pub(crate) fn new(method: Method, target: Target, patience: Duration, rule: Rule) -> Self {
        Self {
            method,
            target: target.text,
            body: Bytes::new(),
            patience,
            rule,
            may_be_missing: false,
        }
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn may_be_missing(mut self) -> Self {
        self.may_be_missing = true;
        self
    }
}

/// Path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    text: String,
    asked: bool,
}

impl Target {
    /// A fixed path: `/v1/health/service`.
    pub(crate) fn new(path: &str) -> Self {
        Self {
            text: path.to_owned(),
            asked: false,
        }
    }

    /// One more segment; slashes in it are encoded.
    pub(crate) fn segment(mut self, segment: &str) -> Self {
        self.text.push('/');
        encode(&mut self.text, segment, b"");
        self
    }

    /// The rest of the path, slashes and all: a key.
    pub(crate) fn rest(mut self, rest: &str) -> Self {
        self.text.push('/');
        encode(&mut self.text, rest, b"/");
        self
    }

    /// A parameter without a value.
    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.text.push(if self.asked { '&' } else { '?' });
        self.asked = true;
        self.text.push_str(name);
        self
    }

    /// A parameter.
    pub(crate) fn pair(mut self, name: &str, value: &str) -> Self {
        self = self.flag(name);
        self.text.push('=');
        encode(&mut self.text, value, b"");
        self
    }

    /// A parameter, if there is a value.
    pub(crate) fn optional(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.pair(name, value),
            None => self,
        }
    }
}

fn encode(out: &mut String, text: &str, keep: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || keep.contains(&byte)
        {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_from_its_place() {
        let target = Target::new("/v1/health/service")
            .segment("a/../b?c")
            .pair("filter", "Service.Meta.x == \"1 & 2\"")
            .flag("stale")
            .optional("dc", None)
            .optional("ns", Some("ü\r\n"));
        assert_eq!(
            target.text,
            "/v1/health/service/a%2F..%2Fb%3Fc?filter=Service.Meta.x%20%3D%3D%20%221%20%26%202%22&stale&ns=%C3%BC%0D%0A"
        );
        assert_eq!(Target::new("/v1/kv").rest("a/b c").text, "/v1/kv/a/b%20c");
    }
}
