//! The request as a backend gets it: who asked, by which door, under which id.

use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::forward;

/// Adds the headers that say whom the request comes from.
pub(super) fn introduce(
    session: &Session,
    request: &mut RequestHeader,
) -> pingora_core::Result<()> {
    let peer = session.client_addr().and_then(|address| address.as_inet());
    forward::introduce(request, peer.map(std::net::SocketAddr::ip))
}
