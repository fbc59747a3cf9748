//! A message of the topic as an event, or why it is none.
//!
//! The value is JSON as the contract has it: `{"event_id","resource_id","counter_type","delta","new_value","timestamp",
//! "source"}`, with `outbox` and `seq` from our own counter. Fields that nobody knows are left alone; a wrong one makes the
//! message a dead letter.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

use crate::event::{Event, Origin};

const MAX_RESOURCE_ID: usize = 256;
const MAX_COUNTER_TYPE: usize = 64;
const MAX_NAME: usize = 256;
/// The year 9999: timestamps beyond it are not milliseconds.
const MAX_TIMESTAMP: i64 = 253_402_300_799_999;

/// The value of a message.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    resource_id: Cow<'a, str>,
    #[serde(borrow)]
    counter_type: Cow<'a, str>,
    delta: i64,
    new_value: i64,
    timestamp: i64,
    #[serde(borrow, default)]
    outbox: Option<Cow<'a, str>>,
    #[serde(default)]
    seq: Option<u64>,
}

/// Why a message is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Poison(String);

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> Message<'a> {
    /// Reads a message's value.
    pub(super) fn read(value: Option<&'a [u8]>) -> Result<Self, Poison> {
        let value = value.ok_or_else(|| Poison("no value".to_owned()))?;
        let message: Self =
            serde_json::from_slice(value).map_err(|why| Poison(format!("not an event: {why}")))?;
        message.check().map_err(Poison)?;
        Ok(message)
    }

    /// The event that stands at an offset.
    pub(super) fn event(&self, offset: u64) -> Event<'_> {
        let origin = match (&self.outbox, self.seq) {
            (Some(name), Some(sequence)) => Origin::Outbox { name, sequence },
            _ => Origin::Id(id(&self.event_id)),
        };
        Event {
            position: offset,
            origin,
            resource_id: &self.resource_id,
            counter_type: &self.counter_type,
            delta: self.delta,
            new_value: self.new_value,
            timestamp_ms: self.timestamp,
        }
    }

    fn check(&self) -> Result<(), String> {
        name("event_id", &self.event_id, MAX_NAME)?;
        name("resource_id", &self.resource_id, MAX_RESOURCE_ID)?;
        name("counter_type", &self.counter_type, MAX_COUNTER_TYPE)?;
        if self.counter_type.contains([':', '{', '}']) {
            return Err("counter_type: has `:`, `{` or `}`".to_owned());
        }
        if !(0..=MAX_TIMESTAMP).contains(&self.timestamp) {
            return Err(format!("timestamp: {} is no time", self.timestamp));
        }
        match (&self.outbox, self.seq) {
            (Some(outbox), Some(_)) => name("outbox", outbox, MAX_NAME),
            (None, None) => Ok(()),
            _ => Err("outbox and seq: one without the other".to_owned()),
        }
    }
}

fn name(field: &str, text: &str, max: usize) -> Result<(), String> {
    if text.is_empty() {
        Err(format!("{field}: is empty"))
    } else if text.len() > max {
        Err(format!("{field}: {} bytes are more than {max}", text.len()))
    } else if text.chars().any(char::is_control) {
        Err(format!("{field}: has control characters"))
    } else {
        Ok(())
    }
}

/// FNV-1a, stirred: the same in every process and version, because it is stored.
fn id(event_id: &str) -> u64 {
    let hash = event_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const WHOLE: &str = r#"{"event_id":"o-7","resource_id":"a \"b\"","counter_type":"like","delta":-2,
        "new_value":9223372036854775807,"timestamp":1700000000123,"source":"counter","outbox":"o","seq":7,"more":[1]}"#;

    fn why(value: &str) -> String {
        Message::read(Some(value.as_bytes()))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_event_has_the_contracts_fields() {
        let message = Message::read(Some(WHOLE.as_bytes())).unwrap();
        let event = message.event(11);
        assert_eq!(
            event,
            Event {
                position: 11,
                origin: Origin::Outbox {
                    name: "o",
                    sequence: 7
                },
                resource_id: "a \"b\"",
                counter_type: "like",
                delta: -2,
                new_value: i64::MAX,
                timestamp_ms: 1_700_000_000_123,
            }
        );
    }

    #[test]
    fn without_an_outbox_the_id_tells_repeats() {
        let value = WHOLE.replace(r#","outbox":"o","seq":7"#, "");
        let origin = |value: &str| match Message::read(Some(value.as_bytes()))
            .unwrap()
            .event(0)
            .origin
        {
            Origin::Id(id) => id,
            other => panic!("{other:?}"),
        };
        assert_eq!(origin(&value), origin(&value.replace("like", "view")));
        assert_ne!(origin(&value), origin(&value.replace("o-7", "o-8")));
    }

    #[test]
    fn everything_else_is_poison_with_a_reason() {
        for (from, to, reason) in [
            ("{", "", "not an event: "),
            (r#""delta":-2,"#, "", "missing field `delta`"),
            (r#""delta":-2"#, r#""delta":"2""#, "invalid type: string"),
            (
                r#""delta":-2"#,
                r#""delta":1.5"#,
                "invalid type: floating point",
            ),
            (
                "9223372036854775807",
                "9223372036854775808",
                "invalid value",
            ),
            ("1700000000123", "-1", "timestamp: -1 is no time"),
            ("like", "li:ke", "counter_type: has `:`"),
            (r#""like""#, r#""""#, "counter_type: is empty"),
            (r#""like""#, "null", "invalid type: null"),
            (
                "a \\\"b\\\"",
                "\\u0000",
                "resource_id: has control characters",
            ),
            (r#","seq":7"#, "", "outbox and seq: one without the other"),
            (r#""seq":7"#, r#""seq":-7"#, "invalid value: integer `-7`"),
        ] {
            assert!(WHOLE.contains(from), "{from}");
            let why = why(&WHOLE.replacen(from, to, 1));
            assert!(why.contains(reason), "{from} -> {to}: {why}");
        }
        assert_eq!(Message::read(None).unwrap_err().to_string(), "no value");
        assert!(why(&WHOLE.replace("a \\\"b\\\"", &"x".repeat(257))).contains("257 bytes"));
        assert!(why(&format!("{WHOLE} x")).contains("trailing"));
        assert!(Message::read(Some(b"\xff\xfe")).is_err());
    }
}
