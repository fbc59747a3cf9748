//! What is in force, what was before, and what was refused: the answer of `/config`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use consul::StatusHandle;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::summary;
use crate::centre::{Following, Found, Version};
use crate::live::Live;
use crate::model::Snapshot;
use crate::problem::Problems;
use crate::sources::KvKey;

/// How many applied versions are remembered.
const HISTORY: usize = 32;

/// The state of the configuration.
#[derive(Debug, Clone)]
pub struct Status {
    /// The version in force.
    pub snapshot: Arc<Snapshot>,
    /// Since when it is.
    pub applied_at: SystemTime,
    /// The latest version, if it was refused.
    pub rejected: Option<Rejected>,
    /// Versions that were applied, the newest (which is in force) first.
    pub history: Vec<Applied>,
    /// Boot settings in which the version in force differs from what the process runs with.
    pub restart_needed: Vec<&'static str>,
    /// How reloads ended since the start.
    pub reloads: Reloads,
    /// The ModifyIndex of the key's value that is in force, if it has one.
    pub kv_index: Option<u64>,
    /// The key that is followed.
    pub key: Option<KeyStatus>,
}

/// A key that is followed, and what is known of it at any time.
#[derive(Debug, Clone)]
pub struct KeyStatus {
    key: KvKey,
    found: watch::Receiver<Found>,
    consul: StatusHandle,
}

/// A version that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// See [`Snapshot::version`].
    pub version: String,
    /// Where it came from.
    pub source: Arc<str>,
    /// When it came into force.
    pub applied_at: SystemTime,
    /// What it changed.
    pub summary: String,
}

/// A version that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it came from.
    pub source: Arc<str>,
    /// When it was refused.
    pub at: SystemTime,
    /// Why.
    pub problems: Problems,
}

/// How reloads ended since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reloads {
    /// A new version came into force.
    pub applied: u64,
    /// A version was refused.
    pub rejected: u64,
    /// What was read is what is in force.
    pub unchanged: u64,
}

impl Reloads {
    /// Each ending as a word, with its count.
    #[must_use]
    pub fn by_result(&self) -> [(&'static str, u64); 3] {
        [
            ("applied", self.applied),
            ("rejected", self.rejected),
            ("unchanged", self.unchanged),
        ]
    }
}

impl Status {
    /// The state of a configuration that has no file: it stays as it is.
    #[must_use]
    pub fn fixed(snapshot: &Arc<Snapshot>) -> Live<Self> {
        let (_, live) = Live::new(Arc::new(Self::first(snapshot, None, SystemTime::now())));
        live
    }

    pub(super) fn first(
        snapshot: &Arc<Snapshot>,
        version: Option<&Arc<Version>>,
        now: SystemTime,
    ) -> Self {
        Self {
            snapshot: Arc::clone(snapshot),
            applied_at: now,
            rejected: None,
            history: vec![Applied::new(snapshot, now, summary::of(snapshot))],
            restart_needed: Vec::new(),
            reloads: Reloads::default(),
            kv_index: version.map(|version| version.index()),
            key: None,
        }
    }

    pub(super) fn applied(
        &self,
        snapshot: &Arc<Snapshot>,
        restart_needed: Vec<&'static str>,
        now: SystemTime,
    ) -> Self {
        let summary = summary::difference(&self.snapshot, snapshot);
        let newest = Applied::new(snapshot, now, summary);
        let older = self.history.iter().take(HISTORY - 1).cloned();
        Self {
            snapshot: Arc::clone(snapshot),
            applied_at: now,
            rejected: None,
            history: std::iter::once(newest).chain(older).collect(),
            restart_needed,
            reloads: Reloads {
                applied: self.reloads.applied + 1,
                ..self.reloads
            },
            ..self.clone()
        }
    }

    /// `source` is what has changed since the version in force.
    pub(super) fn rejected(&self, source: &str, problems: &Problems, now: SystemTime) -> Self {
        Self {
            rejected: Some(Rejected {
                source: Arc::from(source),
                at: now,
                problems: problems.clone(),
            }),
            reloads: Reloads {
                rejected: self.reloads.rejected + 1,
                ..self.reloads
            },
            ..self.clone()
        }
    }

    /// `snapshot` says the same, though perhaps of another write of the key.
    pub(super) fn unchanged(&self, snapshot: &Arc<Snapshot>) -> Self {
        Self {
            snapshot: Arc::clone(snapshot),
            rejected: None,
            reloads: Reloads {
                unchanged: self.reloads.unchanged + 1,
                ..self.reloads
            },
            ..self.clone()
        }
    }

    /// Tells operators how the reload that led here ended.
    pub(super) fn log(&self) {
        let version = self.snapshot.version.as_str();
        if let Some(rejected) = &self.rejected {
            tracing::warn!(source = %rejected.source, live = version, "configuration refused, the last good one stays");
            for problem in rejected.problems.iter() {
                tracing::warn!("{problem}");
            }
            return;
        }
        let summary = self
            .history
            .first()
            .map_or("", |applied| applied.summary.as_str());
        tracing::info!(version, summary, "configuration in force");
        for warning in self.snapshot.warnings() {
            tracing::warn!("{warning}");
        }
        if !self.restart_needed.is_empty() {
            let keys = self.restart_needed.join(", ");
            tracing::warn!(
                version,
                keys,
                "these settings need a restart: they take effect at the next start"
            );
        }
    }

    /// The answer of `/config`.
    #[must_use]
    pub fn json(&self) -> Value {
        let rejected = self.rejected.as_ref().map(|rejected| {
            let problems: Vec<String> = rejected.problems.iter().map(ToString::to_string).collect();
            json!({ "source": *rejected.source, "at": rfc3339(rejected.at), "problems": problems })
        });
        let history: Vec<Value> = self.history.iter().map(Applied::json).collect();
        json!({
            "version": self.snapshot.version,
            "source": *self.snapshot.source,
            "applied_at": rfc3339(self.applied_at),
            "rejected": rejected,
            "restart_needed": self.restart_needed,
            "warnings": self.snapshot.warnings().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "kv": self.key.as_ref().map(|key| key.json(self.kv_index)),
            "history": history,
        })
    }
}

impl KeyStatus {
    pub(super) fn of(following: &Following) -> Self {
        Self {
            key: following.key().clone(),
            found: following.subscribe(),
            consul: following.status(),
        }
    }

    fn json(&self, applied: Option<u64>) -> Value {
        let seen = self.found.borrow().version().map(|version| version.index());
        let consul = self.consul.get();
        json!({
            "key": self.key.as_str(), "modify_index": applied, "latest_modify_index": seen,
            "consul": consul.state.to_string(), "since": rfc3339(consul.since),
        })
    }
}

impl Applied {
    fn new(snapshot: &Snapshot, applied_at: SystemTime, summary: String) -> Self {
        let (version, source) = (snapshot.version.clone(), Arc::clone(&snapshot.source));
        Self {
            version,
            source,
            applied_at,
            summary,
        }
    }

    fn json(&self) -> Value {
        json!({
            "version": self.version,
            "source": *self.source,
            "applied_at": rfc3339(self.applied_at),
            "summary": self.summary,
        })
    }
}

/// `2026-03-01T12:00:00Z`: <https://www.rfc-editor.org/rfc/rfc3339>.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last day of one; 719,468 days lie between
    // 0000-03-01 and 1970-01-01, and 146,097 days are 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_those_of_the_calendar() {
        // As `date -u -d @SECONDS +%FT%TZ` has them.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
