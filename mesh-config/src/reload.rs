//! Keeps a configuration in force: reads it when its file, a descriptor file or its key in Consul changes, when descriptors have
//! been learnt, and when asked to (SIGHUP); applies a version as a whole or not at all; keeps the last good one.
//!
//! A version is applied in two stages: it is read and checked here, then the caller's `compile` builds from it
//! what requests are served with, and may refuse it. Boot settings do not change: what wants a restart says so.
//!
//! Files are polled by content, not watched by inode: that survives editors that rename a new file over the old
//! one, symbolic links that are swung to another directory, and file systems without notifications.

mod attempt;
mod status;
mod summary;
mod watch;

pub use status::{Applied, KeyStatus, Rejected, Reloads, Status, rfc3339};

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::centre::{Centre, First, Following, Found};
use crate::learnt::Sets;
use crate::live::{Live, Publisher};
use crate::load::Reading;
use crate::model::Snapshot;
use crate::problem::Problems;
use crate::sources::{Place, Sources};
use watch::Watch;
pub(crate) use watch::{Fingerprint, content, hash};

/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(500);
/// A file that has changed is read when it has been the same for so long: it may still be being written.
const SETTLE: Duration = Duration::from_millis(50);
/// A file that does not come to rest is read all the same after so many looks.
const MAX_LOOKS: usize = 20;

/// Keeps a configuration in force.
#[derive(Debug)]
pub struct Reloader<C> {
    sources: Sources,
    /// The key of the sources.
    key: Option<Following>,
    compile: C,
    /// What boot settings are compared with.
    started_with: Started,
    /// What the files held when they were last read.
    read: Fingerprint,
    /// What is in force was made of this.
    applied: (Fingerprint, Found),
    status: Publisher<Status>,
    trigger: Arc<Notify>,
}

/// What only a start takes.
#[derive(Debug)]
struct Started {
    snapshot: Arc<Snapshot>,
    place: Option<Place>,
}

/// The key that a start has to do with.
#[derive(Debug)]
pub struct Begun {
    /// The key.
    pub centre: Centre,
    /// What is known of it.
    pub first: First,
}

/// Asks a [`Reloader`] to read its file now. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct ReloadHandle(Arc<Notify>);

impl ReloadHandle {
    /// Asks for it and returns at once; the outcome is in the [`Status`].
    pub fn reload(&self) {
        self.0.notify_one();
    }
}

impl<C> Reloader<C>
where
    C: FnMut(&Arc<Snapshot>) -> Result<(), Problems> + Send,
{
    /// Reads the sources for the first time, and compiles what they come to. A key whose value cannot be used is as if it
    /// had its last good one, or none; it is shown as refused.
    ///
    /// # Errors
    /// Every mistake that is in it, or what `compile` refuses it for. There is no last good version yet.
    pub fn start(
        sources: Sources,
        key: Option<Begun>,
        mut compile: C,
    ) -> Result<(Self, Live<Status>), Problems> {
        let mut refused = None;
        let candidates = key.as_ref().map_or(vec![Found::Nothing], |key| {
            candidates(&key.first, sources.file.is_some())
        });
        let mut attempt = |found: &Found, learnt: &Sets| {
            let reading = Reading::of(&sources, found.version().map(Arc::as_ref), learnt);
            let good = reading.snapshot.map(Arc::new).and_then(|snapshot| {
                compile(&snapshot)?;
                Ok(snapshot)
            });
            match good {
                Ok(snapshot) => Some((snapshot, reading.fingerprint, reading.place, found.clone())),
                Err(problems) => {
                    // What Consul says now is what has to be mended.
                    refused.get_or_insert((found.clone(), problems));
                    None
                }
            }
        };
        let mut first_of =
            |learnt: &Sets| candidates.iter().find_map(|found| attempt(found, learnt));
        let learnt = sources.learnt.good();
        let mut tried = first_of(&learnt);
        if tried.is_none() && !learnt.is_empty() {
            // What was learnt for another configuration may not fit this one, and can be learnt again.
            tried = first_of(&Sets::new());
            if tried.is_some() {
                sources.learnt.forget_good();
                refused = None;
            }
        }
        let Some((snapshot, fingerprint, place, found)) = tried else {
            return Err(refused.map(|(_, problems)| problems).unwrap_or_default());
        };
        let now = SystemTime::now();
        let mut status = Status::first(&snapshot, found.version(), now);
        let key = key.map(|Begun { mut centre, first }| {
            centre.keep(&found, &first);
            centre.follow(first)
        });
        if let Some(key) = &key {
            status.key = Some(KeyStatus::of(key));
            key.applied(&found);
            if let Some((Found::Version(version), problems)) = &refused {
                key.rejected(version, lines(problems));
                status = status.rejected(&version.source(), problems, now);
            }
        }
        status.log();
        let (status, live) = Live::new(Arc::new(status));
        let reloader = Self {
            sources,
            key,
            compile,
            started_with: Started { snapshot, place },
            read: fingerprint.clone(),
            applied: (fingerprint, found),
            status,
            trigger: Arc::new(Notify::new()),
        };
        Ok((reloader, live))
    }

    /// The key that is followed, for those who measure it.
    #[must_use]
    pub fn key(&self) -> Option<&Following> {
        self.key.as_ref()
    }

    /// A handle to ask for a reload with.
    #[must_use]
    pub fn handle(&self) -> ReloadHandle {
        ReloadHandle(Arc::clone(&self.trigger))
    }

    /// Reloads until it is dropped.
    pub async fn run(mut self) -> Infallible {
        let trigger = Arc::clone(&self.trigger);
        let mut watch = Watch::default();
        loop {
            tokio::select! {
                () = sleep(POLL) => {
                    let (rested, changed) = rested(watch, self.read.clone()).await;
                    watch = rested;
                    if !changed {
                        continue;
                    }
                }
                () = changed(&mut self.key) => {}
                () = trigger.notified() => {}
            }
            self.reload().await;
        }
    }

    /// What differs from what is in force, by name.
    fn changed_sources(&self, files: &Fingerprint, found: &Found) -> String {
        let file = (*files != self.applied.0).then(|| {
            let path = self.sources.file.as_ref();
            path.map(|path| path.display().to_string())
        });
        let key =
            (*found != self.applied.1).then(|| self.key.as_ref().map(|key| key.key().source()));
        let changed: Vec<String> = [file, key].into_iter().flatten().flatten().collect();
        if changed.is_empty() {
            return self.status.load().snapshot.source.to_string();
        }
        changed.join(", ")
    }

    /// Lets the key's history know what became of its version, if it has another one than what is in force.
    fn tell_key(&self, status: &Status, found: &Found) {
        let Some(key) = self.key.as_ref().filter(|_| *found != self.applied.1) else {
            return;
        };
        match (&status.rejected, found) {
            (None, found) => key.applied(found),
            (Some(rejected), Found::Version(version)) => {
                key.rejected(version, lines(&rejected.problems))
            }
            (Some(_), _) => {}
        }
    }
}

fn lines(problems: &Problems) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// What a start tries, the best first: what Consul says, what it last said that was good, the file alone.
fn candidates(first: &First, file: bool) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    if first.found != Found::Nothing {
        all.push(first.found.clone());
    }
    all.extend(first.kept.clone().filter(|kept| !all.contains(kept)));
    if file && !all.iter().any(|found| found.version().is_none()) {
        all.push(Found::Nothing);
    }
    // Without a file, a key that is absent is nothing to start with.
    all.retain(|found| file || found.version().is_some());
    if all.is_empty() {
        all.push(Found::Nothing);
    }
    all
}

async fn changed(key: &mut Option<Following>) {
    match key {
        Some(key) => key.changed().await,
        None => std::future::pending().await,
    }
}

/// Whether the files differ from what has been read, once they have come to rest.
async fn rested(mut watch: Watch, read: Fingerprint) -> (Watch, bool) {
    let mut before = read.clone();
    for _ in 0..MAX_LOOKS {
        let paths = read.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let now = watch.look(&paths);
            (watch, now)
        });
        let Ok((looked, now)) = looked.await else {
            return (Watch::default(), false);
        };
        watch = looked;
        if now == before {
            return (watch, now != read);
        }
        before = now;
        sleep(SETTLE).await;
    }
    (watch, true)
}
