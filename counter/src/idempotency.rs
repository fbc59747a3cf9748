//! Idempotency keys: what a caller sends so that an increment that it repeats is counted once.
//!
//! A key belongs to one counter and comes from a client, or from a gateway that repeats calls by itself; the two are kept
//! apart, because a client's key is kept for long and a gateway's for minutes. A key is 1 to 128 visible ASCII characters;
//! anything else is refused.

use std::fmt;
use std::time::Duration;

use crate::id::CounterId;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 128;

/// Who made a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The client of the API.
    Client,
    /// A gateway, for its own retries.
    Gateway,
}

impl Origin {
    /// All of them; each stands at the index that it is as a number.
    pub const ALL: [Self; 2] = [Self::Client, Self::Gateway];

    /// The fixed word for it in metrics, metadata and names of tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
        }
    }
}

/// A key that fits the rules.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    text: Box<str>,
    origin: Origin,
}

/// A key that does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 visible ASCII characters")]
pub struct InvalidKey;

impl IdempotencyKey {
    /// Checks the text.
    pub fn new(text: &str, origin: Origin) -> Result<Self, InvalidKey> {
        let fits =
            (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            return Err(InvalidKey);
        }
        Ok(Self {
            text: text.into(),
            origin,
        })
    }

    /// Who made it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The key itself: not for logs.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The name under which a store remembers it: no key has a space, so no two pairs of key and counter share one.
    pub(crate) fn field(&self, counter: &CounterId) -> String {
        let mut field = String::with_capacity(self.text.len() + 1 + counter.key().len());
        field.push_str(&self.text);
        field.push(' ');
        field.push_str(counter.key());
        field
    }
}

/// Without the text: whoever reads it in a log could use it.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({}, …)", self.origin.label())
    }
}

/// How long keys are remembered, and how much room they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// For keys that clients send.
    pub client: Term,
    /// For keys that gateways make.
    pub gateway: Term,
}

/// The terms for keys of one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// A repeat within this time gets the first answer.
    pub retention: Duration,
    /// Bytes that keys may take in the store. Beyond, increments with a new key are refused: none is forgotten early.
    pub memory: u64,
}

impl Terms {
    /// The terms for one origin.
    pub fn of(&self, origin: Origin) -> Term {
        match origin {
            Origin::Client => self.client,
            Origin::Gateway => self.gateway,
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            client: Term {
                retention: Duration::from_secs(60 * 60),
                memory: 1 << 30,
            },
            gateway: Term {
                retention: Duration::from_secs(2 * 60),
                memory: 1 << 30,
            },
        }
    }
}

impl Term {
    /// The retention in whole milliseconds, as stores reckon.
    pub(crate) fn millis(&self) -> i64 {
        i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        let fits = |text: &str| IdempotencyKey::new(text, Origin::Client).is_ok();
        for text in [
            "k",
            "!~",
            "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
            &"k".repeat(128),
        ] {
            assert!(fits(text), "{text:?}");
        }
        for text in [
            "",
            " ",
            "a b",
            "a\tb",
            "\u{7f}",
            "é",
            "a\0",
            &"k".repeat(129),
        ] {
            assert!(!fits(text), "{text:?}");
        }
    }

    #[test]
    fn fields_of_different_keys_and_counters_differ() {
        let field = |key: &str, counter: &str| {
            let key = IdempotencyKey::new(key, Origin::Client).unwrap();
            key.field(&CounterId::from_key(counter).unwrap())
        };
        assert_ne!(field("a", "b c:like"), field("a:b", "c:like"));
        assert_eq!(field("a", "b c:like"), "a b c:like");
    }
}
