//! Follows where the settings of a running program come from: what can change at once does, the rest is named.
//!
//! A change of the key in Consul is looked at when it comes, the file when somebody asks for it (SIGHUP). A key whose value is refused
//! does not keep the file from being heard: then the key's last good value counts under it.

use std::collections::BTreeSet;
use std::fmt;

use mesh_config::centre::{Centre, Following, Found};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use super::told::{Rejected, SettingsHandle, Told};
use super::{Given, Key, Origins, Reader, Texts, differing};
use crate::consul::ConsulMetrics;
use crate::settings::Mistakes;
use crate::shutdown::Hangups;
use crate::telemetry;

/// The setting that every program applies alike.
const LOG: &str = "log";

/// Settings that are followed for as long as this lives.
pub struct Followed {
    handle: SettingsHandle,
    _tasks: JoinSet<()>,
}

/// What follows.
struct Follower<S> {
    reader: Reader<S>,
    key: Option<FollowedKey>,
    hangups: Hangups,
    live: Vec<&'static str>,
    apply: Box<dyn Fn(&S) + Send>,
    /// The texts of the settings that the process was started with.
    started_with: Texts,
    /// Of those that are in force.
    texts: Texts,
    handle: SettingsHandle,
}

/// The key that is followed.
struct FollowedKey {
    following: Following,
    /// What of it is in force.
    used: Found,
}

/// Why the settings are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The key holds something else.
    Key,
    /// Somebody asked.
    Asked,
}

impl<S: 'static> Origins<S> {
    /// Follows them on the current runtime. `live` are the settings that `apply` changes while the program runs, beside `log`.
    #[must_use]
    pub fn follow(
        self,
        live: Vec<&'static str>,
        hangups: Hangups,
        registry: &mut Registry,
        metrics: &ConsulMetrics,
        apply: impl Fn(&S) + Send + 'static,
    ) -> Followed {
        let mut told = Told::of_file(self.reader.file());
        let key = self.key.and_then(|key| key.follow(&mut told, metrics));
        let handle = SettingsHandle::new(told, registry);
        let follower = Follower {
            reader: self.reader,
            key,
            hangups,
            live,
            apply: Box::new(apply),
            started_with: self.texts.clone(),
            texts: self.texts,
            handle: handle.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.run());
        Followed {
            handle,
            _tasks: tasks,
        }
    }
}

impl Key {
    /// Follows it; `None`: its token cannot be sent, which was said when the settings were read.
    fn follow(self, told: &mut Told, metrics: &ConsulMetrics) -> Option<FollowedKey> {
        let mut centre = Centre::new(&self.place, Some(&self.data))?;
        centre.keep(&self.used, &self.first);
        let latest = self.first.found.clone();
        let following = centre.follow(self.first);
        metrics.add("settings", following.status());
        told.rejected = self.refused.map(|(version, problems)| {
            following.rejected(&version, problems.clone());
            Rejected::now(version.source(), problems)
        });
        following.applied(&self.used);
        told.followed(self.place, following.status(), &self.used, latest);
        Some(FollowedKey {
            following,
            used: self.used,
        })
    }
}

impl<S: 'static> Follower<S> {
    async fn run(mut self) {
        loop {
            let why = tokio::select! {
                () = changed(&mut self.key) => Why::Key,
                () = self.hangups.next() => Why::Asked,
            };
            self.look(why);
        }
    }

    /// Reads everything, and uses what is good of it.
    fn look(&mut self, why: Why) {
        let found = self.key.as_ref().map(|key| key.following.now());
        let found = found.unwrap_or(Found::Nothing);
        tracing::debug!(?found, "the settings are read again");
        if why == Why::Key {
            self.handle.latest(&found);
        }
        let mistakes = match self.reader.with(found.version()) {
            Ok(given) => return self.use_it(why, &found, given),
            Err(mistakes) => mistakes,
        };
        // Whose mistakes these are shows without the key's new value.
        let used = self.key.as_ref().map(|key| key.used.clone());
        let before = used.filter(|used| *used != found);
        let without = before.map(|used| (self.reader.with(used.version()), used));
        match without {
            Some((Ok(given), used)) => {
                self.refuse_key(&found, &mistakes);
                if why == Why::Asked {
                    self.use_it(why, &used, given);
                }
            }
            Some((Err(mistakes), _)) => self.refuse_file(&mistakes),
            None if why == Why::Key && found.version().is_some() => {
                self.refuse_key(&found, &mistakes);
            }
            None => self.refuse_file(&mistakes),
        }
    }

    fn use_it(&mut self, why: Why, found: &Found, Given { settings, texts }: Given<S>) {
        let changed = differing(&self.texts, &texts);
        let of_start = differing(&self.started_with, &texts).into_iter();
        let later: BTreeSet<String> = of_start.filter(|name| !self.is_live(name)).collect();
        apply_log(&texts);
        let applied: Vec<&str> = changed
            .iter()
            .map(String::as_str)
            .filter(|name| self.is_live(name))
            .collect();
        if !applied.is_empty() {
            (self.apply)(&settings);
        }
        let applied = applied.join(", ");
        match why {
            Why::Key => {
                let index = found.version().map(|version| version.index());
                tracing::info!(modify_index = index, applied, "settings from Consul");
            }
            Why::Asked if changed.is_empty() => {
                tracing::info!("SIGHUP: the settings were read again, and are the same");
            }
            Why::Asked => tracing::info!(applied, "SIGHUP: the settings were read again"),
        }
        if !later.is_empty() {
            let names: Vec<&str> = later.iter().map(String::as_str).collect();
            tracing::warn!("needs a restart: {}", names.join(", "));
        }
        self.texts = texts;
        let mut newest = true;
        if let Some(key) = &mut self.key {
            key.used = found.clone();
            key.following.applied(found);
            newest = key.following.now() == *found;
        }
        self.handle.applied(found, newest, later);
    }

    fn refuse_key(&self, found: &Found, mistakes: &Mistakes) {
        let problems = mistakes.lines().to_vec();
        tell("settings from Consul refused", &problems);
        if let (Some(version), Some(key)) = (found.version(), &self.key) {
            key.following.rejected(version, problems.clone());
            let rejected = Rejected::now(version.source(), problems);
            self.handle.refused(rejected);
        }
    }

    fn refuse_file(&self, mistakes: &Mistakes) {
        let problems = mistakes.lines().to_vec();
        tell("settings refused", &problems);
        let source = self.reader.file();
        let source = source.map_or_else(|| "environment".into(), |path| path.display().to_string());
        self.handle.refused(Rejected::now(source, problems));
    }

    fn is_live(&self, name: &str) -> bool {
        name == LOG || self.live.contains(&name)
    }
}

fn tell(what: &str, problems: &[String]) {
    tracing::warn!("{what}, the last good ones stay");
    for problem in problems {
        tracing::warn!("{problem}");
    }
}

async fn changed(key: &mut Option<FollowedKey>) {
    match key {
        Some(key) => key.following.changed().await,
        None => std::future::pending().await,
    }
}

/// Makes the log as loud as the settings say, if they do.
pub(super) fn apply_log(texts: &Texts) {
    let filter = texts.get(LOG).map(String::as_str).unwrap_or_default();
    if let Err(why) = telemetry::set_filter(filter) {
        tracing::warn!(%why, "the log's filter stays as it was");
    }
}

impl Followed {
    /// What there is to tell of the settings.
    #[must_use]
    pub fn handle(&self) -> SettingsHandle {
        self.handle.clone()
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").finish_non_exhaustive()
    }
}
