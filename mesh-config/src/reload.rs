//! Keeps a configuration file in force: reads it when it or a descriptor file of it changes, and when asked to
//! (SIGHUP); applies a version as a whole or not at all; keeps the last good one.
//!
//! A version is applied in two stages: it is read and checked here, then the caller's `compile` builds from it
//! what requests are served with, and may refuse it. Boot settings do not change: what wants a restart says so.
//!
//! Files are polled by content, not watched by inode: that survives editors that rename a new file over the old
//! one, symbolic links that are swung to another directory, and file systems without notifications.

mod status;
mod summary;
mod watch;

pub use status::{Applied, Rejected, Reloads, Status, rfc3339};

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::live::{Live, Publisher};
use crate::load::Reading;
use crate::model::Snapshot;
use crate::problem::Problems;
use watch::Watch;
pub(crate) use watch::{Fingerprint, content, hash};

/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(500);
/// A file that has changed is read when it has been the same for so long: it may still be being written.
const SETTLE: Duration = Duration::from_millis(50);
/// A file that does not come to rest is read all the same after so many looks.
const MAX_LOOKS: usize = 20;

/// Keeps a configuration file in force.
#[derive(Debug)]
pub struct Reloader<C> {
    path: PathBuf,
    compile: C,
    /// What boot settings are compared with.
    started_with: Arc<Snapshot>,
    /// What the files held when they were last read.
    read: Fingerprint,
    status: Publisher<Status>,
    trigger: Arc<Notify>,
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
    /// Reads the file for the first time, and compiles it.
    ///
    /// # Errors
    /// Every mistake that is in it, or what `compile` refuses it for. There is no last good version yet.
    pub fn start(path: PathBuf, mut compile: C) -> Result<(Self, Live<Status>), Problems> {
        let reading = Reading::of_file(&path);
        let snapshot = Arc::new(reading.snapshot?);
        compile(&snapshot)?;
        let (status, live) = Live::new(Arc::new(Status::first(&snapshot, SystemTime::now())));
        let reloader = Self {
            path,
            compile,
            started_with: snapshot,
            read: reading.fingerprint,
            status,
            trigger: Arc::new(Notify::new()),
        };
        Ok((reloader, live))
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
                () = trigger.notified() => {}
            }
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || Reading::of_file(&path)).await;
        // The read cannot panic, and the runtime is not asked to wait for it when it ends.
        let Ok(reading) = reading else { return };
        self.read = reading.fingerprint;
        let now = SystemTime::now();
        let live = self.status.load();
        let status = match reading.snapshot.map(Arc::new) {
            Ok(snapshot) if snapshot.version == live.snapshot.version => live.unchanged(),
            Ok(snapshot) => match (self.compile)(&snapshot) {
                Ok(()) => live.applied(&snapshot, &self.started_with, now),
                Err(problems) => live.rejected(&problems, now),
            },
            Err(problems) => live.rejected(&problems, now),
        };
        status.log();
        self.status.publish(Arc::new(status));
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
