//! Where a configuration comes from: a file, a key of Consul's KV store whose top-level keys replace the file's, and what
//! flags and environment say of Consul.
//!
//! Which key is read, and of which Consul, is said by flags, environment and file only: a value cannot say where it is to be
//! read. What it says of `consul` counts for the clusters that ask Consul.

use std::path::PathBuf;

use consul::{Address, TlsFiles};

use crate::learnt::Learnt;
use crate::model::{Consul, ConsulToken};

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// What beats file and key.
    pub given: Given,
    /// Descriptors that were learnt so far.
    pub learnt: Learnt,
}

/// What flags and environment say of Consul.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Where it is.
    pub consul: Option<Address>,
    /// What it is asked with.
    pub token: Option<ConsulToken>,
    /// What it is asked with where nobody says anything else.
    pub fallback_token: Option<ConsulToken>,
    /// What TLS to it is made of, where a configuration says nothing of Consul.
    pub tls: TlsFiles,
    /// The key that holds the configuration.
    pub key: Option<KvKey>,
}

/// A key of Consul's KV store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvKey(String);

/// A key that holds a configuration, and the Consul that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which Consul.
    pub consul: Consul,
    /// Which key.
    pub key: KvKey,
}

/// Longer keys are none that anybody wrote.
const MAX_KEY: usize = 512;
const ROOT: &str = "high-go-press";

impl KvKey {
    /// The key of a service's settings in an environment: `high-go-press/config/prod/gateway`.
    ///
    /// # Errors
    /// If either is not a name.
    pub fn of(environment: &str, service: &str) -> Result<Self, String> {
        let name = |text: &str| {
            let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            !text.is_empty() && text.len() <= 128 && text.bytes().all(letter)
        };
        for text in [environment, service] {
            if !name(text) {
                return Err(format!(
                    "`{text}` is not the name of an environment or service: write letters, digits, `-`, `_` and `.`"
                ));
            }
        }
        Ok(Self(format!("{ROOT}/config/{environment}/{service}")))
    }

    /// The whole key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As problems call it.
    #[must_use]
    pub fn source(&self) -> String {
        format!("kv:{}", self.0)
    }

    /// What the keys of its history begin with: `.../config-history/ENV/SERVICE/` for `.../config/ENV/SERVICE`, else the key
    /// with `-history/` after it.
    #[must_use]
    pub fn history(&self) -> String {
        match self.beside("config-history") {
            Some(key) => format!("{key}/"),
            None => format!("{}-history/", self.0),
        }
    }

    /// Where switches by hand are kept: `.../switches/ENV/SERVICE` for `.../config/ENV/SERVICE`, else the key with
    /// `-switches` after it.
    #[must_use]
    pub fn switches(&self) -> Self {
        let beside = self.beside("switches");
        Self(beside.unwrap_or_else(|| format!("{}-switches", self.0)))
    }

    fn beside(&self, instead_of_config: &str) -> Option<String> {
        let mut parts: Vec<&str> = self.0.split('/').collect();
        let at = parts.len().checked_sub(3)?;
        (parts[at] == "config").then(|| {
            parts[at] = instead_of_config;
            parts.join("/")
        })
    }
}

impl std::fmt::Display for KvKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for KvKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.len() <= MAX_KEY
            && text
                .split('/')
                .all(|part| !part.is_empty() && !part.contains(char::is_control));
        fits.then(|| Self(text.to_owned())).ok_or(
            "not a key: write it without a slash at either end, such as high-go-press/config/prod/gateway",
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn history_and_switches_stand_beside_the_configuration() {
        let key = KvKey::of("prod", "gateway").unwrap();
        assert_eq!(key.as_str(), "high-go-press/config/prod/gateway");
        assert_eq!(key.history(), "high-go-press/config-history/prod/gateway/");
        assert_eq!(
            key.switches().as_str(),
            "high-go-press/switches/prod/gateway"
        );
        let other: KvKey = "mesh/edge".parse().unwrap();
        assert_eq!(other.history(), "mesh/edge-history/");
        assert_eq!(other.switches().as_str(), "mesh/edge-switches");
        for wrong in ["", "/a", "a/", "a//b", "a\nb", &"x".repeat(600)] {
            assert!(wrong.parse::<KvKey>().is_err(), "{wrong}");
        }
        assert!(KvKey::of("prod/x", "gateway").is_err());
    }
}
