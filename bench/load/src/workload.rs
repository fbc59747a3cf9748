//! The requests: written once, sent many times.

use std::net::SocketAddr;

use clap::ValueEnum;
use serde_json::json;

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// `GET` of one counter.
    Get,
    /// `POST` of one increment by 1.
    Increment,
    /// `POST` of a batch read.
    Batch,
    /// `GET` of one message whose JSON is 64 KiB, from the backend with fixed answers.
    Blob,
    /// `GET` of a stream of 1,000 messages, from the same.
    Stream,
}

impl Kind {
    /// What every good answer's body contains: of the fixed answers, the last item.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Get | Self::Increment | Self::Batch => "urrent",
            Self::Blob => r#""item-839""#,
            Self::Stream => r#""item-999""#,
        }
    }
}

/// One request in the parts that HTTP/1.1 and HTTP/2 put together differently.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// Requests to send in turn.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) requests: Vec<Request>,
}

impl Workload {
    /// Requests to `counters` counters named `PREFIX-0`, `PREFIX-1` and so on, of type `like`.
    pub(crate) fn new(kind: Kind, prefix: &str, counters: usize, items: usize) -> Self {
        let counter =
            |n: usize| json!({ "resource_id": format!("{prefix}-{n}"), "counter_type": "like" });
        let get = |path: String| Request {
            method: "GET",
            path,
            body: String::new(),
        };
        let request = |n: usize| match kind {
            Kind::Get => get(format!("/api/v1/counter/{prefix}-{n}/like")),
            Kind::Blob => get("/v1/blob".to_owned()),
            Kind::Stream => get("/v1/items".to_owned()),
            Kind::Increment => {
                let mut body = counter(n);
                body["delta"] = json!(1);
                Request {
                    method: "POST",
                    path: "/api/v1/counter/increment".to_owned(),
                    body: body.to_string(),
                }
            }
            Kind::Batch => {
                let items: Vec<_> = (0..items)
                    .map(|item| counter((n + item) % counters))
                    .collect();
                let body = json!({ "items": items }).to_string();
                Request {
                    method: "POST",
                    path: "/api/v1/counter/batch".to_owned(),
                    body,
                }
            }
        };
        Self {
            requests: (0..counters).map(request).collect(),
        }
    }

    /// The requests as HTTP/1.1 bytes.
    pub(crate) fn http1(&self, target: SocketAddr) -> Vec<Vec<u8>> {
        let bytes = |request: &Request| {
            let Request { method, path, body } = request;
            let content = if body.is_empty() {
                String::new()
            } else {
                format!(
                    "content-type: application/json\r\ncontent-length: {}\r\n",
                    body.len()
                )
            };
            format!("{method} {path} HTTP/1.1\r\nhost: {target}\r\n{content}\r\n{body}")
                .into_bytes()
        };
        self.requests.iter().map(bytes).collect()
    }
}
