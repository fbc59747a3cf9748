//! `clusters[].health_check`: what a map does not give keeps its default. What is asked by default follows what the
//! cluster speaks, and keys that belong to another question are refused.

use crate::model::{CheckQuestion, CheckStatus, HealthCheck, Protocol};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{Choices, HEALTH_CHECK};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Grpc,
    Http,
    Tcp,
}

const PROTOCOLS: Choices<Word> = &[
    ("grpc", Some(Word::Grpc)),
    ("http", Some(Word::Http)),
    ("tcp", Some(Word::Tcp)),
];

/// Keys that only one question has.
const OF_QUESTION: &[(&str, Word)] = &[
    ("service", Word::Grpc),
    ("path", Word::Http),
    ("host", Word::Http),
    ("statuses", Word::Http),
];

pub(crate) fn health_check(
    value: &Value<'_>,
    of_cluster: Option<Protocol>,
    report: &mut Report,
) -> Option<HealthCheck> {
    let fields = value.fields(&HEALTH_CHECK, report)?;
    let default = match of_cluster {
        Some(Protocol::Http1 | Protocol::Http2) => Word::Http,
        Some(Protocol::Grpc) | None => Word::Grpc,
    };
    let word = fields.or("protocol", default, report, |value, report| {
        value.choice(PROTOCOLS, report)
    });
    if word == Word::Grpc && of_cluster == Some(Protocol::Http1) {
        let why = "`grpc` needs HTTP/2, and the cluster speaks http1: write http or tcp";
        value.problem_below(report, "protocol", why);
    }
    for (key, of) in OF_QUESTION {
        if *of != word && fields.get(key).is_some() {
            let (is, of) = (said(word), said(*of));
            let why = format!(
                "it belongs to a check of {of}, and this is one of {is}: remove it, or change `protocol`"
            );
            value.problem_below(report, key, why);
        }
    }
    let question = match word {
        Word::Grpc => CheckQuestion::Grpc {
            service: fields.or("service", String::new(), report, service),
        },
        Word::Http => http(&fields, report),
        Word::Tcp => CheckQuestion::Tcp,
    };
    let mut timeout = |key, default| fields.or(key, default, report, Value::timeout);
    let interval = timeout("interval", HealthCheck::DEFAULT_INTERVAL);
    let timeout = timeout("timeout", HealthCheck::DEFAULT_TIMEOUT);
    let mut number = |key| {
        let default = HealthCheck::DEFAULT_THRESHOLD;
        fields.or(key, default, report, Value::positive_number)
    };
    let (healthy, unhealthy) = (number("healthy"), number("unhealthy"));
    Some(HealthCheck {
        question,
        interval,
        timeout,
        healthy,
        unhealthy,
    })
}

fn http(fields: &Fields<'_>, report: &mut Report) -> CheckQuestion {
    let default = HealthCheck::DEFAULT_PATH.to_owned();
    let path = fields.or("path", default, report, |value, report| {
        value.parsed(report, path)
    });
    let host = fields.read("host", report, |value, report| value.parsed(report, host));
    let default = vec![CheckStatus::SUCCESS];
    let statuses = fields.or("statuses", default, report, |value, report| {
        value.set(report, CheckStatus::parse)
    });
    CheckQuestion::Http {
        path,
        host,
        statuses,
    }
}

fn said(word: Word) -> &'static str {
    match word {
        Word::Grpc => "grpc",
        Word::Http => "http",
        Word::Tcp => "tcp",
    }
}

/// Empty is the server as a whole.
fn service(value: &Value<'_>, report: &mut Report) -> Option<String> {
    if value.is_empty_text() {
        return Some(String::new());
    }
    value.text(report).map(str::to_owned)
}

fn path(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !text.starts_with('/') || !visible {
        return Err(format!(
            "`{text}` cannot be asked for: write a path such as /healthz, with what is special in it percent-encoded"
        ));
    }
    Ok(text.to_owned())
}

fn host(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if !text.bytes().all(plain) {
        return Err(format!("`{text}` cannot be the host of a request"));
    }
    Ok(text.to_owned())
}
