//! What is known of an endpoint beside its address: where it is, what it is called, and how much it is preferred. The file says so, or
//! discovery does. Subsets and the preference for near endpoints go by it.

use std::collections::BTreeMap;
use std::fmt;

/// What is known of an endpoint beside its address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// The machine that it runs on.
    pub node: Option<Box<str>>,
    /// The part of the datacenter that fails by itself.
    pub zone: Option<Box<str>>,
    /// The datacenter.
    pub datacenter: Option<Box<str>>,
    /// Words.
    pub tags: Box<[Box<str>]>,
    /// Words by name.
    pub metadata: Metadata,
    /// 0 is preferred; those of the next number take over when these fail.
    pub priority: u32,
}

/// Texts by key, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(Box<[(Box<str>, Box<str>)]>);

// === impl Metadata ===

impl Metadata {
    /// In the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(key));
        found.ok().map(|index| &*self.0[index].1)
    }
}

/// Of a key that comes twice, the last value counts.
impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        let sorted: BTreeMap<Box<str>, Box<str>> = pairs.collect();
        Self(sorted.into_iter().collect())
    }
}

// === impl Labels ===

impl Labels {
    /// Whether it has this tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|known| **known == *tag)
    }
}

/// Each with a comma before it, so that it can follow an address; nothing if nothing is known.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = [
            ("node", &self.node),
            ("zone", &self.zone),
            ("datacenter", &self.datacenter),
        ];
        for (what, place) in places {
            if let Some(place) = place {
                write!(f, ", {what} {place}")?;
            }
        }
        if !self.tags.is_empty() {
            write!(f, ", tags {}", self.tags.join(" "))?;
        }
        for (key, value) in self.metadata.iter() {
            write!(f, ", {key}={value}")?;
        }
        if self.priority > 0 {
            write!(f, ", priority {}", self.priority)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_found_by_its_key() {
        let pairs = [("version", "v1"), ("stage", "blue"), ("version", "v2")];
        let metadata: Metadata = pairs.into_iter().collect();
        assert_eq!(metadata.get("version"), Some("v2"));
        assert_eq!(metadata.get("stage"), Some("blue"));
        assert_eq!(metadata.get("v"), None);
        assert_eq!(metadata.iter().count(), 2);
    }

    #[test]
    fn what_is_known_is_told() {
        let labels = Labels {
            zone: Some("b".into()),
            tags: Box::new(["x".into(), "y".into()]),
            metadata: [("version", "v2")].into_iter().collect(),
            priority: 1,
            ..Labels::default()
        };
        assert_eq!(
            labels.to_string(),
            ", zone b, tags x y, version=v2, priority 1"
        );
        assert_eq!(Labels::default().to_string(), "");
    }

    #[test]
    fn a_tag_is_a_whole_word() {
        let labels = Labels {
            tags: Box::new(["canary".into()]),
            ..Labels::default()
        };
        assert!(labels.has_tag("canary") && !labels.has_tag("can"));
    }
}
