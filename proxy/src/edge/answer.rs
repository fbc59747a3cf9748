//! Answers, and how their heads look in HTTP/1.1.
//!
//! Head and small bodies are put into one buffer and leave in one write. The edge alone decides on
//! `Content-Length`, `Date`, `Connection` and `Transfer-Encoding`: a service cannot break the framing.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use smallvec::SmallVec;
use tokio::time::Instant;

/// Header fields of an answer: room for the content type and what policies tell beside it.
pub type Headers = SmallVec<[(HeaderName, HeaderValue); 4]>;

/// An answer whose body is whole.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Without those that the edge adds: `Content-Length`, `Date`, `Connection`.
    pub headers: Headers,
    /// Not sent in answers to HEAD, though its length is.
    pub body: Vec<u8>,
    /// What `Content-Length` says.
    pub length: Length,
}

/// The length that an answer announces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Length {
    /// The body's.
    #[default]
    OfBody,
    /// What a GET would have, as somebody else answered a HEAD; `None` if they did not say.
    Told(Option<usize>),
    /// Nobody knows: the body comes piece by piece.
    Streamed,
}

impl Answer {
    /// An answer with a body of that type.
    pub fn new(status: u16, content_type: HeaderValue, body: Vec<u8>) -> Self {
        let mut headers = Headers::new();
        headers.push((http::header::CONTENT_TYPE, content_type));
        Self {
            status,
            headers,
            body,
            length: Length::OfBody,
        }
    }

    /// The value of `Content-Length`, if there is one.
    pub(super) fn content_length(&self) -> Option<usize> {
        match self.length {
            Length::OfBody if self.may_have_body() => Some(self.body.len()),
            Length::OfBody => (self.status == 205).then_some(0),
            Length::Told(length) => length,
            Length::Streamed => None,
        }
    }

    /// The status, 500 in place of one that cannot end a request.
    pub(super) fn status_code(&self) -> StatusCode {
        match StatusCode::from_u16(self.status) {
            Ok(status) if !status.is_informational() => status,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether an answer of that status has a body at all (RFC 9110 section 6.4.1).
    pub(super) fn may_have_body(&self) -> bool {
        !matches!(self.status, 204 | 205 | 304)
    }

    /// Appends the head of this answer in HTTP/1.1.
    pub(super) fn write_head(
        &self,
        out: &mut Vec<u8>,
        version: Version,
        keep_alive: bool,
        now: Instant,
    ) {
        write_status_line(out, self.status_code());
        for (name, value) in self.own_headers() {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if let Some(length) = self.content_length() {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if self.length == Length::Streamed && version == Version::HTTP_11 {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        if !keep_alive {
            out.extend_from_slice(b"connection: close\r\n");
        } else if version == Version::HTTP_10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        with_date(now, |date| {
            out.extend_from_slice(b"date: ");
            out.extend_from_slice(date.as_bytes());
        });
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// The service's headers without those that are not its own.
    pub(super) fn own_headers(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.headers.iter().filter(|(name, _)| {
            !matches!(
                *name,
                CONTENT_LENGTH | DATE | CONNECTION | TRANSFER_ENCODING
            )
        })
    }
}

fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A `Date` value and how long it is true.
struct Clock {
    until: Option<Instant>,
    value: HeaderValue,
}

thread_local! {
    /// Each worker formats the date once a second.
    static CLOCK: RefCell<Clock> = const {
        RefCell::new(Clock { until: None, value: HeaderValue::from_static("") })
    };
}

/// Gives the current `Date`, an IMF-fixdate, to `take`. `now` need not be exact.
pub(super) fn with_date<R>(now: Instant, take: impl FnOnce(&HeaderValue) -> R) -> R {
    CLOCK.with_borrow_mut(|clock| {
        if clock.until.is_none_or(|until| now >= until) {
            let time = SystemTime::now();
            let since = time
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let rest = Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos()));
            clock.until = Some(now + rest);
            clock.value = HeaderValue::from_str(&httpdate::fmt_http_date(time))
                .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
        }
        take(&clock.value)
    })
}
