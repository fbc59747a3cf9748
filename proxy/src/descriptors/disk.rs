//! The last good descriptors of each source on disk: `DATA/descriptors/reflection/CLUSTER.binpb` and `.../kv/KEY.binpb` (the key
//! percent-encoded), plain `FileDescriptorSet`s that other tools read too. Written whole beside their place and renamed into it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_config::{KvKey, Origin, Sets};

const DIRECTORY: &str = "descriptors";
const ENDING: &str = ".binpb";
/// Longer ones are none of ours.
const MAX_FILE: u64 = 64 << 20;

/// Where the descriptors of one source are kept.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
}

impl Disk {
    pub(super) fn new(data: &Path, origin: &Origin) -> Self {
        let (kind, name) = match origin {
            Origin::Reflection(cluster) => ("reflection", cluster.as_str().to_owned()),
            Origin::Kv(key) => ("kv", encoded(key.as_str())),
        };
        let path = data.join(DIRECTORY).join(kind).join(name + ENDING);
        Self { path }
    }

    fn read(&self) -> io::Result<Arc<[u8]>> {
        if fs::metadata(&self.path)?.len() > MAX_FILE {
            let why = "the file is too long";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Arc::from(fs::read(&self.path)?))
    }

    /// Keeps a set in the place of the one before.
    pub(super) fn save(&self, set: &[u8]) {
        if let Err(why) = self.write(set) {
            let path = self.path.display();
            tracing::warn!(%path, %why, "descriptors cannot be kept on disk: a start without their source would not know them");
        }
    }

    fn write(&self, set: &[u8]) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let beside = self.path.with_extension("new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(set)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }
}

/// What is kept, of every source.
pub(crate) fn kept(data: &Path) -> Sets {
    let mut sets = Sets::new();
    for origin in origins(data) {
        match Disk::new(data, &origin).read() {
            Ok(set) => {
                sets.insert(origin, set);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(why) => {
                tracing::warn!(source = %origin, %why, "the descriptors that were kept on disk cannot be used");
            }
        }
    }
    sets
}

/// A key as one name of a file, which other keys do not have.
fn encoded(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

/// Every source that something is kept of.
fn origins(data: &Path) -> Vec<Origin> {
    let names = |kind: &str| {
        let files = fs::read_dir(data.join(DIRECTORY).join(kind))
            .into_iter()
            .flatten();
        let name = |file: io::Result<fs::DirEntry>| {
            let name = file.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(ENDING)?.to_owned())
        };
        files.filter_map(name).collect::<Vec<_>>()
    };
    let reflection = names("reflection")
        .into_iter()
        .filter_map(|name| Origin::reflection(&name));
    let keys = names("kv").into_iter().filter_map(|name| {
        let key: KvKey = decoded(&name)?.parse().ok()?;
        Some(Origin::Kv(key))
    });
    reflection.chain(keys).collect()
}

fn decoded(name: &str) -> Option<String> {
    let mut parts = name.split('%');
    let mut key = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        key.push(u8::from_str_radix(hex, 16).ok()?);
        key.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(key).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_kept_is_there_again_for_its_source() {
        let data = tempfile::tempdir().unwrap();
        assert!(origins(data.path()).is_empty());
        let all = [
            Origin::reflection("orders").unwrap(),
            Origin::Kv("descriptors/a b%/é".parse().unwrap()),
        ];
        for (origin, set) in all.iter().zip([b"one", b"two"]) {
            Disk::new(data.path(), origin).save(set);
        }
        assert_eq!(origins(data.path()), all);
        let sets = kept(data.path());
        assert_eq!(
            (&*sets[&all[0]], &*sets[&all[1]]),
            (&b"one"[..], &b"two"[..])
        );
    }
}
