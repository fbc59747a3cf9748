//! The last good endpoints of a cluster on disk, so that a gateway can start while Consul is away.
//!
//! One small JSON file per cluster, written whole beside its place and renamed into it. A file that is missing is no news; one
//! that cannot be read, or that belongs to another query, is not used, and the log says so.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_config::model::{Address, Labels};
use serde_json::{Value, json};

use super::holding::Known;

/// A list longer than this is none of ours.
const MAX_FILE: u64 = 16 << 20;

/// Endpoints by address, as they are kept.
pub(crate) type Kept = Vec<(Address, Known)>;

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
    pub(crate) fn load(&self) -> Option<Kept> {
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

    fn read(&self) -> io::Result<Kept> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let value = read(&self.path)?;
        if value["query"] != self.query.as_str() {
            return Err(wrong("they belong to another query"));
        }
        let endpoints = value["endpoints"].as_array();
        let endpoints = endpoints.and_then(|all| all.iter().map(endpoint).collect());
        endpoints.ok_or_else(|| wrong("not a list of endpoints"))
    }

    /// Keeps a list in the place of the one before.
    pub(crate) fn save(&self, endpoints: &Kept) {
        if let Err(why) = self.write(endpoints) {
            let path = self.path.display();
            tracing::warn!(%path, %why, "the endpoints cannot be kept on disk: a start without their source would not know them");
        }
    }

    fn write(&self, endpoints: &Kept) -> io::Result<()> {
        let list: Vec<Value> = endpoints
            .iter()
            .map(|(address, known)| json_of(address, known))
            .collect();
        let value = json!({ "query": self.query, "endpoints": list });
        write(&self.path, &value)
    }
}

/// What is in a file that is not too long.
pub(crate) fn read(path: &Path) -> io::Result<Value> {
    if fs::metadata(path)?.len() > MAX_FILE {
        let why = "the file is too long";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes a file whole beside its place and renames it into it.
pub(crate) fn write(path: &Path, value: &Value) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let beside = path.with_extension("json.new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(value.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn json_of(address: &Address, known: &Known) -> Value {
    let labels = &known.labels;
    let metadata = labels.metadata.iter();
    let metadata: serde_json::Map<String, Value> = metadata
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect();
    json!({
        "address": address.to_string(), "weight": known.weight, "node": labels.node.as_deref(),
        "zone": labels.zone.as_deref(), "datacenter": labels.datacenter.as_deref(),
        "tags": labels.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), "metadata": metadata,
        "priority": labels.priority,
    })
}

/// Only address and weight have to be there.
fn endpoint(value: &Value) -> Option<(Address, Known)> {
    let address = Address::parse(value["address"].as_str()?).ok()?;
    let weight = u32::try_from(value["weight"].as_u64()?).ok()?.max(1);
    let text = |key: &str| value[key].as_str().map(Box::from);
    let tags = value["tags"].as_array().into_iter().flatten();
    let metadata = value["metadata"].as_object().into_iter().flatten();
    let metadata = metadata.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let labels = Arc::new(Labels {
        node: text("node"),
        zone: text("zone"),
        datacenter: text("datacenter"),
        tags: tags.filter_map(Value::as_str).map(Box::from).collect(),
        priority: value["priority"]
            .as_u64()
            .and_then(|priority| u32::try_from(priority).ok())
            .unwrap_or_default(),
        metadata: metadata.collect(),
    });
    Some((address, Known { weight, labels }))
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
        let labels = Labels {
            node: Some("n1".into()),
            zone: Some("b".into()),
            datacenter: Some("dc2".into()),
            tags: Box::new(["x".into()]),
            priority: 1,
            metadata: [("version", "v1")].into_iter().collect(),
        };
        let known = |weight, labels: Labels| Known {
            weight,
            labels: Arc::new(labels),
        };
        let mut list = vec![
            (Address::parse("10.0.0.1:7").unwrap(), known(3, labels)),
            (
                Address::parse("[::1]:8").unwrap(),
                known(1, Labels::default()),
            ),
        ];
        disk.save(&list);
        assert_eq!(disk.load(), Some(list.clone()));
        list.truncate(1);
        disk.save(&list);
        assert_eq!(disk.load().unwrap().len(), 1);
        let other = Disk::new(data.path(), "counter", "service other".to_owned());
        assert_eq!(other.load(), None);
        for broken in ["", "{", "[]", "{\"query\":\"service counter\"}", "\u{0}"] {
            fs::write(data.path().join("discovery/counter.json"), broken).unwrap();
            assert_eq!(disk.load(), None, "{broken}");
        }
    }
}
