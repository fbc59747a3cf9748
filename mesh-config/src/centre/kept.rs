//! The last good version of a key on disk: `DATA/configuration.json`, written whole beside its place and renamed into it.
//! It may hold secrets, so only its owner may read it. What cannot be read, or belongs to another key, is not used, and the log says so.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Found, Version};
use crate::sources::KvKey;

const FILE: &str = "configuration.json";
/// A value of 512 KiB, however it is escaped.
const MAX_FILE: u64 = 8 << 20;

#[derive(Debug, Clone)]
pub(super) struct Kept {
    path: PathBuf,
    key: KvKey,
    /// That there is no such key is kept too.
    absence: bool,
}

impl Kept {
    pub(super) fn new(data: &Path, key: &KvKey) -> Self {
        Self {
            path: data.join(FILE),
            key: key.clone(),
            absence: false,
        }
    }

    /// Keeps that there is no such key even if there never was one.
    pub(super) fn keep_absence(&mut self) {
        self.absence = true;
    }

    /// What was kept; `None`: nothing that can be used.
    pub(super) fn load(&self) -> Option<Found> {
        match self.read() {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(why) => {
                let path = self.path.display();
                tracing::warn!(%path, %why, "the configuration that was kept on disk cannot be used");
                None
            }
        }
    }

    fn read(&self) -> io::Result<Found> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        if fs::metadata(&self.path)?.len() > MAX_FILE {
            return Err(wrong("the file is too long"));
        }
        let kept: Value = serde_json::from_slice(&fs::read(&self.path)?)?;
        if kept["key"] != self.key.as_str() {
            return Err(wrong("it belongs to another key"));
        }
        match (kept["modify_index"].as_u64(), &kept["value"]) {
            (Some(index), Value::String(text)) => {
                let version = Version::new(&self.key, text.as_bytes(), index);
                Ok(Found::Version(Arc::new(version)))
            }
            (None, Value::Null) => Ok(Found::Absent),
            _ => Err(wrong("neither a version nor the word that there is none")),
        }
    }

    /// Keeps what is in force in the place of what was. That there never was anything needs no file, unless somebody asked for it.
    pub(super) fn save(&self, found: &Found) {
        if found.version().is_none() && !self.absence && !self.path.exists() {
            return;
        }
        if let Err(why) = self.write(found) {
            let path = self.path.display();
            tracing::warn!(%path, %why, "the configuration cannot be kept on disk: a start without Consul would not know it");
        }
    }

    fn write(&self, found: &Found) -> io::Result<()> {
        let version = found.version();
        let text = version.and_then(|version| version.text().ok());
        let kept = json!({
            "key": self.key.as_str(),
            "modify_index": version.map(|version| version.index()),
            "value": text,
        });
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let beside = self.path.with_extension("json.new");
        // The mode counts when a file is made.
        let _ = fs::remove_file(&beside);
        let mut options = fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(kept.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_kept_is_there_again_for_the_same_key_and_for_its_owner_only() {
        let data = tempfile::tempdir().unwrap();
        let key = KvKey::of("prod", "gateway").unwrap();
        let kept = Kept::new(data.path(), &key);
        assert_eq!(kept.load(), None);
        let version = Found::Version(Arc::new(Version::new(&key, b"a: \"1\"\n", 7)));
        kept.save(&version);
        assert_eq!(kept.load(), Some(version));
        let path = data.path().join(FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        kept.save(&Found::Absent);
        assert_eq!(kept.load(), Some(Found::Absent));
        fs::remove_file(&path).unwrap();
        kept.save(&Found::Absent);
        assert_eq!(kept.load(), None);
        let mut careful = kept.clone();
        careful.keep_absence();
        careful.save(&Found::Absent);
        assert_eq!(kept.load(), Some(Found::Absent));
        let other = Kept::new(data.path(), &KvKey::of("test", "gateway").unwrap());
        assert_eq!(other.load(), None);
        for broken in [
            "",
            "{",
            "[]",
            "\u{0}",
            "{\"key\":\"high-go-press/config/prod/gateway\",\"value\":1}",
        ] {
            fs::write(&path, broken).unwrap();
            assert_eq!(kept.load(), None, "{broken}");
        }
    }
}
