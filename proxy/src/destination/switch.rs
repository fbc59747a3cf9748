//! Routes that a hand has switched to a cluster. It holds at once, in every table, through reloads and restarts,
//! until the hand takes it back; it is kept in `switches.json` of the data directory, and in Consul where gateways share it (`shared`).
//!
//! A switch whose route or cluster a reload has removed is kept, and said to be without effect, rather than
//! forgotten or applied to something else. Refused: a file that cannot be read, because what it said would be
//! undone silently.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

use arc_swap::ArcSwapOption;
use serde_json::{Value, json};

const FILE: &str = "switches.json";

/// Where a route has been switched to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Switched {
    /// The cluster.
    pub(crate) cluster: String,
    /// Since when, as people write it.
    pub(crate) since: String,
}

/// Why a switch was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchError {
    /// The configuration in force has no such route.
    #[error("no route `{name}`; there are {}", known.join(", "))]
    UnknownRoute {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The configuration in force has no such cluster that the route's requests can go to.
    #[error("no cluster `{name}` that route `{route}` can go to; there are {}", known.join(", "))]
    UnknownCluster {
        /// What was asked for.
        name: String,
        /// The route.
        route: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is nothing to undo.
    #[error("route `{0}` is not switched, and has no canary that was taken back")]
    NotSwitched(String),
    /// It would be lost at the next start.
    #[error("cannot keep switches in {}: {source}; nothing was switched", path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The other gateways would not hear of it.
    #[error("cannot keep switches in the key {key} of Consul: {why}; nothing was switched")]
    Shared {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
}

/// Why the file of switches cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {why}; mend it, or remove it to undo all that it says", path.display())]
pub struct OpenError {
    path: PathBuf,
    why: String,
}

/// Where one route is switched to, as its requests ask: one load where it is not.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    set: AtomicBool,
    cluster: ArcSwapOption<String>,
}

/// The file of switches.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// `None`: they are kept in memory only.
    path: Option<PathBuf>,
}

/// Where routes have been switched to, by their names.
pub(crate) type Switches = BTreeMap<String, Switched>;

impl OpenError {
    pub(super) fn new(path: &Path, why: String) -> Self {
        let path = path.to_owned();
        Self { path, why }
    }
}

impl Cell {
    pub(super) fn get(&self) -> Option<Arc<String>> {
        if self.set.load(Acquire) {
            self.cluster.load_full()
        } else {
            None
        }
    }

    pub(super) fn set(&self, cluster: Option<&str>) {
        self.cluster
            .store(cluster.map(|name| Arc::new(name.to_owned())));
        self.set.store(cluster.is_some(), Release);
    }
}

/// The switches that a gateway with this data directory would start with, by route.
///
/// # Errors
/// If there is a file that cannot be read.
pub(crate) fn read(dir: &Path) -> Result<Switches, OpenError> {
    Store::in_dir(Some(dir)).read()
}

impl Store {
    pub(super) fn in_dir(dir: Option<&Path>) -> Self {
        Self {
            path: dir.map(|dir| dir.join(FILE)),
        }
    }

    pub(super) fn read(&self) -> Result<Switches, OpenError> {
        let Some(path) = &self.path else {
            return Ok(Switches::new());
        };
        let failed = |why: String| OpenError::new(path, why);
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Switches::new()),
            Err(error) => return Err(failed(error.to_string())),
        };
        parse(&text).map_err(failed)
    }

    /// Replaces the file in one step, and is back when it is on the disk.
    pub(super) fn write(&self, switches: &Switches) -> Result<(), SwitchError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        write(path, switches).map_err(|source| SwitchError::Kept {
            path: path.clone(),
            source,
        })
    }
}

/// Switches, as they are kept.
pub(super) fn parse(text: &str) -> Result<Switches, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let members = value.as_object().ok_or("not a JSON object")?;
    let switched = |(route, of): (&String, &Value)| {
        let text = |key: &str| of.get(key)?.as_str().map(str::to_owned);
        let (cluster, since) = (text("cluster")?, text("since")?);
        Some((route.clone(), Switched { cluster, since }))
    };
    let all: Option<Switches> = members.iter().map(switched).collect();
    all.ok_or_else(|| "a route without `cluster` and `since`".to_owned())
}

/// What [`parse`] reads.
pub(super) fn text(switches: &Switches) -> String {
    format!("{:#}\n", json(switches))
}

fn json(switches: &Switches) -> Value {
    let members = switches.iter().map(|(route, switched)| {
        let Switched { cluster, since } = switched;
        (route.clone(), json!({ "cluster": cluster, "since": since }))
    });
    Value::Object(members.collect())
}

fn write(path: &Path, switches: &Switches) -> io::Result<()> {
    replace(path, &json(switches))
}

/// Replaces a file in one step, and is back when it is on the disk.
pub(super) fn replace(path: &Path, value: &Value) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let text = format!("{value:#}\n");
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        assert_eq!(read(&dir).unwrap(), Switches::new());
        let switched = Switched {
            cluster: "monolith".into(),
            since: "2026-03-01T12:00:00Z".into(),
        };
        let switches = Switches::from([("counters".to_owned(), switched)]);
        Store::in_dir(Some(&dir)).write(&switches).unwrap();
        assert_eq!(read(&dir).unwrap(), switches);
        for broken in ["", "[]", "{\"counters\":{}}"] {
            fs::write(dir.join(FILE), broken).unwrap();
            let error = read(&dir).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("mend it"), "{error}");
        }
    }

    #[test]
    fn a_cell_is_empty_until_it_is_set_and_again_after() {
        let cell = Cell::default();
        assert_eq!(cell.get(), None);
        cell.set(Some("monolith"));
        assert_eq!(cell.get().as_deref().map(String::as_str), Some("monolith"));
        cell.set(None);
        assert_eq!(cell.get(), None);
    }
}
