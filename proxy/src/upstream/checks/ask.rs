//! One check of one endpoint: what is asked, and what the answer means.
//!
//! gRPC: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>. A server without that service fails: who
//! asks for a check wants an answer, and a typing error must not look like health.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::Full;
use mesh_config::model::{CheckQuestion, HealthCheck, Protocol};
use prost::Message as _;
use tokio::time::timeout;
use transcode::Code;

use super::link::{self, Answer, Link, Version};
use super::outcome::Failure;
use crate::metadata::GRPC_TIMEOUT;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Servers that log who asks can tell checks from requests.
const AGENT: HeaderValue = HeaderValue::from_static("highpress-health-check");
/// The flag for compression and the length.
const PREFIX: usize = 5;

/// Whom to ask.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks once. What it says for itself if it is well, and why not.
pub(super) async fn ask(
    rules: &HealthCheck,
    whom: &Asked<'_>,
    link: &mut Link,
) -> Result<String, Failure> {
    let limit = rules.timeout.get();
    let asking = async {
        match &rules.question {
            CheckQuestion::Tcp => {
                link.close();
                let stream = link::connect(whom.address).await;
                stream.map(|_| "it takes connections".to_owned())
            }
            CheckQuestion::Grpc { service } => {
                let request = grpc_request(whom.name, service, limit)?;
                let answer = link.ask(whom.address, Version::Http2, request).await?;
                judge_grpc(&answer, service)
            }
            CheckQuestion::Http {
                path,
                host,
                statuses,
            } => {
                let (version, request) = http_request(whom, path, host.as_deref())?;
                let answer = link.ask(whom.address, version, request).await?;
                let said = format!("HTTP {}", answer.status);
                match statuses.iter().any(|wanted| wanted.has(answer.status)) {
                    true => Ok(said),
                    false => Err(Failure::Answer(said)),
                }
            }
        }
    };
    let answered = timeout(limit, asking).await;
    answered.unwrap_or(Err(Failure::Timeout(limit)))
}

fn http_request(
    whom: &Asked<'_>,
    path: &str,
    host: Option<&str>,
) -> Result<(Version, Request<Full<Bytes>>), Failure> {
    let host = host.unwrap_or(whom.name);
    let request = Request::builder()
        .method(Method::GET)
        .header(USER_AGENT, AGENT);
    let (version, request) = match whom.protocol {
        Protocol::Http1 => (Version::Http1, request.uri(path).header(HOST, host)),
        Protocol::Http2 | Protocol::Grpc => {
            (Version::Http2, request.uri(format!("http://{host}{path}")))
        }
    };
    let request = request.body(Full::default()).map_err(impossible)?;
    Ok((version, request))
}

fn grpc_request(
    name: &str,
    service: &str,
    limit: Duration,
) -> Result<Request<Full<Bytes>>, Failure> {
    let message = CheckRequest {
        service: service.to_owned(),
    };
    let length = message.encoded_len();
    let mut body = BytesMut::with_capacity(PREFIX + length);
    body.put_u8(0);
    body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    body.put_slice(&message.encode_to_vec());
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://{name}{CHECK}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(
            GRPC_TIMEOUT,
            format!("{}m", limit.as_millis().min(99_999_999)),
        )
        .header(USER_AGENT, AGENT)
        .body(Full::new(body.freeze()))
        .map_err(impossible)
}

/// The configuration has been checked.
fn impossible(error: http::Error) -> Failure {
    Failure::Answer(format!("it cannot be asked: {error}"))
}

fn judge_grpc(answer: &Answer, service: &str) -> Result<String, Failure> {
    let failed = |why: String| Err(Failure::Answer(why));
    let kind = answer.headers.get(CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if answer.status != 200 || !is_grpc {
        return failed(format!("HTTP {} that is no answer of gRPC", answer.status));
    }
    let status = grpc_status(&answer.trailers).or_else(|| grpc_status(&answer.headers));
    match status.map(Code::from_number) {
        Some(code) if code.number() == 0 => {}
        Some(code) => return failed(refused(code, service)),
        None => return failed("an answer of gRPC without a status".to_owned()),
    }
    let message = answer.body.get(PREFIX..);
    let message = message.and_then(|message| CheckResponse::decode(message).ok());
    match message.map(|message| message.status) {
        Some(1) => Ok("gRPC SERVING".to_owned()),
        Some(2) => failed("gRPC NOT_SERVING".to_owned()),
        Some(3) => failed("gRPC SERVICE_UNKNOWN".to_owned()),
        Some(_) => failed("gRPC UNKNOWN".to_owned()),
        None => failed("a message that is none of grpc.health.v1".to_owned()),
    }
}

fn grpc_status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn refused(code: Code, service: &str) -> String {
    match code.name() {
        "UNIMPLEMENTED" => "gRPC UNIMPLEMENTED: it has no grpc.health.v1".to_owned(),
        "NOT_FOUND" => format!("gRPC NOT_FOUND: it does not know the service `{service}`"),
        name => format!("gRPC {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: &str, grpc_status: Option<&'static str>, body: &[u8]) -> Answer {
        let mut headers = HeaderMap::new();
        if let Ok(kind) = HeaderValue::from_str(kind) {
            headers.insert(CONTENT_TYPE, kind);
        }
        let mut trailers = HeaderMap::new();
        if let Some(status) = grpc_status {
            trailers.insert("grpc-status", HeaderValue::from_static(status));
        }
        Answer {
            status,
            headers,
            body: Bytes::copy_from_slice(body),
            trailers,
        }
    }

    fn judged(answer: &Answer) -> String {
        match judge_grpc(answer, "x.Y") {
            Ok(said) => format!("ok: {said}"),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn only_serving_passes() {
        let grpc = "application/grpc+proto";
        for (status, body, said) in [
            (Some("0"), &[0, 0, 0, 0, 2, 8, 1][..], "ok: gRPC SERVING"),
            (Some("0"), &[0, 0, 0, 0, 2, 8, 2], "gRPC NOT_SERVING"),
            (Some("0"), &[0, 0, 0, 0, 2, 8, 3], "gRPC SERVICE_UNKNOWN"),
            (Some("0"), &[0, 0, 0, 0, 0], "gRPC UNKNOWN"),
            (Some("0"), &[], "a message that is none of grpc.health.v1"),
            (
                Some("0"),
                &[0, 0, 0, 0, 1, 255],
                "a message that is none of grpc.health.v1",
            ),
            (
                Some("12"),
                &[],
                "gRPC UNIMPLEMENTED: it has no grpc.health.v1",
            ),
            (
                Some("5"),
                &[],
                "gRPC NOT_FOUND: it does not know the service `x.Y`",
            ),
            (Some("14"), &[], "gRPC UNAVAILABLE"),
            (
                None,
                &[0, 0, 0, 0, 2, 8, 1],
                "an answer of gRPC without a status",
            ),
        ] {
            assert_eq!(judged(&answer(200, grpc, status, body)), said);
        }
        let page = answer(200, "text/html", Some("0"), &[0, 0, 0, 0, 2, 8, 1]);
        assert_eq!(judged(&page), "HTTP 200 that is no answer of gRPC");
        let away = answer(503, grpc, Some("0"), &[]);
        assert_eq!(judged(&away), "HTTP 503 that is no answer of gRPC");
    }
}
