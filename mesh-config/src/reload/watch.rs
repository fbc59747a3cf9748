//! What files hold, told by a hash of it. A file that looks as it did is not read again, unless it was touched so
//! lately that a second change could look the same.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

/// Clocks of file systems are coarse: a file that changed within this time may change again unseen.
const COARSE: Duration = Duration::from_secs(2);

/// A hash of a file's content; `None`: it could not be read.
pub(crate) type Content = Option<[u8; 32]>;

/// Files with their content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint(BTreeMap<PathBuf, Content>);

impl Fingerprint {
    pub(crate) fn add(&mut self, path: PathBuf, content: Content) {
        self.0.insert(path, content);
    }

    /// The hashes, in the order of the paths.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &Content> {
        self.0.values()
    }
}

/// A longer file is as good as one that cannot be read.
const MAX_FILE: u64 = 128 << 20;

/// What a regular file holds now.
pub(crate) fn content(path: &Path) -> Content {
    let metadata = fs::metadata(path).ok()?;
    let readable = metadata.is_file() && metadata.len() <= MAX_FILE;
    readable
        .then(|| fs::read(path).ok())
        .flatten()
        .map(|bytes| hash(&bytes))
}

pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Looks at files again and again.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: HashMap<PathBuf, (Look, Content)>,
}

/// How a file looks from the outside.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    modified: Option<SystemTime>,
    length: u64,
    identity: (u64, u64),
}

impl Watch {
    /// What the same files hold now.
    pub(super) fn look(&mut self, files: &Fingerprint) -> Fingerprint {
        self.seen.retain(|path, _| files.0.contains_key(path));
        Fingerprint(
            files
                .0
                .keys()
                .map(|path| (path.clone(), self.content(path)))
                .collect(),
        )
    }

    fn content(&mut self, path: &Path) -> Content {
        let look = Look::at(path)?;
        if let Some((seen, content)) = self.seen.get(path)
            && *seen == look
        {
            return *content;
        }
        let content = content(path);
        // Looked at before it was read: what changes in between looks different the next time.
        if look.is_old(SystemTime::now()) {
            self.seen.insert(path.to_owned(), (look, content));
        }
        content
    }
}

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let metadata: Metadata = fs::metadata(path).ok()?;
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            identity,
        })
    }

    fn is_old(&self, now: SystemTime) -> bool {
        let age = self
            .modified
            .and_then(|modified| now.duration_since(modified).ok());
        age.is_some_and(|age| age > COARSE)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_change_of_the_same_length_at_the_same_time_is_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let mut files = Fingerprint::default();
        files.add(path.clone(), None);
        let mut watch = Watch::default();
        assert_eq!(watch.look(&files), files, "a file that is not there");

        let now = SystemTime::now();
        let mut write = |text: &str| {
            fs::write(&path, text).expect("written");
            let file = fs::File::options().write(true).open(&path).expect("opened");
            file.set_modified(now).expect("dated");
            watch.look(&files)
        };
        let (one, two) = (write("one"), write("two"));
        assert_ne!(one, files);
        assert_ne!(one, two);
        assert_eq!(two, write("two"));
    }

    #[test]
    fn an_old_file_is_read_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, "content").expect("written");
        let file = fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(SystemTime::now() - Duration::from_secs(60))
            .expect("dated");
        let mut files = Fingerprint::default();
        files.add(path.clone(), None);
        let mut watch = Watch::default();
        let first = watch.look(&files);
        assert_eq!(first.contents().next(), Some(&Some(hash(b"content"))));
        assert!(watch.seen.contains_key(&path));
        assert_eq!(watch.look(&files), first);
    }
}
