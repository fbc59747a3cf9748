//! The request as a backend gets it: who asked, by which door, under which id, and how long it may take.

use std::time::Duration;

use http::HeaderName;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::clock::{GRPC_TIMEOUT, REQUEST_TIMEOUT};
use crate::refusals::{self, REQUEST_ID};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Eight digits are all that `grpc-timeout` takes.
const GRPC_TIMEOUT_MOST: u128 = 99_999_999;

/// Adds the headers that say whom the request comes from.
pub(super) fn introduce(
    session: &Session,
    request: &mut RequestHeader,
) -> pingora_core::Result<()> {
    let headers = &session.req_header().headers;
    let peer = session
        .client_addr()
        .and_then(|address| address.as_inet())
        .map(|address| address.ip().to_string());
    if let Some(peer) = peer {
        let before = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let chain: Vec<&str> = before.chain([peer.as_str()]).collect();
        request.insert_header(FORWARDED_FOR, chain.join(", "))?;
    }
    if !headers.contains_key(FORWARDED_PROTO) {
        request.insert_header(FORWARDED_PROTO, "http")?;
    }
    if let Some(host) = headers
        .get(http::header::HOST)
        .filter(|_| !headers.contains_key(FORWARDED_HOST))
    {
        request.insert_header(FORWARDED_HOST, host.clone())?;
    }
    if !headers.contains_key(REQUEST_ID) {
        request.insert_header(REQUEST_ID, &*refusals::request_id(None))?;
    }
    Ok(())
}

/// Says how much time is left, rounded down, also in the client's other way of saying it.
pub(super) fn hurry(request: &mut RequestHeader, left: Duration) -> pingora_core::Result<()> {
    let millis = left.as_millis().min(GRPC_TIMEOUT_MOST);
    if request.headers.contains_key(&GRPC_TIMEOUT) {
        request.insert_header(GRPC_TIMEOUT, format!("{millis}m"))?;
    }
    request.insert_header(REQUEST_TIMEOUT, format!("{millis}ms"))
}
