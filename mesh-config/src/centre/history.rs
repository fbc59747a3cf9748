//! What became of the versions of a key: one entry a version beside the key, `PREFIX/000000000123`, numbered by Consul's ModifyIndex.
//!
//! An entry is a JSON object: `version`, `time`, `author`, `note`, `deleted`, `rejected` (`by`, `at`, `problems`), `diff` to the
//! version before, and `value`. Everybody who sees a version may write its entry: it is made only if it is not there
//! (check-and-set), so there is one of each, and whoever knows more (an author, a refusal) adds it. The last [`KEEP`] are kept.

use std::collections::BTreeMap;
use std::time::SystemTime;

use consul::{Client, Error, Expect, MAX_VALUE};
use serde_json::{Value, json};

use super::unified;
use crate::reload::rfc3339;
use crate::sources::KvKey;

/// How many versions are kept.
const KEEP: usize = 50;
/// How often a write that somebody else was faster with is tried.
const TRIES: usize = 5;
/// The author of what nobody has said to have written.
const OBSERVED: &str = "observed";
/// What follows the key of an entry whose value does not fit into it.
const VALUE: &str = ".value";
const DELETED: &str = "-deleted";
/// What the first version is compared with.
const NOTHING: &str = "nothing";
/// A longer difference is left out.
const MAX_DIFF: usize = 128 << 10;

/// Why a history cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Consul gives no answer to go by.
    #[error(transparent)]
    Consul(#[from] Error),
    /// There is no such version.
    #[error("there is no version {0} in the history; `config history` lists what there is")]
    Unknown(u64),
    /// An entry is not one of ours.
    #[error("the entry {0} of the history cannot be read")]
    Broken(String),
    /// Others were faster, again and again.
    #[error("others change the entry {0} of the history all the time")]
    Contended(String),
}

/// A version that was, as the history tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its number: Consul's ModifyIndex.
    pub version: u64,
    /// When it was written, as far as its author knows, or first seen.
    pub time: String,
    /// `user@host`, or `observed` where nobody said so.
    pub author: String,
    /// What its author says of it.
    pub note: String,
    /// That the key was deleted after this version.
    pub deleted: bool,
    /// By whom it was refused, and why.
    pub rejected: Option<Refusal>,
    /// How it differs from the one before.
    pub diff: String,
    /// Its text; none where it stands beside the entry, or where the key was deleted.
    pub value: Option<String>,
}

/// That a version was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The host that refused it first.
    pub by: String,
    /// When.
    pub at: String,
    /// Why.
    pub problems: Vec<String>,
}

/// What there is to record.
#[derive(Debug, Clone)]
pub struct Outcome(Past);

/// The history of one key.
#[derive(Debug, Clone)]
pub struct History {
    client: Client,
    prefix: String,
}

impl HistoryError {
    /// Whether trying again is no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Consul(error) => error.is_forbidden(),
            Self::Unknown(_) | Self::Broken(_) | Self::Contended(_) => true,
        }
    }
}

impl Outcome {
    fn new(version: u64, value: Option<String>) -> Self {
        Self(Past {
            version,
            time: rfc3339(SystemTime::now()),
            author: OBSERVED.to_owned(),
            note: String::new(),
            deleted: false,
            rejected: None,
            diff: String::new(),
            value,
        })
    }

    /// It is in force.
    #[must_use]
    pub fn applied(version: u64, text: String) -> Self {
        Self::new(version, Some(text))
    }

    /// It was refused.
    #[must_use]
    pub fn rejected(version: u64, text: String, problems: Vec<String>) -> Self {
        let mut outcome = Self::new(version, Some(text));
        outcome.0.rejected = Some(Refusal {
            by: host(),
            at: outcome.0.time.clone(),
            problems,
        });
        outcome
    }

    /// The key was deleted after that version.
    #[must_use]
    pub fn deleted(version: u64) -> Self {
        let mut outcome = Self::new(version, None);
        outcome.0.deleted = true;
        outcome
    }

    /// It was written by the caller.
    #[must_use]
    pub fn written(version: u64, text: String, note: String) -> Self {
        let mut outcome = Self::new(version, Some(text));
        outcome.0.author = author();
        outcome.0.note = note;
        outcome
    }

    /// The version that it is about.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version
    }
}

impl History {
    /// The history of a key.
    #[must_use]
    pub fn new(client: Client, key: &KvKey) -> Self {
        let prefix = key.history();
        Self { client, prefix }
    }

    /// Writes an entry, or adds to it what is not known yet.
    ///
    /// # Errors
    /// If Consul does not take it.
    pub async fn record(&self, outcome: Outcome) -> Result<(), HistoryError> {
        let Outcome(mut past) = outcome;
        let key = self.key(&past);
        let mut keys = self.keys().await?;
        if !keys.contains(&key) {
            let (name, old) = match keys.iter().rev().find(|known| **known < key) {
                Some(before) => {
                    let before = self.read(before).await?;
                    (before.name(), before.value.unwrap_or_default())
                }
                // The first one is new as a whole.
                None => (NOTHING.to_owned(), String::new()),
            };
            let new = past.value.as_deref().unwrap_or_default();
            past.diff = unified(&old, new, &name, &past.name());
            if self.create(&key, &past).await? {
                keys.push(key);
                return self.prune(keys).await;
            }
        }
        self.add(&key, &past).await
    }

    /// All entries, the newest first, without their values.
    ///
    /// # Errors
    /// If Consul gives no answer that means something.
    pub async fn list(&self) -> Result<Vec<Past>, HistoryError> {
        let entries = self.client.list(&self.prefix).await?;
        let ours = entries.iter().filter(|entry| {
            number(&self.prefix, &entry.key).is_some() && !entry.key.ends_with(VALUE)
        });
        let mut all: Vec<Past> = ours.filter_map(|entry| Past::of(&entry.value)).collect();
        all.reverse();
        Ok(all)
    }

    /// A version with its value.
    ///
    /// # Errors
    /// If there is none, or Consul gives no answer that means something.
    pub async fn get(&self, version: u64) -> Result<Past, HistoryError> {
        let key = format!("{}{version:012}", self.prefix);
        match self.client.get(&key).await? {
            Some(_) => self.read(&key).await,
            None => Err(HistoryError::Unknown(version)),
        }
    }

    /// The keys of the entries, the oldest first.
    async fn keys(&self) -> Result<Vec<String>, HistoryError> {
        let mut keys = self.client.keys(&self.prefix).await?;
        keys.retain(|key| number(&self.prefix, key).is_some() && !key.ends_with(VALUE));
        keys.sort_unstable();
        Ok(keys)
    }

    async fn read(&self, key: &str) -> Result<Past, HistoryError> {
        let broken = || HistoryError::Broken(key.to_owned());
        let entry = self.client.get(key).await?.ok_or_else(broken)?;
        let mut past = Past::of(&entry.value).ok_or_else(broken)?;
        if past.value.is_none() && !past.deleted {
            let beside = self.client.get(&format!("{key}{VALUE}")).await?;
            past.value = beside.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        }
        Ok(past)
    }

    /// False: somebody else was faster.
    async fn create(&self, key: &str, past: &Past) -> Result<bool, HistoryError> {
        let mut entry = past.json().to_string();
        if entry.len() > MAX_VALUE
            && let Some(value) = &past.value
        {
            let beside = format!("{key}{VALUE}");
            self.client
                .put(&beside, value.clone(), Expect::Nothing)
                .await?;
            let without = Past {
                value: None,
                ..past.clone()
            };
            entry = without.json().to_string();
        }
        Ok(self.client.put(key, entry, Expect::Nothing).await?)
    }

    async fn add(&self, key: &str, more: &Past) -> Result<(), HistoryError> {
        for _ in 0..TRIES {
            let Some(entry) = self.client.get(key).await? else {
                // Forgotten already, as it is older than what is kept.
                return Ok(());
            };
            let known = Past::of(&entry.value);
            let mut known = known.ok_or_else(|| HistoryError::Broken(key.to_owned()))?;
            if !known.learn(more) {
                return Ok(());
            }
            let text = known.json().to_string();
            let expect = Expect::Modified(entry.modified);
            if self.client.put(key, text, expect).await? {
                return Ok(());
            }
        }
        Err(HistoryError::Contended(key.to_owned()))
    }

    /// Forgets the oldest entries.
    async fn prune(&self, mut keys: Vec<String>) -> Result<(), HistoryError> {
        keys.sort_unstable();
        let old = keys.len().saturating_sub(KEEP);
        for key in &keys[..old] {
            self.client.delete(key, Expect::Anything).await?;
            let beside = format!("{key}{VALUE}");
            self.client.delete(&beside, Expect::Anything).await?;
        }
        Ok(())
    }

    fn key(&self, past: &Past) -> String {
        let deleted = if past.deleted { DELETED } else { "" };
        format!("{}{:012}{deleted}", self.prefix, past.version)
    }
}

impl Past {
    /// Its name in a difference.
    #[must_use]
    pub fn name(&self) -> String {
        match self.deleted {
            true => format!("deleted after version {}", self.version),
            false => format!("version {}", self.version),
        }
    }

    /// In a word: what became of it.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match (self.deleted, &self.rejected) {
            (true, _) => "deleted",
            (false, Some(_)) => "rejected",
            (false, None) => "applied",
        }
    }

    /// As it is kept, and shown to scripts.
    #[must_use]
    pub fn json(&self) -> Value {
        let rejected = self.rejected.as_ref().map(
            |refusal| json!({ "by": refusal.by, "at": refusal.at, "problems": refusal.problems }),
        );
        let diff = match self.diff.len() {
            0..=MAX_DIFF => self.diff.as_str(),
            _ => "(too long to be kept)\n",
        };
        json!({
            "version": self.version, "time": self.time, "author": self.author, "note": self.note,
            "deleted": self.deleted, "rejected": rejected, "diff": diff, "value": self.value,
        })
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let entry: BTreeMap<String, Value> = serde_json::from_slice(bytes).ok()?;
        let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
        let refusal = entry.get("rejected").filter(|value| value.is_object());
        let refusal = refusal.map(|value| Refusal {
            by: value["by"].as_str().unwrap_or_default().to_owned(),
            at: value["at"].as_str().unwrap_or_default().to_owned(),
            problems: lines(&value["problems"]),
        });
        Some(Self {
            version: entry.get("version")?.as_u64()?,
            time: text("time")?,
            author: text("author")?,
            note: text("note").unwrap_or_default(),
            deleted: entry.get("deleted") == Some(&Value::Bool(true)),
            rejected: refusal,
            diff: text("diff").unwrap_or_default(),
            value: text("value"),
        })
    }

    /// Takes what another one knows and this one does not. False: that is nothing.
    fn learn(&mut self, other: &Self) -> bool {
        let mut news = false;
        if self.author == OBSERVED && other.author != OBSERVED {
            (self.author, self.note) = (other.author.clone(), other.note.clone());
            news = true;
        }
        if self.rejected.is_none() && other.rejected.is_some() {
            self.rejected = other.rejected.clone();
            news = true;
        }
        news
    }
}

fn lines(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|line| Some(line.as_str()?.to_owned()))
        .collect()
}

/// The version that an entry's key names.
fn number(prefix: &str, key: &str) -> Option<u64> {
    let rest = key.strip_prefix(prefix)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    matches!(&rest[digits..], "" | DELETED | VALUE)
        .then(|| rest[..digits].parse().ok())
        .flatten()
}

/// Who writes.
fn author() -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(|name| {
        let user = std::env::var(name).ok();
        user.filter(|user| !user.is_empty())
    });
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host())
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.map(|name| name.trim().to_owned());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_is_written_and_learns_what_it_did_not_know() {
        let Outcome(mut seen) = Outcome::applied(7, "a: 1\n".into());
        let Outcome(written) = Outcome::written(7, "a: 1\n".into(), "because".into());
        let Outcome(refused) = Outcome::rejected(7, "a: 1\n".into(), vec!["no".into()]);
        assert_eq!(seen.outcome(), "applied");
        assert!(seen.learn(&written) && seen.learn(&refused));
        assert!(!seen.learn(&written) && !seen.learn(&refused));
        assert_eq!(
            (seen.note.as_str(), seen.outcome()),
            ("because", "rejected")
        );
        assert!(seen.author.contains('@'), "{}", seen.author);
        let text = seen.json().to_string();
        assert_eq!(Past::of(text.as_bytes()), Some(seen));
        for wrong in ["", "[]", "{}", "{\"version\":\"7\"}"] {
            assert_eq!(Past::of(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn only_keys_of_entries_have_a_number() {
        let prefix = "h/";
        for (key, expected) in [
            ("h/000000000012", Some(12)),
            ("h/000000000012-deleted", Some(12)),
            ("h/000000000012.value", Some(12)),
            ("h/12x", None),
            ("h/", None),
            ("i/12", None),
        ] {
            assert_eq!(number(prefix, key), expected, "{key}");
        }
    }
}
