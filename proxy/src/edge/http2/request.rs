//! Validates a request of HTTP/2 and fills a [`Head`] from it.
//!
//! The `h2` crate has refused repeated, unknown and misplaced pseudo-headers, names in upper case,
//! connection-specific fields, `te` other than `trailers`, and bodies unlike their content-length
//! (RFC 9113 section 8). Here: paths that are no paths, a Host unlike its `:authority`, too many
//! fields, values with white space around them. A fragment in `:path` is cut off by the library.

use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::{HeaderMap, Method, Request};

use crate::edge::grammar;
use crate::edge::head::Head;
use crate::edge::limits::EdgeLimits;
use crate::edge::refusal::Refusal;

/// What a request's fields say that concerns the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announced {
    pub(super) length: Option<u64>,
    pub(super) expects_continue: bool,
}

/// Checks the whole of a request's head, and makes it the head's contents.
pub(super) fn read<B>(
    request: &Request<B>,
    head: &mut Head,
    limits: &EdgeLimits,
) -> Result<Announced, Refusal> {
    let target = request
        .uri()
        .path_and_query()
        .map_or("", |target| target.as_str());
    check_target(request.method(), target, limits)?;
    let headers = request.headers();
    if headers.len() > limits.header_count {
        return Err(Refusal::HeaderTooLarge);
    }
    if headers
        .values()
        .any(|value| grammar::trim(value.as_bytes()).len() != value.len())
    {
        return Err(Refusal::BadRequest(
            "a header field's value has white space around it",
        ));
    }
    let announced = announced(headers)?;
    let authority = authority(request)?;
    head.fill(request.method().clone(), target, authority, headers);
    match head.set_host() {
        true => Ok(announced),
        false => Err(Refusal::BadRequest("the authority is not a host")),
    }
}

fn check_target(method: &Method, target: &str, limits: &EdgeLimits) -> Result<(), Refusal> {
    if *method == Method::CONNECT {
        return Err(Refusal::NotImplemented(
            "this server is no proxy for CONNECT",
        ));
    }
    if target.len() > limits.uri_bytes {
        return Err(Refusal::UriTooLong);
    }
    let asterisk = target == "*" && *method == Method::OPTIONS;
    match asterisk || grammar::is_origin_form(target.as_bytes()) {
        true => Ok(()),
        false => Err(Refusal::BadRequest(
            "the path is not a path, or has bytes that must be encoded",
        )),
    }
}

/// `:authority`, or Host where there is none; they must not differ.
fn authority<B>(request: &Request<B>) -> Result<&[u8], Refusal> {
    let mut hosts = request
        .headers()
        .get_all(HOST)
        .iter()
        .map(|host| host.as_bytes());
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::BadRequest("there is more than one Host"));
    }
    match (
        request
            .uri()
            .authority()
            .map(|authority| authority.as_str().as_bytes()),
        host,
    ) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Refusal::BadRequest("the Host differs from the authority"))
        }
        (Some(authority), _) => Ok(authority),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(Refusal::BadRequest(
            "there is neither an authority nor a Host",
        )),
    }
}

fn announced(headers: &HeaderMap) -> Result<Announced, Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = match lengths
        .next()
        .map(|value| grammar::decimal(value.as_bytes()))
    {
        Some(None) => return Err(Refusal::BadRequest("the Content-Length is not a number")),
        Some(length) => length,
        None => None,
    };
    if lengths.next().is_some() {
        return Err(Refusal::BadRequest("there is more than one Content-Length"));
    }
    let mut expects_continue = false;
    for expectation in headers.get_all(EXPECT) {
        if !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::ExpectationFailed);
        }
        expects_continue = true;
    }
    Ok(Announced {
        length,
        expects_continue,
    })
}
