#![allow(clippy::unwrap_used, clippy::expect_used)]
use prost::Message;
use serde_json::{Value, json};

use super::*;
use crate::profile::Profile;
use crate::schema::Schema;
use crate::{Transcoder, fixture};

fn failure<'a>(code: Code, reason: &'a str, message: &'a str) -> Failure<'a> {
    Failure {
        code: code.number(),
        reason,
        http_status: None,
        message,
        details: None,
    }
}

fn written(errors: &Errors, failure: &Failure<'_>) -> (u16, Value) {
    let mut out = Vec::new();
    let (status, content_type) = errors.write(failure, false, &mut out);
    assert!(content_type.starts_with("application/json"));
    (status, serde_json::from_slice(&out).unwrap())
}

#[test]
fn a_failure_of_the_gateway_has_an_error_info() {
    let failure = failure(
        Code::Unavailable,
        "NO_HEALTHY_UPSTREAM",
        "no \"usable\" endpoint",
    );
    let (status, body) = written(&Errors::standard(), &failure);
    assert_eq!(status, 503);
    assert_eq!(
        body,
        json!({ "code": 14, "message": "no \"usable\" endpoint", "details": [{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "NO_HEALTHY_UPSTREAM",
            "domain": "highpress",
        }] })
    );
}

#[test]
fn a_backends_status_keeps_code_and_message() {
    let errors = Errors::standard();
    for number in 1..17 {
        let code = Code::from_number(number);
        let (status, body) = written(&errors, &failure(code, "", "why"));
        assert_eq!(status, code.http_status());
        assert_eq!(
            body,
            json!({ "code": number, "message": "why", "details": [] })
        );
    }
    let (status, body) = written(
        &errors,
        &Failure {
            code: 99,
            ..failure(Code::Unknown, "", "")
        },
    );
    assert_eq!((status, &body["code"]), (500, &json!(99)));
    let (status, _) = written(&errors, &failure(Code::Ok, "", ""));
    assert_eq!(status, 500, "a failure is no success");
}

#[test]
fn the_gateway_knows_better_statuses_than_the_codes() {
    let failure = Failure {
        http_status: Some(405),
        ..failure(Code::Unimplemented, "METHOD_NOT_ALLOWED", "no")
    };
    assert_eq!(written(&Errors::standard(), &failure).0, 405);
}

#[test]
fn problem_details_are_for_those_who_take_nothing_else() {
    let failure = failure(Code::NotFound, "NOT_FOUND", "no route");
    let mut out = Vec::new();
    let standard = Errors::standard();
    let (status, content_type) = standard.write(&failure, true, &mut out);
    assert_eq!((status, content_type), (404, "application/problem+json"));
    let body: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["title"], "Not Found");
    assert_eq!(body["status"], 404);
    assert_eq!(body["detail"], "no route");
    assert_eq!(
        (&body["code"], &body["reason"]),
        (&json!(5), &json!("NOT_FOUND"))
    );
    assert_eq!(body["details"][0]["reason"], "NOT_FOUND");

    let phase1 = Profile::builtin("phase1").unwrap();
    let errors = Transcoder::new(fixture::builtin()).errors(&phase1);
    assert_eq!(
        errors.write(&failure, true, &mut out).1,
        "application/json; charset=utf-8"
    );
}

#[derive(Clone, PartialEq, Message)]
struct AnyStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyDetail>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyDetail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// A status with an `ErrorInfo` of this reason and a detail of another type.
fn status(reason: &str, other: &str, bytes: &[u8]) -> Vec<u8> {
    let mut info = vec![0x0a, reason.len() as u8];
    info.extend_from_slice(reason.as_bytes());
    let detail = |name: &str, value: &[u8]| AnyDetail {
        type_url: format!("type.googleapis.com/{name}"),
        value: value.to_vec(),
    };
    let details = vec![detail("google.rpc.ErrorInfo", &info), detail(other, bytes)];
    AnyStatus {
        code: 3,
        message: "no".into(),
        details,
    }
    .encode_to_vec()
}

#[test]
fn details_of_unknown_types_keep_their_bytes() {
    let bytes = status("R", "some.Unknown", b"\x08\x01");
    let failure = Failure {
        details: Some(&bytes),
        ..failure(Code::InvalidArgument, "", "no")
    };
    let (_, body) = written(&Errors::standard(), &failure);
    assert_eq!(
        body["details"],
        json!([
            { "@type": "type.googleapis.com/google.rpc.ErrorInfo", "value": "CgFS" },
            { "@type": "type.googleapis.com/some.Unknown", "value": "CAE=" },
        ])
    );
    let garbage = Failure {
        details: Some(b"\xff\xff\xff"),
        ..failure
    };
    assert_eq!(
        written(&Errors::standard(), &garbage).1["details"],
        json!([])
    );
}

/// Method, gRPC code, the gateway's word and HTTP status; then the HTTP status and the error's text.
const PHASE_1: &str = "
- NOT_FOUND NOT_FOUND - 404 Not found
- UNIMPLEMENTED METHOD_NOT_ALLOWED 405 405 Method not allowed
GetCounter UNIMPLEMENTED METHOD_NOT_ALLOWED - 405 Method not allowed
GetCounter INVALID_ARGUMENT INVALID_REQUEST - 400 Invalid request format
GetTopCounters INVALID_ARGUMENT - - 400 Invalid request format
- INVALID_ARGUMENT BAD_REQUEST 400 400 Invalid request format
IncrementCounter RESOURCE_EXHAUSTED BODY_TOO_LARGE 413 413 Request too large
IncrementCounter RESOURCE_EXHAUSTED RATE_LIMITED 429 429 Too many requests
IncrementCounter INVALID_ARGUMENT IDEMPOTENCY_KEY_REUSED - 422 Idempotency key reused
IncrementCounter UNAVAILABLE NO_HEALTHY_UPSTREAM - 503 Counter service unavailable
GetCounter UNAVAILABLE - - 503 Counter service unavailable
GetCounter DEADLINE_EXCEEDED DEADLINE_EXCEEDED - 503 Counter service unavailable
BatchGetCounters RESOURCE_EXHAUSTED - - 503 Counter service unavailable
GetTopCounters UNAVAILABLE - - 503 Analytics service unavailable
GetCounterStats DEADLINE_EXCEEDED - - 503 Analytics service unavailable
WatchTopCounters RESOURCE_EXHAUSTED - - 503 Analytics service unavailable
IncrementCounter OUT_OF_RANGE - - 500 Failed to increment counter
IncrementCounter UNAUTHENTICATED - - 500 Failed to increment counter
GetCounter INTERNAL - - 500 Failed to get counter
GetCounter NOT_FOUND - - 500 Failed to get counter
BatchGetCounters DATA_LOSS - - 500 Failed to get counters
GetTopCounters UNKNOWN - - 500 Failed to get hot counters
- INVALID_ARGUMENT URI_TOO_LONG 414 414 URI Too Long
- DEADLINE_EXCEEDED REQUEST_TIMEOUT 408 408 Request Timeout";

#[test]
fn phase_1_words_every_failure_of_its_contract() {
    let phase1 = Profile::builtin("phase1").unwrap();
    let request = crate::Request {
        services: &["counter.CounterService", "analytics.AnalyticsService"],
        profile: &phase1,
        json: Default::default(),
        unannotated: false,
    };
    let mut transcoder = Transcoder::new(fixture::builtin());
    let bindings = transcoder.bindings(&request).unwrap();
    let none = transcoder.errors(&phase1);
    let of = |method: &str| {
        let found = bindings.iter().find(|binding| binding.method == method);
        found.map_or(&none, |binding| &*binding.errors)
    };
    for row in PHASE_1.trim().lines() {
        let cells: Vec<&str> = row
            .splitn(6, ' ')
            .map(|cell| if cell == "-" { "" } else { cell })
            .collect();
        let [method, code, reason, http_status, status, error] = cells[..] else {
            panic!("{row}");
        };
        let failure = Failure {
            http_status: http_status.parse().ok(),
            ..failure(Code::from_name(code).unwrap(), reason, "why")
        };
        let mut body = json!({ "status": "error", "error": error, "details": "why" });
        if status == "400" {
            body.as_object_mut().unwrap().remove("status");
        }
        assert_eq!(
            written(of(method), &failure),
            (status.parse().unwrap(), body),
            "{row}"
        );
    }
    let details = status("IDEMPOTENCY_KEY_REUSED", "x.Y", b"");
    let backends = Failure {
        details: Some(&details),
        ..failure(Code::InvalidArgument, "", "why")
    };
    let (status, body) = written(of("IncrementCounter"), &backends);
    assert_eq!(
        (status, &body["error"]),
        (422, &json!("Idempotency key reused"))
    );
}

#[test]
fn the_standard_profile_tells_a_reused_key_from_a_bad_request() {
    let standard = Profile::builtin("standard").unwrap();
    let errors = Transcoder::new(fixture::builtin()).errors(&standard);
    let reused = failure(Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED", "why");
    let (status, body) = written(&errors, &reused);
    assert_eq!(
        (status, &body["code"], &body["message"]),
        (422, &json!(3), &json!("why"))
    );
    let other = failure(Code::InvalidArgument, "", "why");
    assert_eq!(written(&errors, &other).0, 400);
}

#[test]
fn a_status_of_another_schema_is_no_reason_to_fail() {
    let empty = Arc::new(Schema::default());
    let errors = Transcoder::new(empty).errors(&Profile::builtin("phase1").unwrap());
    assert_eq!(written(&errors, &failure(Code::Internal, "", "x")).0, 500);
}
#[test]
fn details_of_known_types_are_json() {
    let standard = Profile::builtin("standard").unwrap();
    let errors = Transcoder::new(fixture::builtin()).errors(&standard);
    let cases: [(&str, &[u8], Value); 4] = [
        (
            "google.rpc.RetryInfo",
            b"\x0a\x02\x08\x05",
            json!({ "retryDelay": "5s" }),
        ),
        ("google.rpc.RetryInfo", b"", json!({})),
        (
            "google.protobuf.Duration",
            b"\x08\x07",
            json!({ "value": "7s" }),
        ),
        (
            "google.rpc.RetryInfo",
            b"\x0a\x7f",
            json!({ "value": "Cn8=" }),
        ),
    ];
    for (name, bytes, mut want) in cases {
        want["@type"] = format!("type.googleapis.com/{name}").into();
        let bytes = status("REASON", name, bytes);
        let failure = Failure {
            details: Some(&bytes),
            ..failure(Code::InvalidArgument, "", "no")
        };
        let (_, body) = written(&errors, &failure);
        assert_eq!(body["details"][0]["reason"], "REASON");
        assert_eq!(body["details"][1], want);
    }
}
