//! What there is to tell of a program's settings: which are in force, what was refused and why, what waits for a restart.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use consul::StatusHandle;
use mesh_config::centre::Found;
use mesh_config::{Place, rfc3339};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

/// What there is to tell of the settings. Clones tell the same.
#[derive(Clone)]
pub struct SettingsHandle(Arc<Shared>);

struct Shared {
    told: Mutex<Told>,
    rejected: Gauge,
    reloads: Family<[(&'static str, &'static str); 1], Counter>,
}

/// What may change, and where it comes from.
pub(super) struct Told {
    file: Option<PathBuf>,
    key: Option<(Place, StatusHandle)>,
    used: Found,
    latest: Found,
    pub(super) rejected: Option<Rejected>,
    restart: BTreeSet<String>,
}

/// What was refused last.
pub(super) struct Rejected {
    source: String,
    at: SystemTime,
    problems: Vec<String>,
}

impl Rejected {
    pub(super) fn now(source: String, problems: Vec<String>) -> Self {
        Self {
            source,
            at: SystemTime::now(),
            problems,
        }
    }
}

impl Told {
    /// Of settings that come from a file, if there is one, and from no key.
    pub(super) fn of_file(file: Option<PathBuf>) -> Self {
        Self {
            file,
            key: None,
            used: Found::Nothing,
            latest: Found::Nothing,
            rejected: None,
            restart: BTreeSet::new(),
        }
    }

    /// A key is followed, too.
    pub(super) fn followed(
        &mut self,
        place: Place,
        status: StatusHandle,
        used: &Found,
        latest: Found,
    ) {
        self.key = Some((place, status));
        (self.used, self.latest) = (used.clone(), latest);
    }
}

impl SettingsHandle {
    pub(super) fn new(told: Told, registry: &mut Registry) -> Self {
        let (rejected, reloads) = (Gauge::default(), Family::default());
        registry.register(
            "highpress_settings_rejected",
            "1 while settings are refused and the last good ones are in force",
            rejected.clone(),
        );
        registry.register(
            "highpress_settings_reloads",
            "Changes of the settings, by what became of them",
            reloads.clone(),
        );
        rejected.set(i64::from(told.rejected.is_some()));
        Self(Arc::new(Shared {
            told: Mutex::new(told),
            rejected,
            reloads,
        }))
    }

    pub(super) fn latest(&self, found: &Found) {
        self.0.told.lock().latest = found.clone();
    }

    /// These are in force; what Consul has now is refused still, if they are not the newest.
    pub(super) fn applied(&self, found: &Found, newest: bool, restart: BTreeSet<String>) {
        let shared = &*self.0;
        shared.reloads.get_or_create(&[("result", "applied")]).inc();
        let mut told = shared.told.lock();
        (told.used, told.restart) = (found.clone(), restart);
        if newest {
            told.rejected = None;
        }
        shared.rejected.set(i64::from(told.rejected.is_some()));
    }

    pub(super) fn refused(&self, rejected: Rejected) {
        let shared = &*self.0;
        let refused = [("result", "rejected")];
        shared.reloads.get_or_create(&refused).inc();
        shared.rejected.set(1);
        shared.told.lock().rejected = Some(rejected);
    }

    /// What `/status` shows under `settings`.
    #[must_use]
    pub fn json(&self) -> Value {
        let told = self.0.told.lock();
        let index = |found: &Found| found.version().map(|version| version.index());
        let rejected = told.rejected.as_ref().map(|rejected| {
            json!({ "source": rejected.source, "at": rfc3339(rejected.at), "problems": rejected.problems })
        });
        let names: Vec<&str> = told.restart.iter().map(String::as_str).collect();
        let note = (!names.is_empty()).then(|| format!("needs a restart: {}", names.join(", ")));
        let key = told.key.as_ref();
        let waiting = key.filter(|_| told.latest == Found::Nothing);
        let waiting =
            waiting.map(|(place, _)| format!("waiting for Consul at {}", place.consul.address));
        let file = told.file.as_deref().map(Path::display);
        json!({
            "file": file.map(|file| file.to_string()),
            "key": key.map(|(place, _)| place.key.as_str()), "modify_index": index(&told.used),
            "latest_modify_index": index(&told.latest),
            "consul": key.map(|(_, status)| status.get().state.to_string()),
            "waiting_for": waiting, "rejected": rejected, "restart_needed": names, "note": note,
        })
    }
}

impl fmt::Debug for SettingsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingsHandle").finish_non_exhaustive()
    }
}
