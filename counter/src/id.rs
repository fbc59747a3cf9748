//! The name of a counter, checked once at the door: a resource and a type.
//!
//! `resource_id` is 1 to 256 bytes, `counter_type` 1 to 64, both without control characters; `counter_type` has no `:`, `{`
//! or `}`. So `resource_id:counter_type`, which is the key everywhere below, splits at its last colon and no two counters share one.

use std::fmt;

/// The longest `resource_id`, in bytes.
pub const MAX_RESOURCE_ID: usize = 256;
/// The longest `counter_type`, in bytes.
pub const MAX_COUNTER_TYPE: usize = 64;

/// The name of one counter.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CounterId {
    key: Box<str>,
    colon: usize,
}

impl CounterId {
    /// Checks both parts; all that is wrong is told at once.
    pub fn new(resource_id: &str, counter_type: &str) -> Result<Self, InvalidId> {
        let problems: Vec<Problem> = [
            check_resource_id(resource_id),
            check_counter_type(counter_type),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !problems.is_empty() {
            return Err(InvalidId(problems));
        }
        let mut key = String::with_capacity(resource_id.len() + 1 + counter_type.len());
        key.push_str(resource_id);
        key.push(':');
        key.push_str(counter_type);
        Ok(Self {
            key: key.into_boxed_str(),
            colon: resource_id.len(),
        })
    }

    /// Reads a key back.
    pub fn from_key(key: &str) -> Result<Self, InvalidId> {
        let (resource_id, counter_type) = key.rsplit_once(':').unwrap_or((key, ""));
        Self::new(resource_id, counter_type)
    }

    /// `resource_id:counter_type`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is counted.
    pub fn resource_id(&self) -> &str {
        &self.key[..self.colon]
    }

    /// What kind of count it is.
    pub fn counter_type(&self) -> &str {
        &self.key[self.colon + 1..]
    }
}

impl fmt::Debug for CounterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CounterId({:?})", self.key)
    }
}

/// What is wrong with one part of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// `resource_id` or `counter_type`.
    pub field: &'static str,
    /// What it must be.
    pub why: &'static str,
}

/// A name that breaks the rules, with everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|problem| format!("{} {}", problem.field, problem.why)).collect::<Vec<_>>().join("; "))]
pub struct InvalidId(pub Vec<Problem>);

fn check_resource_id(text: &str) -> Option<Problem> {
    let why = match text.len() {
        0 => "must not be empty",
        n if n > MAX_RESOURCE_ID => "must not be longer than 256 bytes",
        _ if has_control(text) => "must not contain control characters",
        _ => return None,
    };
    Some(Problem {
        field: "resource_id",
        why,
    })
}

fn check_counter_type(text: &str) -> Option<Problem> {
    let why = match text.len() {
        0 => "must not be empty",
        n if n > MAX_COUNTER_TYPE => "must not be longer than 64 bytes",
        _ if has_control(text) => "must not contain control characters",
        _ if text.bytes().any(|byte| matches!(byte, b':' | b'{' | b'}')) => {
            "must not contain `:`, `{` or `}`"
        }
        _ => return None,
    };
    Some(Problem {
        field: "counter_type",
        why,
    })
}

/// Unicode's control characters (category Cc): C0, DEL and C1.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_bytes_not_characters() {
        assert!(CounterId::new(&"é".repeat(128), "like").is_ok());
        let error = CounterId::new(&"é".repeat(129), "like").unwrap_err();
        assert_eq!(
            error.to_string(),
            "resource_id must not be longer than 256 bytes"
        );
        assert!(CounterId::new("a", &"t".repeat(64)).is_ok());
        assert!(CounterId::new("a", &"t".repeat(65)).is_err());
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let error = CounterId::new("", "a:b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "resource_id must not be empty; counter_type must not contain `:`, `{` or `}`"
        );
    }

    #[test]
    fn control_characters_are_refused_wherever_they_stand() {
        for text in ["\0", "a\n", "\u{7f}", "a\u{85}b", "\u{9f}"] {
            assert!(CounterId::new(text, "like").is_err(), "{text:?}");
            assert!(CounterId::new("a", text).is_err(), "{text:?}");
        }
        // Not control characters, however odd: spaces, a soft hyphen, a zero-width joiner.
        for text in [" ", "\u{a0}", "\u{ad}", "\u{200d}"] {
            assert!(CounterId::new(text, text).is_ok(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn accepts_exactly_what_the_rules_say(resource_id in ".{0,90}|[a-z:{}]{0,300}", counter_type in ".{0,24}|[a-z]{0,70}|[a-c:{}]{0,4}") {
            let fine = |text: &str, max: usize| (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
            let expected = fine(&resource_id, 256) && fine(&counter_type, 64) && !counter_type.contains([':', '{', '}']);
            prop_assert_eq!(CounterId::new(&resource_id, &counter_type).is_ok(), expected);
        }

        #[test]
        fn a_key_splits_into_what_it_was_made_of(resource_id in "[a-z:{}é]{1,40}", counter_type in "[a-zé]{1,20}") {
            let id = CounterId::new(&resource_id, &counter_type).unwrap();
            prop_assert_eq!(id.resource_id(), resource_id.as_str());
            prop_assert_eq!(id.counter_type(), counter_type.as_str());
            prop_assert_eq!(CounterId::from_key(id.key()).unwrap(), id);
        }
    }
}
