//! Requests and replies of the unary lane where the backend speaks HTTP: the original request as it is, but for
//! what belongs to one connection only (RFC 9110 section 7.6.1), and with who asked, by which door, under which id.
//!
//! Refused: trailers and upgrades; both ends have the whole message.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue, Method};
use pingora_http::RequestHeader;

use crate::edge::{Answer, Head, Headers, Length};
use crate::refusals::{self, REQUEST_ID};
use crate::upstream::HttpReply;

/// Who a request came through, nearest last.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// By what it came to the first of them.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What it called the first of them.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The head of a request as an HTTP cluster gets it; `body` bytes follow. `None`: it cannot be said in HTTP/1.1,
/// which the edge has ruled out.
pub(crate) fn request(head: &Head, body: usize) -> Option<RequestHeader> {
    let target = match head.query() {
        Some(query) => format!("{}?{query}", head.path()),
        None => head.path().to_owned(),
    };
    let method = head.method().clone();
    let needs_length = body > 0 || matches!(method, Method::POST | Method::PUT | Method::PATCH);
    let mut request = RequestHeader::build_no_case(method, target.as_bytes(), None).ok()?;
    request.insert_header(HOST, head.authority()).ok()?;
    for (name, value) in head.headers() {
        let name = HeaderName::from_bytes(name).ok()?;
        if name != HOST && name != EXPECT && !is_hop_by_hop(&name) {
            let value = HeaderValue::from_bytes(value).ok()?;
            request.append_header(name, value).ok()?;
        }
    }
    for (name, value) in head.headers() {
        if name == b"connection" {
            nominated(value).for_each(|name| drop(request.remove_header(&name)));
        }
    }
    if needs_length {
        request.insert_header(CONTENT_LENGTH, body).ok()?;
    }
    introduce(&mut request, Some(head.peer().ip())).ok()?;
    Some(request)
}

/// Says who asked, by which door, under which id; `peer` is the other end of the connection.
pub(crate) fn introduce(
    request: &mut RequestHeader,
    peer: Option<IpAddr>,
) -> pingora_core::Result<()> {
    if let Some(peer) = peer.map(|peer| peer.to_string()) {
        let before = request.headers.get_all(FORWARDED_FOR).iter();
        let before = before.filter_map(|value| value.to_str().ok());
        let chain: Vec<&str> = before.chain([peer.as_str()]).collect();
        let chain = chain.join(", ");
        request.insert_header(FORWARDED_FOR, chain)?;
    }
    if !request.headers.contains_key(FORWARDED_PROTO) {
        request.insert_header(FORWARDED_PROTO, "http")?;
    }
    let host = request.headers.get(HOST).cloned();
    if let Some(host) = host.filter(|_| !request.headers.contains_key(FORWARDED_HOST)) {
        request.insert_header(FORWARDED_HOST, host)?;
    }
    if !request.headers.contains_key(REQUEST_ID) {
        request.insert_header(REQUEST_ID, &*refusals::request_id(None))?;
    }
    Ok(())
}

/// A backend's reply as the answer to a request with that method.
pub(crate) fn answer(reply: HttpReply, method: &Method) -> Answer {
    let length = match *method == Method::HEAD {
        true => Length::Told(told_length(&reply)),
        false => Length::OfBody,
    };
    let mut headers = Headers::new();
    let nominated: Vec<HeaderName> = reply
        .headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| nominated(value.as_bytes()))
        .collect();
    let mut last = None;
    for (name, value) in reply.headers {
        // A further value of a field comes without its name.
        last = name.or(last);
        if let Some(name) = &last
            && !is_hop_by_hop(name)
            && !nominated.contains(name)
        {
            headers.push((name.clone(), value));
        }
    }
    Answer {
        status: reply.status,
        headers,
        body: reply.body,
        length,
    }
}

fn told_length(reply: &HttpReply) -> Option<usize> {
    let length = reply.headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Fields that are about one connection, and those that say how the body is framed.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        CONTENT_LENGTH,
    ]
    .contains(name)
}

/// The fields that a value of `connection` says are about this connection.
fn nominated(value: &[u8]) -> impl Iterator<Item = HeaderName> {
    let names = value.split(|byte| *byte == b',');
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn head(request: http::request::Builder) -> Head {
        Head::of(&request.body(()).unwrap())
    }

    #[test]
    fn what_is_about_the_connection_stays_behind_and_the_rest_goes_on() {
        let head = head(
            http::Request::post("/a%20b?c=d")
                .header("host", "api.example:80")
                .header("connection", "keep-alive, X-Mine")
                .header("x-mine", "1")
                .header("te", "trailers")
                .header("transfer-encoding", "chunked")
                .header("x-forwarded-for", "10.0.0.1")
                .header("cookie", "a=1")
                .header("cookie", "b=2"),
        );
        let request = request(&head, 3).unwrap();
        assert_eq!(request.raw_path(), b"/a%20b?c=d");
        let text = |name: &str| {
            let values = request.headers.get_all(name).iter();
            let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
            values.join("; ")
        };
        for (name, value) in [
            ("host", "api.example:80"),
            ("connection", ""),
            ("x-mine", ""),
            ("te", ""),
            ("transfer-encoding", ""),
            ("content-length", "3"),
            ("cookie", "a=1; b=2"),
            ("x-forwarded-for", "10.0.0.1, 127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "api.example:80"),
        ] {
            assert_eq!(text(name), value, "{name}");
        }
        assert_eq!(text("x-request-id").len(), 32);
    }

    #[test]
    fn a_reply_keeps_every_line_that_is_not_about_the_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "a"),
            ("set-cookie", "b"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("content-length", "2"),
            ("x-old", "yes"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let reply = HttpReply {
            status: 201,
            headers,
            body: b"ok".to_vec(),
        };
        let answer = answer(reply, &Method::GET);
        let mut lines: Vec<String> = answer
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        assert_eq!(lines, ["set-cookie=a", "set-cookie=b", "x-old=yes"]);
    }
}
