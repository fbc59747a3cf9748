//! Verdicts over canaries, kept on disk: a canary that was taken back stays back through a restart, like a switch by
//! hand does. They are in `verdicts.json` of the data directory, each with the canary map that it was about.
//!
//! A verdict holds at once and is written behind the requests' back; if that fails, the log says so and it ends with
//! the process. Refused: a file that cannot be read, and a verdict about another map than the one in force.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_config::model;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::canary::Sentence;
use super::switch::{OpenError, replace};

const FILE: &str = "verdicts.json";

/// The verdicts of all routes.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// `None`: they are kept in memory only.
    path: Option<PathBuf>,
    /// Locked while the file is written, so that the latest state is written last.
    all: Mutex<BTreeMap<String, Kept>>,
}

/// One verdict, and what it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    canary: String,
    sentence: Sentence,
}

// === impl Verdicts ===

impl Verdicts {
    /// What a data directory has kept.
    pub(super) fn open(dir: Option<&Path>) -> Result<Self, OpenError> {
        let path = dir.map(|dir| dir.join(FILE));
        let all = match &path {
            None => BTreeMap::new(),
            Some(path) => read(path).map_err(|why| OpenError::new(path, why))?,
        };
        let all = Mutex::new(all);
        Ok(Self { path, all })
    }

    /// The verdict over this canary of a route, if it has been judged. One over another canary of it is forgotten.
    pub(super) fn of(self: &Arc<Self>, route: &str, canary: &model::Canary) -> Option<Sentence> {
        let mut all = self.all.lock();
        let kept = all.get(route)?;
        if kept.canary == described(canary) {
            return Some(kept.sentence.clone());
        }
        all.remove(route);
        drop(all);
        self.write_soon();
        None
    }

    /// Keeps a verdict.
    pub(super) fn keep(self: &Arc<Self>, route: &str, canary: &model::Canary, sentence: Sentence) {
        let canary = described(canary);
        let kept = Kept { canary, sentence };
        self.all.lock().insert(route.to_owned(), kept);
        self.write_soon();
    }

    /// The canary of a route has another chance.
    pub(super) fn forget(self: &Arc<Self>, route: &str) {
        if self.all.lock().remove(route).is_some() {
            self.write_soon();
        }
    }

    fn write_soon(self: &Arc<Self>) {
        let verdicts = Arc::clone(self);
        let write = move || {
            if let (Some(path), Err(error)) = (&verdicts.path, verdicts.write()) {
                let path = path.display();
                tracing::error!(%path, %error, "verdicts over canaries cannot be kept");
            }
        };
        match Handle::try_current() {
            // The disk is not for the threads that serve.
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }

    fn write(&self) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let all = self.all.lock();
        let members = all.iter().map(|(route, kept)| {
            let Kept { canary, sentence } = kept;
            let (why, at) = (&*sentence.why, &*sentence.at);
            (
                route.clone(),
                json!({ "canary": canary, "why": why, "at": at }),
            )
        });
        replace(path, &Value::Object(members.collect()))
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Kept>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.to_string()),
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let members = value.as_object().ok_or("not a JSON object")?;
    let verdict = |(route, of): (&String, &Value)| {
        let text = |key: &str| of.get(key)?.as_str();
        let sentence = Sentence {
            why: text("why")?.into(),
            at: text("at")?.into(),
        };
        let canary = text("canary")?.to_owned();
        Some((route.clone(), Kept { canary, sentence }))
    };
    let all: Option<BTreeMap<_, _>> = members.iter().map(verdict).collect();
    all.ok_or_else(|| "a verdict without `canary`, `why` and `at`".to_owned())
}

/// The canary map in one line: two that differ have other lines.
fn described(canary: &model::Canary) -> String {
    let model::Canary {
        cluster,
        share,
        max_error_ratio_over,
        max_p99_over,
        min_requests,
        when,
    } = canary;
    let share_of = |share: &Option<model::Share>| match share {
        Some(share) => share.to_string(),
        None => "none".to_owned(),
    };
    let mut line = format!(
        "cluster {}, share {}, errors {}, p99 {}, requests {min_requests}",
        cluster.as_str(),
        share_of(share),
        share_of(max_error_ratio_over),
        share_of(max_p99_over),
    );
    for condition in when {
        line.push_str(&format!(", {condition:?}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(more: &str) -> model::Canary {
        let yaml = format!(
            "clusters:\n  - {{ name: old, protocol: http1, endpoints: {{ static: [\"127.0.0.1:1\"] }} }}\n  \
             - {{ name: new, protocol: http1, endpoints: {{ static: [\"127.0.0.1:2\"] }} }}\n\
             routes:\n  - name: r\n    match: {{ path_prefix: / }}\n    to: old\n    \
             canary: {{ cluster: new, share: 5%, max_error_ratio_over: 5%{more} }}\n"
        );
        let snapshot = mesh_config::parse(&yaml, Path::new("."), "test").unwrap();
        snapshot.routes[0].canary.clone().unwrap()
    }

    fn sentence() -> Sentence {
        Sentence {
            why: "it fails".into(),
            at: "2026-03-01T12:00:00Z".into(),
        }
    }

    #[test]
    fn a_verdict_is_read_again_for_the_same_canary_only() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Arc::new(Verdicts::open(Some(dir.path())).unwrap());
        open().keep("r", &canary(""), sentence());
        assert_eq!(open().of("r", &canary("")), Some(sentence()));
        assert_eq!(open().of("other", &canary("")), None);
        let more = ", header: { x-canary: \"yes\" }";
        assert_eq!(open().of("r", &canary(more)), None);
        assert_eq!(open().of("r", &canary("")), None, "it was forgotten");
        let verdicts = open();
        verdicts.keep("r", &canary(more), sentence());
        verdicts.forget("r");
        assert_eq!(open().of("r", &canary(more)), None);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().unwrap();
        for broken in ["", "[]", "{\"r\":{\"why\":\"w\"}}"] {
            fs::write(dir.path().join(FILE), broken).unwrap();
            let error = Verdicts::open(Some(dir.path())).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("mend it"), "{error}");
        }
    }
}
