//! What Redis answers, read strictly: an integer, or a clear error. An error reply means that the command was not carried out.

use redis::{ServerError, Value};

use super::redis_key;
use crate::id::CounterId;
use crate::store::{Increment, StoreError};

/// How the error of a refused command begins.
pub(super) const REFUSED: &str = "Redis refused: ";

/// The answer to `INCRBY`.
pub(super) fn incremented(increment: &Increment, value: Value) -> Result<i64, StoreError> {
    match value {
        Value::Int(value) => Ok(value),
        Value::ServerError(error) => Err(not_incremented(
            &increment.counter,
            increment.delta,
            error.code(),
            error.details().unwrap_or_default(),
        )),
        other => Err(nonsense(&other)),
    }
}

/// What it means when `INCRBY` was answered by an error.
pub(super) fn not_incremented(
    counter: &CounterId,
    delta: i64,
    code: &str,
    details: &str,
) -> StoreError {
    if details.contains("would overflow") {
        return StoreError::Overflow {
            key: counter.key().into(),
            delta,
        };
    }
    refused_with(&redis_key(counter), code, details)
}

/// The answer to `GET`, or one of those to `MGET`.
pub(super) fn count(key: &str, value: Value) -> Result<i64, StoreError> {
    match value {
        Value::Nil => Ok(0),
        Value::BulkString(bytes) => integer(&bytes).ok_or_else(|| StoreError::NotACount {
            key: key.into(),
            why: format!("{:?} is not a 64-bit integer", shown(&bytes)).into(),
        }),
        Value::ServerError(error) => Err(refused(key, &error)),
        other => Err(nonsense(&other)),
    }
}

/// The answers to `MGET` and `EXISTS`.
pub(super) fn values_and_existing(answers: Vec<Value>) -> Result<(Vec<Value>, i64), StoreError> {
    let mut answers = answers.into_iter();
    match (answers.next(), answers.next()) {
        (Some(Value::Array(values)), Some(Value::Int(existing))) => Ok((values, existing)),
        (Some(Value::ServerError(error)), _) | (_, Some(Value::ServerError(error))) => {
            Err(refused("MGET", &error))
        }
        (other, _) => Err(nonsense(&other.unwrap_or(Value::Nil))),
    }
}

pub(super) fn refused(key: &str, error: &ServerError) -> StoreError {
    refused_with(key, error.code(), error.details().unwrap_or_default())
}

fn refused_with(key: &str, code: &str, details: &str) -> StoreError {
    if code == "WRONGTYPE" {
        return StoreError::NotACount {
            key: key.into(),
            why: "the key holds another type of value".into(),
        };
    }
    if details.contains("not an integer") {
        return StoreError::NotACount {
            key: key.into(),
            why: "its value is not a 64-bit integer".into(),
        };
    }
    // LOADING, READONLY, OOM, MISCONF, NOPERM, MOVED, ...: an operator can mend it, a caller can come back.
    StoreError::Unavailable(format!("{REFUSED}{code} {details}").into())
}

/// Answers of a node of a cluster that mean: not here, or not now, and nothing was done.
const ELSEWHERE: [&str; 4] = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"];

/// Whether another node, or this one a little later, may do what was refused with this.
pub(super) fn is_elsewhere(error: &StoreError) -> bool {
    ELSEWHERE.iter().any(|code| was_refused_with(error, code))
}

/// Whether this is what became of a reply with this code.
pub(super) fn was_refused_with(error: &StoreError, code: &str) -> bool {
    match error {
        StoreError::Unavailable(why) => why
            .strip_prefix(REFUSED)
            .is_some_and(|rest| rest.split(' ').next() == Some(code)),
        _ => false,
    }
}

fn nonsense(value: &Value) -> StoreError {
    StoreError::Broken(
        format!(
            "Redis gave an answer of the wrong kind: {}",
            shown(format!("{value:?}").as_bytes())
        )
        .into(),
    )
}

/// An integer exactly as Redis writes one: what `INCRBY` would take and nothing else.
pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'0'] => text == "0",
        [first, ..] => (b'1'..=b'9').contains(first),
        [] => false,
    };
    if canonical { text.parse().ok() } else { None }
}

/// The beginning of what was found, for a message.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn integers_as_redis_writes_them() {
        for value in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(integer(value.to_string().as_bytes()), Some(value));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "1.0",
            "1e2",
            "9223372036854775808",
            "a",
            "٣",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_missing_key_is_zero_and_nonsense_is_not() {
        assert_eq!(count("k", Value::Nil).unwrap(), 0);
        let error = count("counter:a:like", Value::BulkString(b"many".to_vec())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`counter:a:like` does not hold a count: \"many\" is not a 64-bit integer"
        );
        assert!(matches!(
            count("k", Value::Okay).unwrap_err(),
            StoreError::Broken(_)
        ));
    }
}
