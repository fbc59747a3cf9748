//! An event as Kafka gets it: key and JSON value, made of nothing but what the outbox keeps, so that a resend is byte-identical.

use crate::store::embedded::SOURCE;

/// The `source` of an event that announces a count from before the mesh; its delta is 0, which no increment's is.
const SOURCE_MIGRATE: &str = "migrate";

/// One event of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutboxEvent<'a> {
    /// `resource_id:counter_type`.
    pub(crate) key: &'a str,
    pub(crate) delta: i64,
    pub(crate) new_value: i64,
    /// When it was counted, in unix milliseconds.
    pub(crate) timestamp: i64,
    /// Its number in the shard.
    pub(crate) sequence: u64,
}

impl OutboxEvent<'_> {
    /// Appends the message's value.
    pub(crate) fn write_value(&self, outbox: &str, value: &mut Vec<u8>) {
        // Ids were checked at the door, so the key splits at its last colon.
        let (resource_id, counter_type) = self.key.rsplit_once(':').unwrap_or((self.key, ""));
        let source = if self.delta == 0 {
            SOURCE_MIGRATE
        } else {
            SOURCE
        };
        value.extend_from_slice(b"{\"event_id\":\"");
        value.extend_from_slice(outbox.as_bytes());
        value.push(b'-');
        number(self.sequence, value);
        value.extend_from_slice(b"\",\"resource_id\":");
        string(resource_id, value);
        value.extend_from_slice(b",\"counter_type\":");
        string(counter_type, value);
        value.extend_from_slice(b",\"delta\":");
        number(self.delta, value);
        value.extend_from_slice(b",\"new_value\":");
        number(self.new_value, value);
        value.extend_from_slice(b",\"timestamp\":");
        number(self.timestamp, value);
        value.extend_from_slice(b",\"source\":\"");
        value.extend_from_slice(source.as_bytes());
        value.extend_from_slice(b"\",\"outbox\":\"");
        value.extend_from_slice(outbox.as_bytes());
        value.extend_from_slice(b"\",\"seq\":");
        number(self.sequence, value);
        value.push(b'}');
    }
}

fn number(number: impl itoa::Integer, value: &mut Vec<u8>) {
    value.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn string(text: &str, value: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(value, text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_value_is_what_the_contract_says() {
        let event = OutboxEvent {
            key: "say \"hi\":é:like",
            delta: -2,
            new_value: 9_007_199_254_740_993,
            timestamp: 1_700_000_000_123,
            sequence: 7,
        };
        let mut value = Vec::new();
        event.write_value("0f.3", &mut value);
        let read: serde_json::Value = serde_json::from_slice(&value).unwrap();
        let expected = serde_json::json!({
            "event_id": "0f.3-7", "resource_id": "say \"hi\":é", "counter_type": "like", "delta": -2,
            "new_value": 9_007_199_254_740_993_i64, "timestamp": 1_700_000_000_123_i64,
            "source": "highpress-counter", "outbox": "0f.3", "seq": 7,
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_announced_says_so() {
        let event = OutboxEvent {
            key: "a:like",
            delta: 0,
            new_value: 41,
            timestamp: 1,
            sequence: 1,
        };
        let mut value = Vec::new();
        event.write_value("0f.0", &mut value);
        let read: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(
            (&read["source"], &read["delta"]),
            (&"migrate".into(), &0.into())
        );
    }
}
