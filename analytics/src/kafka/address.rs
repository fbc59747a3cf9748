//! `kafka://HOST:PORT[,HOST:PORT...]/TOPIC`: where a topic is.

use std::fmt;
use std::str::FromStr;

const FORM: &str = "not a topic: write it like kafka://127.0.0.1:9092/counter-events, several brokers as kafka://a:9092,b:9092/counter-events";

/// A topic of a Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    brokers: String,
    topic: Topic,
}

/// The name of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic(String);

impl Address {
    /// The brokers to ask first, as the client library takes them.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic.0
    }
}

impl Topic {
    /// Where messages go that are no events, if nothing else was said.
    pub fn dead_letters() -> Self {
        Self("counter-events-dead-letter".to_owned())
    }

    /// Where snapshots are kept, if nothing else was said.
    pub fn snapshots() -> Self {
        Self("counter-analytics-snapshots".to_owned())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("kafka://").ok_or(FORM)?;
        let (brokers, topic) = rest.split_once('/').ok_or(FORM)?;
        if !brokers.split(',').all(is_broker) {
            return Err(FORM.to_owned());
        }
        Ok(Self {
            brokers: brokers.to_owned(),
            topic: topic.parse()?,
        })
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=249).contains(&text.len())
            || !text.bytes().all(letter)
            || [".", ".."].contains(&text)
        {
            return Err(format!(
                "`{text}` is no name of a topic: 1 to 249 letters, digits, `.`, `_` and `-`"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.brokers, self.topic.0)
    }
}

fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let letter =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    !host.is_empty() && host.bytes().all(letter) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_address_has_brokers_and_a_topic() {
        for (text, brokers, topic) in [
            (
                "kafka://127.0.0.1:9092/counter-events",
                "127.0.0.1:9092",
                "counter-events",
            ),
            ("kafka://a:1,[::1]:2/x", "a:1,[::1]:2", "x"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.brokers(), address.topic()), (brokers, topic));
            assert_eq!(address.to_string(), text);
        }
        for wrong in [
            "",
            "kafka://",
            "kafka://a:9092",
            "kafka://a:9092/",
            "kafka://a/x",
            "kafka://:9092/x",
            "kafka://a:0/x",
            "kafka://a:9092,/x",
            "kafka://a:9092/x y",
            "kafka://a:9092/..",
            "redis://a:9092/x",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
