//! What a failed call looks like to an HTTP client: a status and a JSON body.
//!
//! A profile's rules are tried in order and the first that fits decides; a failure that no rule
//! fits is a `google.rpc.Status` with the HTTP status of `google/rpc/code.proto`. Bodies are
//! templates with holes, compiled to a list of parts. Details of a backend's status are written
//! as the schema knows their types. Problem details follow RFC 9457.

mod details;

use std::borrow::Cow;
use std::sync::Arc;

use crate::codec::Codec;
use crate::status::Code;

/// A call that failed, in the gateway or at the backend.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The gRPC code's number.
    pub code: u32,
    /// The gateway's fixed word, such as `NO_HEALTHY_UPSTREAM`; empty for a backend's own status.
    pub reason: &'a str,
    /// The HTTP status, where the gateway knows a better one than the code's.
    pub http_status: Option<u16>,
    /// The text.
    pub message: &'a str,
    /// The bytes of the backend's `google.rpc.Status`, from `grpc-status-details-bin`.
    pub details: Option<&'a [u8]>,
}

/// How failures of one binding look, or of requests that reached none.
#[derive(Clone, Debug)]
pub struct Errors {
    rules: Vec<Rule>,
    content_type: Box<str>,
    /// Clients that take only `application/problem+json` get that.
    problem: bool,
    method: Box<str>,
    codec: Option<Arc<Codec>>,
}

/// A rule whose static conditions (method, path) are known to hold.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) cause: Cause,
    pub(crate) status: Option<u16>,
    pub(crate) body: Arc<[Part]>,
}

/// What a failure must be for a rule. Each condition holds if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) codes: Vec<Code>,
    pub(crate) reasons: Vec<String>,
    pub(crate) statuses: Vec<u16>,
}

/// A piece of an error's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// JSON text.
    Text(Box<str>),
    /// A value of the failure.
    Hole(Hole),
}

/// What a template can show of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hole {
    /// The text.
    Message,
    /// The gRPC code's number.
    Code,
    /// The gRPC code's name.
    CodeName,
    /// The fixed word.
    Reason,
    /// The HTTP status.
    Status,
    /// The HTTP status in words.
    Title,
    /// The details, a list.
    Details,
    /// `package.Service/Method`.
    Method,
}

impl Hole {
    /// All holes by their names in a template.
    pub(crate) const NAMES: [(&'static str, Hole); 8] = [
        ("message", Hole::Message),
        ("code", Hole::Code),
        ("code_name", Hole::CodeName),
        ("reason", Hole::Reason),
        ("status", Hole::Status),
        ("title", Hole::Title),
        ("details", Hole::Details),
        ("method", Hole::Method),
    ];
}

/// The content type of problem details.
const PROBLEM: &str = "application/problem+json";

impl Errors {
    /// The shape of the standard profile, for failures that no route can speak for. Without a
    /// schema, details stay encoded.
    pub fn standard() -> Errors {
        Errors {
            rules: Vec::new(),
            content_type: crate::profile::JSON.into(),
            problem: true,
            method: Box::default(),
            codec: None,
        }
    }

    pub(crate) fn new(
        rules: Vec<Rule>,
        content_type: &str,
        problem: bool,
        method: &str,
        codec: Arc<Codec>,
    ) -> Errors {
        Errors {
            rules,
            content_type: content_type.into(),
            problem,
            method: method.into(),
            codec: Some(codec),
        }
    }

    /// Whether clients that want it get `application/problem+json`.
    pub(crate) fn has_problems(&self) -> bool {
        self.problem
    }

    /// Appends the body; gives the HTTP status and the content type.
    ///
    /// `problem_only`: the client takes `application/problem+json` and no other JSON.
    pub fn write(
        &self,
        failure: &Failure<'_>,
        problem_only: bool,
        out: &mut Vec<u8>,
    ) -> (u16, &str) {
        let shown = Shown::new(self, failure);
        let rule = self.rules.iter().find(|rule| shown.fits(&rule.cause));
        let status = rule
            .and_then(|rule| rule.status)
            .unwrap_or_else(|| failure.status());
        if problem_only && self.problem {
            shown.problem(status, out);
            return (status, PROBLEM);
        }
        match rule {
            Some(rule) => shown.parts(&rule.body, status, out),
            None => shown.standard(status, out),
        }
        (status, &self.content_type)
    }
}

impl Failure<'_> {
    fn status(&self) -> u16 {
        let status = self
            .http_status
            .unwrap_or(Code::from_number(self.code).http_status());
        // A failure is never told as a success, whatever its code says.
        if status < 400 { 500 } else { status }
    }
}

/// A failure on its way into a body.
struct Shown<'s> {
    errors: &'s Errors,
    failure: &'s Failure<'s>,
    status: Option<details::Status>,
    /// The gateway's word, or the one in the backend's `ErrorInfo`.
    reason: Cow<'s, str>,
}

impl<'s> Shown<'s> {
    fn new(errors: &'s Errors, failure: &'s Failure<'s>) -> Shown<'s> {
        let status = failure.details.and_then(details::Status::read);
        let reason = match status.as_ref().and_then(details::Status::reason) {
            Some(reason) if failure.reason.is_empty() => Cow::Owned(reason),
            _ => Cow::Borrowed(failure.reason),
        };
        Shown {
            errors,
            failure,
            status,
            reason,
        }
    }

    fn fits(&self, cause: &Cause) -> bool {
        let Cause {
            codes,
            reasons,
            statuses,
        } = cause;
        let code = Code::from_number(self.failure.code);
        let status = self.failure.http_status;
        (codes.is_empty() || codes.contains(&code))
            && (reasons.is_empty() || reasons.iter().any(|reason| *reason == self.reason))
            && (statuses.is_empty() || status.is_some_and(|status| statuses.contains(&status)))
    }

    fn parts(&self, parts: &[Part], status: u16, out: &mut Vec<u8>) {
        for part in parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Hole(hole) => self.hole(*hole, status, out),
            }
        }
    }

    fn hole(&self, hole: Hole, status: u16, out: &mut Vec<u8>) {
        match hole {
            Hole::Message => string(self.failure.message, out),
            Hole::Code => number(self.failure.code, out),
            Hole::CodeName => string(Code::from_number(self.failure.code).name(), out),
            Hole::Reason => string(&self.reason, out),
            Hole::Status => number(status.into(), out),
            Hole::Title => string(title(status), out),
            Hole::Details => self.details(out),
            Hole::Method => string(&self.errors.method, out),
        }
    }

    fn standard(&self, status: u16, out: &mut Vec<u8>) {
        for (text, hole) in [
            ("{\"code\":", Hole::Code),
            (",\"message\":", Hole::Message),
            (",\"details\":", Hole::Details),
        ] {
            out.extend_from_slice(text.as_bytes());
            self.hole(hole, status, out);
        }
        out.push(b'}');
    }

    fn problem(&self, status: u16, out: &mut Vec<u8>) {
        for (text, hole) in [
            ("{\"type\":\"about:blank\",\"title\":", Hole::Title),
            (",\"status\":", Hole::Status),
            (",\"detail\":", Hole::Message),
            (",\"code\":", Hole::Code),
            (",\"reason\":", Hole::Reason),
            (",\"details\":", Hole::Details),
        ] {
            out.extend_from_slice(text.as_bytes());
            self.hole(hole, status, out);
        }
        out.push(b'}');
    }

    fn details(&self, out: &mut Vec<u8>) {
        match &self.status {
            Some(status) => status.write_details(self.errors.codec.as_deref(), out),
            None if self.failure.reason.is_empty() => out.extend_from_slice(b"[]"),
            None => {
                out.extend_from_slice(
                    b"[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":",
                );
                string(self.failure.reason, out);
                out.extend_from_slice(b",\"domain\":\"highpress\"}]");
            }
        }
    }
}

/// Appends a JSON string.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn number(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The reason phrases of RFC 9110 and its neighbours, for the statuses of failures.
pub(crate) fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests;
