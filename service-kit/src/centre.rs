//! Where a service's settings come from: flags, environment, a key of Consul's KV store, its file, in this order; the key is followed
//! for as long as the service runs, and all of it is read again when somebody asks for that (SIGHUP).
//!
//! What can change while the service runs is applied at once; of the rest it says by name that it needs a restart. What
//! cannot be used changes nothing and is shown with its mistakes until the next good one. Consul may be away: then what was
//! kept on disk counts, or file and defaults. Refused: taking from the key where Consul and the key are.

mod follow;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_config::centre::{Centre, First, Found, Version};
use mesh_config::model::{Consul, ConsulToken};
use mesh_config::{KvKey, Place};
use serde_json::Value;

use crate::consul::Arguments;
use crate::settings::{Mistakes, Settings, config_file};
use crate::telemetry;

pub use self::follow::Followed;
pub use self::told::SettingsHandle;

const DEFAULT_ENVIRONMENT: &str = "prod";
/// Where the last good settings are kept.
const KEPT: &str = "data/settings";

type Read<S> = Box<dyn Fn(Settings) -> Result<S, Mistakes> + Send>;
type Texts = BTreeMap<String, String>;

/// Reads settings from flags, environment, a version of the key, and the file.
struct Reader<S> {
    config: Option<PathBuf>,
    read: Read<S>,
}

/// Settings, and the text of each that was given.
struct Given<S> {
    settings: S,
    texts: Texts,
}

/// What a program starts with.
pub struct Begun<S> {
    /// Its settings.
    pub settings: S,
    /// Where they come from; to be followed.
    pub origins: Origins<S>,
}

/// Where the settings of a program that starts come from.
pub struct Origins<S> {
    reader: Reader<S>,
    texts: Texts,
    key: Option<Key>,
}

/// The key of a program that starts.
struct Key {
    place: Place,
    data: PathBuf,
    first: First,
    used: Found,
    refused: Option<(Arc<Version>, Vec<String>)>,
}

/// Reads a service's settings, those in Consul too, if the flags name one.
///
/// # Errors
/// Every mistake in them, where nothing usable is left.
pub fn begin<S>(
    service: &str,
    arguments: &Arguments,
    config: Option<&Path>,
    read: impl Fn(Settings) -> Result<S, Mistakes> + Send + 'static,
) -> Result<Begun<S>, Mistakes> {
    let reader = Reader {
        config: config_file(config),
        read: Box::new(read),
    };
    let data = PathBuf::from(KEPT).join(service);
    let place = place(service, arguments, config);
    let first = place.as_ref().and_then(|place| first(place, &data));
    let (Some(place), Some(first)) = (place, first) else {
        let given = reader.with(None)?;
        return Ok(Begun::of(reader, given, None));
    };
    let mut refused = None;
    let known = Some(first.found.clone()).filter(|found| *found != Found::Nothing);
    let mut candidates: Vec<Found> = known.into_iter().chain(first.kept.clone()).collect();
    candidates.push(Found::Nothing);
    let mut tried = candidates.into_iter().filter_map(|found| {
        match (reader.with(found.version()), found.version()) {
            (Ok(given), _) => Some(Ok((given, found))),
            (Err(mistakes), Some(version)) => {
                let mistakes = mistakes.lines().to_vec();
                refused.get_or_insert((version.clone(), mistakes));
                None
            }
            // File, environment or flags are wrong by themselves.
            (Err(mistakes), None) => Some(Err(mistakes)),
        }
    });
    // The last candidate is always one or the other.
    let (given, used) = tried
        .next()
        .unwrap_or_else(|| reader.with(None).map(|given| (given, Found::Nothing)))?;
    drop(tried);
    say(&place, &first, &used);
    let key = Key {
        place,
        data,
        first,
        used,
        refused,
    };
    Ok(Begun::of(reader, given, Some(key)))
}

impl<S> Begun<S> {
    fn of(reader: Reader<S>, Given { settings, texts }: Given<S>, key: Option<Key>) -> Self {
        follow::apply_log(&texts);
        let origins = Origins { reader, texts, key };
        Self { settings, origins }
    }
}

/// Whether a program would take a file as its settings; flags and environment do not count.
///
/// # Errors
/// Every mistake in it.
pub fn check<S>(
    file: &Path,
    read: impl FnOnce(Settings) -> Result<S, Mistakes>,
) -> Result<(), Mistakes> {
    let mut kit = Settings::open_in(Some(file), |_| None);
    log(&mut kit);
    read(kit).map(|_| ())
}

/// It has to do with every program alike, and is applied here.
fn log(kit: &mut Settings) {
    kit.optional_with("log", None, telemetry::check_filter);
}

/// What `/status` tells, with what there is to tell of the settings.
#[must_use]
pub fn with_status(mut status: Value, followed: &SettingsHandle) -> Value {
    if let Value::Object(status) = &mut status {
        status.insert("settings".to_owned(), followed.json());
    }
    status
}

impl<S> Reader<S> {
    /// The file, if there is one.
    fn file(&self) -> Option<PathBuf> {
        self.config.clone()
    }

    fn with(&self, version: Option<&Arc<Version>>) -> Result<Given<S>, Mistakes> {
        let mut kit = Settings::open(self.config.as_deref());
        if let Some(version) = version {
            kit = kit.over(&version.source(), version.text());
        }
        log(&mut kit);
        let texts = kit.texts();
        let settings = (self.read)(kit)?;
        let texts = texts.lock().clone();
        Ok(Given { settings, texts })
    }
}

/// Where the key is, by flags, environment and file only.
fn place(service: &str, arguments: &Arguments, config: Option<&Path>) -> Option<Place> {
    // What is wrong is found when the whole is read.
    let mut kit = Settings::open(config);
    let (address, token) = arguments.whereabouts(&mut kit);
    let environment = arguments.environment(&mut kit);
    let environment = environment.as_deref().unwrap_or(DEFAULT_ENVIRONMENT);
    let key = match arguments.key(&mut kit) {
        Some(key) => key,
        None => KvKey::of(environment, service).ok()?,
    };
    let token = token
        .as_deref()
        .and_then(|token| ConsulToken::new(token.trim()));
    Some(Place {
        consul: Consul {
            address: address?,
            token,
            tls: arguments.tls(&mut kit),
        },
        key,
    })
}

/// What Consul says within a moment, and what was kept. The program's own runtime is not there yet: its threads may be set here.
fn first(place: &Place, data: &Path) -> Option<First> {
    let centre = Centre::new(place, Some(data))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    Some(runtime.block_on(centre.first()))
}

fn say(place: &Place, first: &First, used: &Found) {
    let Some(why) = &first.away else { return };
    let with = match used {
        Found::Version(version) => format!("version {} that was kept", version.index()),
        Found::Absent | Found::Nothing => "flags, environment and file alone".to_owned(),
    };
    let Place { consul, key } = place;
    let consul = &consul.address;
    tracing::warn!(%consul, %key, %why, with, "the settings in Consul are not known yet: starting without them");
}

/// The names of settings that differ.
fn differing(one: &Texts, other: &Texts) -> BTreeSet<String> {
    let names = one.keys().chain(other.keys());
    names
        .filter(|name| one.get(*name) != other.get(*name))
        .cloned()
        .collect()
}
