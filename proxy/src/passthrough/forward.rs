//! The request as a backend gets it: who asked, by which door, under which id.

use http::{HeaderName, HeaderValue};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::failure::is_idempotent;
use crate::forward;
use crate::upstream::CallPolicy;

/// Adds the headers that say whom the request comes from.
pub(super) fn introduce(
    session: &Session,
    request: &mut RequestHeader,
) -> pingora_core::Result<()> {
    let peer = session.client_addr().and_then(|address| address.as_inet());
    forward::introduce(request, peer.map(std::net::SocketAddr::ip))
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
