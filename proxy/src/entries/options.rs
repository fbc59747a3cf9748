//! What entries say of a request beside where it goes: its time, its retries, its path and its header lines.

use std::fmt;
use std::time::Duration;

use mesh_config::model::{HeaderEdits, Retry};
use pingora_http::RequestHeader;

use crate::shaping::Shaping;
use crate::upstream::RetryTerms;

/// What one share of a route says.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Never more than the route of the configuration gives.
    pub(crate) timeout: Option<Duration>,
    retry: Option<(Retry, RetryTerms)>,
    /// What the path starts with, and what it is to start with instead.
    prefix: Option<(String, String)>,
    edits: Edits,
    shaping: Shaping,
}

/// Header lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Edits {
    pub(super) request: HeaderEdits,
    pub(super) response: HeaderEdits,
}

impl Options {
    pub(super) fn new(
        timeout: Option<Duration>,
        retry: Option<Retry>,
        prefix: Option<(String, String)>,
        edits: Edits,
    ) -> Self {
        let terms = retry.as_ref().and_then(RetryTerms::new);
        Self {
            timeout,
            retry: retry.zip(terms),
            prefix,
            shaping: Shaping::of_edits(&edits.request, &edits.response),
            edits,
        }
    }

    /// When a call is tried again, instead of what the route of the configuration says.
    pub(crate) fn retry(&self) -> Option<&RetryTerms> {
        self.retry.as_ref().map(|(_, terms)| terms)
    }

    /// Header lines, beside those of the route.
    pub(crate) fn shaping(&self) -> &Shaping {
        &self.shaping
    }

    /// The request as an HTTP backend gets it.
    pub(crate) fn request(&self, request: &mut RequestHeader) -> pingora_core::Result<()> {
        if let Some((old, new)) = &self.prefix
            && let Some(rest) = request.uri.path().strip_prefix(old.as_str())
        {
            let slash = if new.ends_with('/') || rest.starts_with('/') || rest.is_empty() {
                ""
            } else {
                "/"
            };
            // Two slashes at the start would be read as a host by some.
            let path = format!("{new}{slash}{rest}");
            let path = format!("/{}", path.trim_start_matches('/'));
            let target = match request.uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path,
            };
            request.set_raw_path(target.as_bytes())?;
        }
        self.shaping.request(request)
    }
}

/// By what they say, which is all that there is to it.
impl PartialEq for Options {
    fn eq(&self, other: &Self) -> bool {
        let retry = |one: &Self| one.retry.as_ref().map(|(retry, _)| retry.clone());
        self.timeout == other.timeout
            && retry(self) == retry(other)
            && self.prefix == other.prefix
            && self.edits == other.edits
    }
}

/// With a comma before each, so that it can follow where a request goes.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(timeout) = self.timeout {
            write!(f, ", timeout {timeout:?}")?;
        }
        if let Some((retry, _)) = &self.retry {
            write!(f, ", {} tries on {}", retry.attempts, retry.on)?;
        }
        if let Some((old, new)) = &self.prefix {
            write!(f, ", {old}… becomes {new}…")?;
        }
        if self.edits != Edits::default() {
            f.write_str(", header lines")?;
        }
        Ok(())
    }
}
