//! The config entries that were in force last, on disk beside the endpoints, so that a gateway which starts while Consul is away
//! sends requests where it did.

use std::io;
use std::path::{Path, PathBuf};

use consul::EntryKind;
use serde_json::{Value, json};

use crate::discovery::disk;
use crate::entries::Known;

const KINDS: [EntryKind; 3] = [EntryKind::Router, EntryKind::Splitter, EntryKind::Resolver];

/// Where the entries of one cluster are kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    path: PathBuf,
    /// Where they come from: those of elsewhere are no use.
    from: String,
}

impl Kept {
    pub(super) fn new(data: &Path, cluster: &str, from: String) -> Self {
        let path = data
            .join("discovery")
            .join(format!("{cluster}.entries.json"));
        Self { path, from }
    }

    /// What was kept; nothing, if that cannot be used.
    pub(super) fn load(&self) -> Known {
        let value = match disk::read(&self.path) {
            Ok(value) => value,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Known::new(),
            Err(why) => {
                let path = self.path.display();
                tracing::warn!(%path, %why, "the config entries that were kept on disk cannot be used");
                return Known::new();
            }
        };
        if value["from"] != self.from.as_str() {
            return Known::new();
        }
        let entries = value["entries"].as_array().into_iter().flatten();
        let one = |one: &Value| {
            let kind = KINDS
                .into_iter()
                .find(|kind| one["kind"] == kind.as_str())?;
            let service = one["service"].as_str()?.to_owned();
            let entry = Some(&one["entry"]).filter(|entry| entry.is_object());
            Some(((kind, service), entry.cloned()))
        };
        entries.filter_map(one).collect()
    }

    /// Keeps these in the place of those before.
    pub(super) fn save(&self, known: &Known) {
        let entries: Vec<Value> = known
            .iter()
            .map(|((kind, service), entry)| {
                json!({ "kind": kind.as_str(), "service": service, "entry": entry })
            })
            .collect();
        let value = json!({ "from": self.from, "entries": entries });
        if let Err(why) = disk::write(&self.path, &value) {
            let path = self.path.display();
            tracing::warn!(%path, %why, "the config entries cannot be kept on disk: a start without Consul would not know them");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_was_kept_is_there_again_for_the_same_service() {
        let data = tempfile::tempdir().unwrap();
        let kept = Kept::new(data.path(), "web", "web at a".to_owned());
        assert!(kept.load().is_empty());
        let known = Known::from([
            ((EntryKind::Router, "web".to_owned()), None),
            (
                (EntryKind::Resolver, "web".to_owned()),
                Some(json!({ "DefaultSubset": "v1" })),
            ),
        ]);
        kept.save(&known);
        assert_eq!(kept.load(), known);
        let other = Kept::new(data.path(), "web", "web at b".to_owned());
        assert!(other.load().is_empty());
        std::fs::write(data.path().join("discovery/web.entries.json"), "{").unwrap();
        assert!(kept.load().is_empty());
    }
}
