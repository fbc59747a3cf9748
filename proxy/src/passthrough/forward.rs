//! Requests and answers on their way through: who asked, by which door, under which id; and of an answer, without
//! what belonged to the connection that it came by.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::failure::is_idempotent;
use crate::forward;
use crate::refusals::{self, REQUEST_ID};
use crate::upstream::CallPolicy;

/// Adds the headers that say whom the request comes from.
pub(super) fn introduce(
    session: &Session,
    request: &mut RequestHeader,
) -> pingora_core::Result<()> {
    let peer = session.client_addr().and_then(|address| address.as_inet());
    forward::introduce(request, peer.map(std::net::SocketAddr::ip))
}

/// Gives a request an id, if its client gave it none.
pub(super) fn name(request: &mut RequestHeader) -> pingora_core::Result<()> {
    if request.headers.contains_key(REQUEST_ID) {
        return Ok(());
    }
    request.insert_header(REQUEST_ID, &*refusals::request_id(None))
}

/// The key, and the word that it is the gateway's, for a request that is only safe to repeat with one and has none.
pub(super) fn key(
    policy: &CallPolicy,
    request: &RequestHeader,
) -> Option<[(HeaderName, HeaderValue); 2]> {
    let name = policy.dedupe()?;
    if request.headers.contains_key(name) || is_idempotent(&request.method) {
        return None;
    }
    policy.own_key(&[])
}

/// Takes from an answer the lines that were about the connection to the backend (RFC 9110 section 7.6.1).
pub(super) fn dismiss(response: &mut ResponseHeader) {
    let options: Vec<HeaderName> = response
        .headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        // How the body ends is not for a list to forget.
        .filter(|name| *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING)
        .collect();
    for name in options {
        response.remove_header(&name);
    }
    response.remove_header("keep-alive");
    response.remove_header("proxy-connection");
}
