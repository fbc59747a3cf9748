//! Which source each key of a configuration comes from: a file, or the value of a KV key that replaces some of the
//! file's top-level keys. Problems are shown with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::positions::first_key;

/// Sources by top-level key.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    /// Where everything else comes from.
    base: Arc<str>,
    over: Option<Over>,
}

#[derive(Debug, Clone)]
struct Over {
    source: Arc<str>,
    keys: Arc<BTreeSet<String>>,
}

impl Origins {
    /// Everything comes from one source.
    pub(crate) fn one(source: Arc<str>) -> Self {
        Self {
            base: source,
            over: None,
        }
    }

    /// These keys come from another one.
    pub(crate) fn with(self, source: Arc<str>, keys: BTreeSet<String>) -> Self {
        let keys = Arc::new(keys);
        Self {
            over: Some(Over { source, keys }),
            ..self
        }
    }

    /// The source of what a path such as `routes[3].timeout` leads to.
    pub(crate) fn of(&self, path: &str) -> &Arc<str> {
        let over = self.over.as_ref().filter(|over| {
            let key = first_key(path);
            key.is_some_and(|key| over.keys.contains(&key))
        });
        over.map_or(&self.base, |over| &over.source)
    }

    /// The source of what is in none of the others.
    pub(crate) fn base(&self) -> &Arc<str> {
        &self.base
    }
}
