//! A part of a cluster's endpoints that a route asks, by what is known of them.

use std::fmt;

use super::{Labels, Metadata};

/// Endpoints that have all of this.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subset {
    /// Tags.
    pub tags: Box<[Box<str>]>,
    /// Metadata.
    pub metadata: Metadata,
    /// Any endpoint will do where none of the subset is usable.
    pub or_any: bool,
}

impl Subset {
    /// Whether an endpoint with these labels is in it.
    #[must_use]
    pub fn has(&self, labels: &Labels) -> bool {
        self.tags.iter().all(|tag| labels.has_tag(tag))
            && self
                .metadata
                .iter()
                .all(|(key, value)| labels.metadata.get(key) == Some(value))
    }
}

/// `version=v2, tag blue`.
impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metadata = self.metadata.iter();
        let metadata = metadata.map(|(key, value)| format!("{key}={value}"));
        let tags = self.tags.iter().map(|tag| format!("tag {tag}"));
        let all: Vec<String> = metadata.chain(tags).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_to_have_all_of_it() {
        let labels = Labels {
            tags: ["blue".into(), "new".into()].into(),
            metadata: [("version", "v2")].into_iter().collect(),
            ..Labels::default()
        };
        let subset = |tags: &[&str], metadata: &[(&str, &str)]| Subset {
            tags: tags.iter().map(|tag| Box::from(*tag)).collect(),
            metadata: metadata.iter().copied().collect(),
            or_any: false,
        };
        assert!(subset(&["new"], &[("version", "v2")]).has(&labels));
        assert!(subset(&["new", "blue"], &[]).has(&labels));
        assert!(!subset(&["new", "red"], &[]).has(&labels));
        assert!(!subset(&["new"], &[("version", "v1")]).has(&labels));
        assert!(!subset(&[], &[("stage", "v2")]).has(&labels));
        let told = subset(&["new"], &[("version", "v2")]).to_string();
        assert_eq!(told, "version=v2, tag new");
    }
}
