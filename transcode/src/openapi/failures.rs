//! Failures as the profile of a route words them: for each status that a call may end with, the shape of its body.
//!
//! The shapes are seen, not reckoned: failures of every kind are written as they would be, what stands in the text of the profile is
//! told as it is, and what comes from the failure by its type. Failures that look alike are one response in `components`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Operation, described};
use crate::binding::Binding;
use crate::errors::{Failure, title};
use crate::status::Code;

/// What stands for a text that is not the profile's. No profile is written with it.
const SAMPLE: &str = "\u{f8ff}";

/// The responses that operations refer to.
#[derive(Default)]
pub(super) struct Failures {
    /// With its name.
    responses: Vec<(String, Value)>,
}

/// A kind of failure: code, the gateway's word, and its status where that is not the code's.
type Cause = (Code, &'static str, Option<u16>);

/// What a backend may answer, or the way to it may come to.
const CALL: [Cause; 13] = [
    (Code::InvalidArgument, SAMPLE, None),
    (Code::FailedPrecondition, SAMPLE, None),
    (Code::OutOfRange, SAMPLE, None),
    (Code::Unauthenticated, SAMPLE, None),
    (Code::PermissionDenied, SAMPLE, None),
    (Code::NotFound, SAMPLE, None),
    (Code::AlreadyExists, SAMPLE, None),
    (Code::Aborted, SAMPLE, None),
    (Code::ResourceExhausted, SAMPLE, None),
    (Code::Unknown, SAMPLE, None),
    (Code::Internal, SAMPLE, None),
    (Code::Unavailable, SAMPLE, None),
    (Code::DeadlineExceeded, SAMPLE, None),
];
const BODY: [Cause; 2] = [
    (Code::ResourceExhausted, "BODY_TOO_LARGE", Some(413)),
    (Code::InvalidArgument, "UNKNOWN_CODING", Some(415)),
];
const LIMITED: Cause = (Code::ResourceExhausted, "RATE_LIMITED", Some(429));
const KEY_REUSED: Cause = (Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED", None);
/// What no caller has to reckon with.
const OTHER: [Cause; 10] = [
    (Code::InvalidArgument, "BAD_REQUEST", Some(400)),
    (Code::DeadlineExceeded, "REQUEST_TIMEOUT", Some(408)),
    (Code::InvalidArgument, "URI_TOO_LONG", Some(414)),
    (Code::FailedPrecondition, "EXPECTATION_FAILED", Some(417)),
    (Code::ResourceExhausted, "HEADER_TOO_LARGE", Some(431)),
    (Code::Cancelled, SAMPLE, None),
    (Code::DataLoss, SAMPLE, None),
    (Code::Unimplemented, SAMPLE, None),
    (Code::Unavailable, "UPSTREAM_CONNECTION_LOST", Some(502)),
    (Code::InvalidArgument, "VERSION_NOT_SUPPORTED", Some(505)),
];

impl Failures {
    pub(super) fn into_responses(self) -> Value {
        self.responses.into_iter().collect::<Map<_, _>>().into()
    }

    /// The responses of an operation, by their status.
    pub(super) fn of(&mut self, operation: &Operation<'_>) -> Map<String, Value> {
        let binding = operation.binding;
        let mut causes = CALL.to_vec();
        if binding.takes_body() {
            causes.extend(BODY);
        }
        causes.extend(operation.limited.then_some(LIMITED));
        causes.extend(binding.dedupe.as_ref().map(|_| KEY_REUSED));
        let mut by_status: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
        for cause in causes {
            let (status, body) = written(binding, cause);
            by_status.entry(status).or_default().push(body);
        }
        let mut responses = Map::new();
        for (status, samples) in by_status {
            let name = title(status);
            let reference = self.reference(binding, name, Some(status), &samples);
            responses.insert(status.to_string(), reference);
        }
        let others: Vec<Value> = OTHER
            .iter()
            .map(|cause| written(binding, *cause).1)
            .collect();
        let other = self.reference(binding, "Failure", None, &others);
        responses.insert("default".to_owned(), other);
        responses
    }

    fn reference(
        &mut self,
        binding: &Binding,
        title: &str,
        status: Option<u16>,
        samples: &[Value],
    ) -> Value {
        let response = response(binding, title, status, samples);
        let known = self.responses.iter().find(|(_, known)| *known == response);
        let name = match known {
            Some((name, _)) => name.clone(),
            None => {
                let base: String = title.split(' ').collect();
                let taken = |name: &str| self.responses.iter().any(|(known, _)| known == name);
                let mut numbered = (2..).map(|number| format!("{base}{number}"));
                let name = match taken(&base) {
                    false => base.clone(),
                    true => numbered.find(|name| !taken(name)).unwrap_or_default(),
                };
                self.responses.push((name.clone(), response));
                name
            }
        };
        json!({ "$ref": format!("#/components/responses/{name}") })
    }
}

/// The body of any failure, as it stands in a stream.
pub(super) fn any(binding: &Binding) -> Value {
    let causes = CALL.iter().chain(&OTHER);
    let samples: Vec<Value> = causes.map(|cause| written(binding, *cause).1).collect();
    inferred(&samples.iter().collect::<Vec<_>>())
}

/// The status of a failure, and its body as JSON.
fn written(binding: &Binding, (code, reason, http_status): Cause) -> (u16, Value) {
    let failure = Failure {
        code: code.number(),
        reason,
        http_status,
        message: SAMPLE,
        details: None,
    };
    let mut body = Vec::new();
    let (status, _) = binding.errors.write(&failure, false, &mut body);
    // What a profile writes is JSON: its holes are values.
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn response(binding: &Binding, title: &str, status: Option<u16>, samples: &[Value]) -> Value {
    let samples: Vec<&Value> = samples.iter().collect();
    let schema = inferred(&samples);
    let mut content = json!({ (binding.content_type()): { "schema": schema } });
    if binding.errors.has_problems() {
        content["application/problem+json"] = json!({ "schema": problem() });
    }
    let mut headers = json!({ "X-Request-Id": {
        "description": "Ties the answer to the gateway's log: the caller's own, if it sent one.",
        "schema": { "type": "string" },
    } });
    if matches!(status, Some(429 | 503)) {
        headers["Retry-After"] = json!({
            "description": "In how many seconds it may be worth to try again.",
            "schema": { "type": "integer", "minimum": 0 },
        });
    }
    json!({ "description": title, "headers": headers, "content": content })
}

/// Problem details (RFC 9457), for clients that take nothing else.
fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" }, "title": { "type": "string" }, "status": { "type": "integer" },
            "detail": { "type": "string" }, "code": { "type": "integer" }, "reason": { "type": "string" },
            "details": details(),
        },
        "required": ["type", "title", "status", "detail"],
    })
}

/// Messages as `google.protobuf.Any` writes them.
fn details() -> Value {
    let any = json!({ "type": "object", "properties": { "@type": { "type": "string" } } });
    json!({ "type": "array", "items": any })
}

/// Objects with the same names.
type Alike<'v> = (BTreeSet<&'v String>, Vec<&'v Map<String, Value>>);

/// The schema of values like these.
fn inferred(samples: &[&Value]) -> Value {
    let mut shapes: Vec<Alike<'_>> = Vec::new();
    let mut texts = BTreeSet::new();
    let mut found: Vec<Value> = Vec::new();
    let mut note = |of: Value| {
        if !found.contains(&of) {
            found.push(of);
        }
    };
    for sample in samples {
        match sample {
            Value::Object(members) => {
                let names: BTreeSet<&String> = members.keys().collect();
                match shapes.iter_mut().find(|(known, _)| *known == names) {
                    Some((_, alike)) => alike.push(members),
                    None => shapes.push((names, vec![members])),
                }
            }
            Value::String(text) => _ = texts.insert(text.as_str()),
            Value::Array(_) => note(details()),
            Value::Number(_) => note(json!({ "type": "integer" })),
            Value::Bool(_) => note(json!({ "type": "boolean" })),
            Value::Null => note(json!({ "type": "null" })),
        }
    }
    for (names, alike) in shapes {
        let properties = names.iter().map(|name| {
            let values: Vec<&Value> = alike.iter().filter_map(|one| one.get(*name)).collect();
            ((*name).clone(), inferred(&values))
        });
        let properties: Map<String, Value> = properties.collect();
        let names: Vec<&String> = names.into_iter().collect();
        note(json!({ "type": "object", "properties": properties, "required": names }));
    }
    if texts.iter().any(|text| text.contains(SAMPLE)) {
        note(json!({ "type": "string" }));
    } else if !texts.is_empty() {
        let texts: Vec<&str> = texts.into_iter().collect();
        note(match texts.as_slice() {
            [one] => json!({ "const": one }),
            several => json!({ "type": "string", "enum": several }),
        });
    }
    match found.len() {
        1 => found.remove(0),
        _ => described(json!({ "anyOf": found }), ""),
    }
}
