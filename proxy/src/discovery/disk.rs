//! The last good endpoints of a cluster on disk, so that a gateway can start while Consul is away.
//!
//! One small JSON file per cluster, written whole beside its place and renamed into it. A file that is missing is no news; one
//! that cannot be read, or that belongs to another query, is not used, and the log says so.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mesh_config::model::Address;
use serde_json::{Value, json};

/// A list longer than this is none of ours.
const MAX_FILE: u64 = 16 << 20;

/// Where the endpoints of one cluster are kept.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    path: PathBuf,
    /// What was asked: the answer to another question is no use.
    query: String,
}

impl Disk {
    pub(crate) fn new(data: &Path, cluster: &str, query: String) -> Self {
        let path = data.join("discovery").join(format!("{cluster}.json"));
        Self { path, query }
    }

    /// What was kept; `None`: nothing that can be used.
    pub(crate) fn load(&self) -> Option<Vec<(Address, u32)>> {
        match self.read() {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(why) => {
                let path = self.path.display();
                tracing::warn!(%path, %why, "the endpoints that were kept on disk cannot be used");
                None
            }
        }
    }

    fn read(&self) -> io::Result<Vec<(Address, u32)>> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        if fs::metadata(&self.path)?.len() > MAX_FILE {
            return Err(wrong("the file is too long"));
        }
        let value: Value = serde_json::from_slice(&fs::read(&self.path)?)?;
        if value["query"] != self.query.as_str() {
            return Err(wrong("they belong to another query"));
        }
        let endpoints = value["endpoints"].as_array();
        let endpoints = endpoints.and_then(|all| all.iter().map(endpoint).collect());
        endpoints.ok_or_else(|| wrong("not a list of endpoints"))
    }

    /// Keeps a list in the place of the one before.
    pub(crate) fn save(&self, endpoints: &[(Address, u32)]) {
        if let Err(why) = self.write(endpoints) {
            let path = self.path.display();
            tracing::warn!(%path, %why, "the endpoints cannot be kept on disk: a start without Consul would not know them");
        }
    }

    fn write(&self, endpoints: &[(Address, u32)]) -> io::Result<()> {
        let list: Vec<Value> = endpoints
            .iter()
            .map(|(address, weight)| json!({ "address": address.to_string(), "weight": weight }))
            .collect();
        let value = json!({ "query": self.query, "endpoints": list });
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let beside = self.path.with_extension("json.new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(value.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }
}

fn endpoint(value: &Value) -> Option<(Address, u32)> {
    let address = Address::parse(value["address"].as_str()?).ok()?;
    let weight = u32::try_from(value["weight"].as_u64()?).ok()?;
    Some((address, weight.max(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_kept_is_there_again_for_the_same_question() {
        let data = tempfile::tempdir().unwrap();
        let disk = Disk::new(data.path(), "counter", "service counter".to_owned());
        assert_eq!(disk.load(), None);
        let list = vec![
            (Address::parse("10.0.0.1:7").unwrap(), 3),
            (Address::parse("[::1]:8").unwrap(), 1),
        ];
        disk.save(&list);
        assert_eq!(disk.load(), Some(list.clone()));
        disk.save(&list[..1]);
        assert_eq!(disk.load().unwrap().len(), 1);
        let other = Disk::new(data.path(), "counter", "service other".to_owned());
        assert_eq!(other.load(), None);
        for broken in ["", "{", "[]", "{\"query\":\"service counter\"}", "\u{0}"] {
            fs::write(data.path().join("discovery/counter.json"), broken).unwrap();
            assert_eq!(disk.load(), None, "{broken}");
        }
    }
}
