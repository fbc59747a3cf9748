//! The Phase 1 HTTP contract as checks against a running mesh, whatever programs it consists of.
//!
//! A client of the old monolith must not notice the move: every status, every field name, type and nesting is compared,
//! every error among them. Each function of the submodules runs one table of cases and reports all that differ, not
//! just the first one. Counters get ids of their own, so the checks can run side by side and on any store.

pub mod batch;
pub mod get;
pub mod health;
pub mod hot;
pub mod increment;
pub mod outage;
pub mod paths;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::http1::{Http1, Response};

/// A client of the contract that notes what it finds wrong, and says so when it is done.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    wrong: Vec<String>,
}

/// What an answer has to be.
#[derive(Debug)]
pub enum Expected<'a> {
    /// 200 with this `data`; a `"NOW"` in it stands for the unix second of the call.
    Data(Value),
    /// 400, `{"error":"Invalid request format","details":"..."}`.
    Invalid,
    /// Another error, `{"status":"error","error":...,"details":"..."}`.
    Error(u16, &'a str),
}

impl Client {
    /// A client of the gateway at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            wrong: Vec::new(),
        }
    }

    /// `POST path` with text that is said to be JSON.
    pub async fn post(&mut self, path: &str, body: impl AsRef<[u8]>, expected: &Expected<'_>) {
        let headers = [("content-type", "application/json")];
        self.check("POST", path, &headers, Some(body.as_ref()), expected)
            .await;
    }

    /// `GET path`.
    pub async fn get(&mut self, path: &str, expected: &Expected<'_>) {
        self.check("GET", path, &[], None, expected).await;
    }

    /// Any request: its answer is compared, and returned for what else there is to see.
    pub async fn check(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        expected: &Expected<'_>,
    ) -> Response {
        let started = unix_now();
        let answer = Http1::connect(self.address)
            .await
            .request(method, path, headers, body)
            .await;
        let seconds = started..=unix_now();
        if let Err(why) = compare(&answer, expected, &seconds) {
            let body = String::from_utf8_lossy(body.unwrap_or_default());
            let shown: String = body.chars().take(200).collect();
            self.note(&format!("{method} {path} {shown}"), &why, &answer);
        }
        answer
    }

    /// Adds a finding of the caller's own.
    pub fn note(&mut self, request: &str, why: &str, answer: &Response) {
        let body: String = answer.text().chars().take(400).collect();
        self.wrong.push(format!(
            "{request}\n    {why}\n    got {} {body}",
            answer.status
        ));
    }

    /// Ends the checks.
    ///
    /// # Panics
    /// When something was wrong: with all of it.
    pub fn done(self) {
        assert!(
            self.wrong.is_empty(),
            "{} breaches of the contract:\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
    }
}

/// An id that no other check uses.
pub fn fresh(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is past 1970")
        .subsec_nanos();
    format!(
        "{name}-{}-{nanos}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The `data` of a read counter.
pub fn counter(resource_id: &str, counter_type: &str, value: i64) -> Value {
    json!({ "resource_id": resource_id, "counter_type": counter_type, "current_value": value, "updated_at": "NOW" })
}

/// The `data` of an increment.
pub fn incremented(resource_id: &str, counter_type: &str, value: i64) -> Value {
    json!({
        "resource_id": resource_id,
        "counter_type": counter_type,
        "current_value": value,
        "success": true,
        "timestamp": "NOW",
    })
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is past 1970")
        .as_secs()
}

fn compare(
    answer: &Response,
    expected: &Expected<'_>,
    seconds: &RangeInclusive<u64>,
) -> Result<(), String> {
    let status = match expected {
        Expected::Data(_) => 200,
        Expected::Invalid => 400,
        Expected::Error(status, _) => *status,
    };
    if answer.status != status {
        return Err(format!("expected status {status}"));
    }
    let content_type = answer.header("content-type").unwrap_or_default();
    if content_type != "application/json; charset=utf-8" {
        return Err(format!("content-type is {content_type:?}"));
    }
    let body: Value =
        serde_json::from_slice(&answer.body).map_err(|why| format!("not JSON: {why}"))?;
    match expected {
        Expected::Data(data) => same(
            "",
            &body,
            &json!({ "status": "success", "data": data }),
            seconds,
        ),
        Expected::Invalid => error(&body, &json!({ "error": "Invalid request format" })),
        Expected::Error(_, text) => error(&body, &json!({ "status": "error", "error": text })),
    }
}

/// The fixed part of an error body, plus `details`, a text for people, and nothing else.
fn error(body: &Value, fixed: &Value) -> Result<(), String> {
    let mut rest = body.clone();
    let details = rest
        .as_object_mut()
        .and_then(|fields| fields.remove("details"));
    let explained = details
        .as_ref()
        .and_then(Value::as_str)
        .is_some_and(|text| !text.is_empty());
    if rest != *fixed {
        return Err(format!("expected {fixed} and details"));
    }
    if explained {
        Ok(())
    } else {
        Err("details is not a text that says something".to_owned())
    }
}

/// Equality of JSON documents in which numbers are equal only if they are written as numbers, and `"NOW"` stands for
/// the current second.
fn same(
    at: &str,
    found: &Value,
    expected: &Value,
    seconds: &RangeInclusive<u64>,
) -> Result<(), String> {
    match (found, expected) {
        (found, Value::String(now)) if now == "NOW" => {
            let current = found
                .as_u64()
                .is_some_and(|second| seconds.contains(&second));
            if current {
                Ok(())
            } else {
                Err(format!(
                    "{at}: {found} is not the current second, a number in {seconds:?}"
                ))
            }
        }
        (Value::Object(found), Value::Object(expected)) => {
            let names = |object: &serde_json::Map<String, Value>| {
                object.keys().cloned().collect::<Vec<_>>()
            };
            let (mut left, mut right) = (names(found), names(expected));
            left.sort();
            right.sort();
            if left != right {
                return Err(format!("{at}: fields {left:?}, expected {right:?}"));
            }
            expected.iter().try_for_each(|(name, value)| {
                same(&format!("{at}/{name}"), &found[name], value, seconds)
            })
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            let mut pairs = found.iter().zip(expected).enumerate();
            pairs.try_for_each(|(index, (found, expected))| {
                same(&format!("{at}/{index}"), found, expected, seconds)
            })
        }
        (found, expected) if found == expected => Ok(()),
        (found, expected) => Err(format!("{at}: {found}, expected {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        let headers = vec![(
            "content-type".to_owned(),
            "application/json; charset=utf-8".to_owned(),
        )];
        Response {
            status,
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_number_in_quotes_is_a_breach() {
        let data = Expected::Data(json!({ "value": 1, "at": "NOW" }));
        let judge = |body: &str| compare(&answer(200, body), &data, &(5..=6));
        assert_eq!(
            judge(r#"{"data":{"at":5,"value":1},"status":"success"}"#),
            Ok(())
        );
        assert!(judge(r#"{"data":{"at":5,"value":"1"},"status":"success"}"#).is_err());
        assert!(judge(r#"{"data":{"at":"5","value":1},"status":"success"}"#).is_err());
        assert!(judge(r#"{"data":{"at":5,"value":1,"more":1},"status":"success"}"#).is_err());
    }

    #[test]
    fn an_error_has_its_text_and_details_and_nothing_else() {
        let judge = |body: &str| compare(&answer(400, body), &Expected::Invalid, &(0..=1));
        assert_eq!(
            judge(r#"{"error":"Invalid request format","details":"x"}"#),
            Ok(())
        );
        assert!(judge(r#"{"error":"Invalid request format","details":""}"#).is_err());
        assert!(
            judge(r#"{"error":"Invalid request format","details":"x","status":"error"}"#).is_err()
        );
    }
}
