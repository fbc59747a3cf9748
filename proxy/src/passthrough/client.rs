//! The client of a request that is passed through: watching it while it waits, and answering it.

use std::net::IpAddr;
use std::pin::pin;

use http::{HeaderName, Method};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::edge::Answer;
use crate::entries::{Lines, cookie_in};
use crate::refusals::{Asked, REQUEST_ID};

/// Runs work that the client waits for, unless the client leaves first.
///
/// A client that has sent all of its request is read for nothing but its end. One that has not is read once: what
/// comes is kept for the backend, and pingora keeps no more than that for a request whose backend is not known.
pub(super) async fn while_it_waits<T>(
    session: &mut Session,
    work: impl Future<Output = T>,
) -> pingora_core::Result<T> {
    let mut work = pin!(work);
    let client = session.as_mut();
    client.enable_retry_buffering();
    loop {
        let sent = client.is_body_done();
        let watched = sent || client.body_bytes_read() == 0;
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            read = client.read_body_or_idle(sent), if watched => {
                read.map_err(|error| error.into_down())?;
            }
        }
    }
}

/// What wording and log need of a request.
pub(super) fn asked(session: &Session) -> Asked<'_> {
    let request = session.req_header();
    let header = |name: HeaderName| request.headers.get(name).map(http::HeaderValue::as_bytes);
    Asked {
        method: request.method.as_str(),
        path: request.uri.path(),
        id: header(REQUEST_ID),
        accept: header(http::header::ACCEPT),
        content_type: header(http::header::CONTENT_TYPE),
        // Who speaks it is not passed through.
        connects: false,
    }
}

/// Answers the client. Its connection is kept if all of the request has been read.
pub(super) async fn answer(session: &mut Session, answer: Answer) -> pingora_core::Result<()> {
    if !session.as_mut().is_body_done() {
        session.as_mut().set_keepalive(None);
    }
    let mut header = ResponseHeader::build(answer.status, Some(answer.headers.len() + 1))?;
    for (name, value) in answer.headers {
        header.append_header(name, value)?;
    }
    header.insert_header(http::header::CONTENT_LENGTH, answer.body.len())?;
    let body = match session.req_header().method {
        Method::HEAD => Vec::new(),
        _ => answer.body,
    };
    session
        .write_response_header(Box::new(header), false)
        .await?;
    session.write_response_body(Some(body.into()), true).await
}

impl<'a> Lines<'a> for &'a Session {
    fn header(&self, name: &str) -> Option<&'a [u8]> {
        let line = self.req_header().headers.get(name);
        line.map(http::HeaderValue::as_bytes)
    }

    fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let lines = self.req_header().headers.get_all(http::header::COOKIE);
        cookie_in(lines.iter().map(http::HeaderValue::as_bytes), name)
    }

    fn peer(&self) -> Option<IpAddr> {
        let peer = self.client_addr()?.as_inet()?;
        Some(peer.ip())
    }
}
