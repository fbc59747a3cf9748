//! The configuration centre: a key of Consul's KV store that holds a configuration or a service's settings.
//!
//! [`Centre`] reads the key, follows it by blocking queries, keeps the last good version on disk, so that a start does without
//! Consul, and writes what became of each version to a history beside the key. What a version means is its reader's
//! business. Refused: forgetting what was known because Consul is away or says nothing of sense.

mod diff;
mod history;
mod kept;
mod recorder;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use consul::{Client, KeyQuery, StatusHandle, Watch};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::sources::{KvKey, Place};

pub use self::diff::unified;
pub use self::history::{History, HistoryError, Outcome, Past, Refusal};
use self::kept::Kept;
use self::recorder::{Recorder, Told};

/// How long a start waits for Consul's answer before it goes by what is kept.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a key held at one time.
#[derive(Clone, PartialEq, Eq)]
pub struct Version {
    key: KvKey,
    value: Arc<[u8]>,
    index: u64,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: Consul has not answered yet.
    Nothing,
    /// That there is no such key.
    Absent,
    /// What it holds.
    Version(Arc<Version>),
}

/// What a start begins with.
#[derive(Debug, Clone)]
pub struct First {
    /// What Consul says, or nothing.
    pub found: Found,
    /// Why Consul said nothing.
    pub away: Option<consul::Error>,
    /// What was kept when it was last good.
    pub kept: Option<Found>,
}

/// A key and all that is done with it.
#[derive(Debug)]
pub struct Centre {
    client: Client,
    key: KvKey,
    kept: Option<Kept>,
    /// What is on the disk, as far as it was good to start with.
    saved: Option<Found>,
}

/// A key that is followed for as long as this lives.
#[derive(Debug)]
pub struct Following {
    client: Client,
    key: KvKey,
    found: watch::Receiver<Found>,
    status: StatusHandle,
    recorder: Recorder,
    _tasks: JoinSet<()>,
}

impl Version {
    /// What was found under a key.
    #[must_use]
    pub fn new(key: &KvKey, value: &[u8], index: u64) -> Self {
        Self {
            key: key.clone(),
            value: Arc::from(value),
            index,
        }
    }

    /// Consul's ModifyIndex, by which versions are numbered.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// As problems call it.
    #[must_use]
    pub fn source(&self) -> String {
        self.key.source()
    }

    /// Its text.
    ///
    /// # Errors
    /// The line in which it is no text.
    pub fn text(&self) -> Result<&str, u32> {
        std::str::from_utf8(&self.value).map_err(|error| {
            let good = &self.value[..error.valid_up_to()];
            let ends = good.iter().filter(|byte| **byte == b'\n').count();
            u32::try_from(ends + 1).unwrap_or(u32::MAX)
        })
    }
}

/// Without the value: it may hold secrets.
impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (ModifyIndex {})", self.key, self.index)
    }
}

impl Found {
    /// The version, if there is one.
    #[must_use]
    pub fn version(&self) -> Option<&Arc<Version>> {
        match self {
            Self::Version(version) => Some(version),
            Self::Nothing | Self::Absent => None,
        }
    }

    fn of(key: &KvKey, entry: Option<&consul::Entry>) -> Self {
        match entry {
            None => Self::Absent,
            Some(entry) => Self::Version(Arc::new(Version::new(key, &entry.value, entry.modified))),
        }
    }
}

impl Centre {
    /// A key, and the directory that its last good version is kept in. `None`: the token cannot be sent.
    #[must_use]
    pub fn new(place: &Place, data: Option<&Path>) -> Option<Self> {
        Some(Self {
            client: place.consul.client()?,
            key: place.key.clone(),
            kept: data.map(|data| Kept::new(data, &place.key)),
            saved: None,
        })
    }

    /// The same for a program that is not ready before it knows whether there is such a key: that there is none is kept, too.
    #[must_use]
    pub fn keeping_absence(mut self) -> Self {
        if let Some(kept) = &mut self.kept {
            kept.keep_absence();
        }
        self
    }

    /// What a start has to begin with: Consul's word, within a moment, and what was kept.
    pub async fn first(&self) -> First {
        let answer = timeout(PATIENCE, self.client.get(self.key.as_str()));
        let late = consul::Error::Timeout {
            what: "answer",
            after: PATIENCE,
        };
        let (found, away) = match answer.await.unwrap_or(Err(late)) {
            Ok(entry) => (Found::of(&self.key, entry.as_ref()), None),
            Err(why) => (Found::Nothing, Some(why)),
        };
        let kept = self.kept.as_ref().and_then(Kept::load);
        First { found, away, kept }
    }

    /// Keeps what a start is made with, unless it comes from the disk: a start without Consul knows it from now on.
    pub fn keep(&mut self, found: &Found, first: &First) {
        let known = first.kept.as_ref() == Some(found);
        if let Some(kept) = self
            .kept
            .as_ref()
            .filter(|_| !known && *found != Found::Nothing)
        {
            kept.save(found);
        }
        self.saved = Some(found.clone());
    }

    /// Follows the key from what a start has begun with.
    #[must_use]
    pub fn follow(self, first: First) -> Following {
        let from = match first.found {
            Found::Nothing => first.kept.unwrap_or(Found::Nothing),
            found => found,
        };
        let (sender, found) = watch::channel(from);
        let query = KeyQuery {
            key: self.key.as_str().to_owned(),
            datacenter: None,
        };
        let watch = Watch::new(self.client.clone(), query);
        let status = watch.status();
        let history = History::new(self.client.clone(), &self.key);
        let (recorder, recording) = recorder::start(history, self.kept, self.saved);
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(watch, self.key.clone(), sender));
        tasks.spawn(recording);
        Following {
            client: self.client,
            key: self.key,
            found,
            status,
            recorder,
            _tasks: tasks,
        }
    }
}

async fn follow(mut watch: Watch<KeyQuery>, key: KvKey, sender: watch::Sender<Found>) {
    loop {
        let seen = watch.next().await;
        let found = Found::of(&key, seen.value.as_ref());
        sender.send_if_modified(|known| {
            let news = *known != found;
            if news && found == Found::Absent && known.version().is_some() {
                tracing::warn!(%key, "the key was deleted from Consul: what it said no longer counts");
            }
            *known = found;
            news
        });
    }
}

impl Following {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &KvKey {
        &self.key
    }

    /// What it is asked with, for what is kept beside it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What is known of it now.
    #[must_use]
    pub fn now(&self) -> Found {
        self.found.borrow().clone()
    }

    /// The same for others.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Found> {
        self.found.clone()
    }

    /// Waits until it may be something else.
    pub async fn changed(&mut self) {
        // The sender ends with the task that this holds.
        if self.found.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How the watch is doing.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Says that something is in force now: it is kept, and written to the history.
    pub fn applied(&self, found: &Found) {
        self.recorder.tell(Told::Applied(found.clone()));
    }

    /// Says that a version was refused: the reasons are written to the history.
    pub fn rejected(&self, version: &Arc<Version>, problems: Vec<String>) {
        self.recorder
            .tell(Told::Rejected(version.clone(), problems));
    }
}
