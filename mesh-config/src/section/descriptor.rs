//! `descriptors`: what the transcoder knows. A file is read here, so that a version of the configuration is one
//! content; whether it is a `FileDescriptorSet` is found out by those who compile it. Others are asked at run time: of them
//! a version holds what is known.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::Environment;
use crate::learnt::{Origin, Sets};
use crate::model::{
    BreakingChanges, ClusterName, DescriptorFile, DescriptorSource, LearntDescriptors, Protocol,
    ServiceConfig, Timeout,
};
use crate::origins::Origins;
use crate::positions::Positions;
use crate::reader::{Fields, Value};
use crate::reload::{Fingerprint, hash};
use crate::report::Report;
use crate::schema::{Choices, DESCRIPTOR};
use crate::section::cluster;
use crate::suggest;
use crate::yaml::{self, Kind};

/// A descriptor set larger than this is some other file.
const MAX_FILE: u64 = 64 << 20;

/// More sources than this are a list that something has generated wrongly.
const MAX_SOURCES: usize = 256;

const BREAKING_CHANGES: Choices<BreakingChanges> = &[
    ("warn", Some(BreakingChanges::Warn)),
    ("refuse", Some(BreakingChanges::Refuse)),
    ("allow", Some(BreakingChanges::Allow)),
];

/// What becomes of descriptors that break their callers.
pub(crate) fn breaking_changes(value: &Value<'_>, report: &mut Report) -> Option<BreakingChanges> {
    value.choice(BREAKING_CHANGES, report)
}

/// A source before it is read.
#[derive(PartialEq, Eq, Hash)]
enum Named {
    Builtin,
    File(PathBuf),
    Learnt(Origin),
    ServiceConfig(PathBuf),
}

/// The sources that there may be more of, beside the words.
const KEYS: [&str; 4] = ["file", "reflection", "kv", "service_config"];

/// A busier interval would be a load on backends.
const LEAST_INTERVAL: Timeout = Timeout::from_millis::<100>();

/// The sources; the files among them go to `fingerprint`, readable or not.
pub(crate) fn descriptors(
    value: &Value<'_>,
    base: &Path,
    learnt: &Sets,
    fingerprint: &mut Fingerprint,
    report: &mut Report,
) -> Option<Vec<DescriptorSource>> {
    let items = value.items(report)?;
    if items.len() > MAX_SOURCES {
        return value.wrong(
            report,
            format!("this list has more than {MAX_SOURCES} items"),
        );
    }
    let mut seen = HashSet::new();
    let mut sources = Vec::new();
    for item in &items {
        let Some((named, interval)) = named(item, base, report) else {
            continue;
        };
        if seen.contains(&named) {
            item.problem(report, "this is listed already: remove it");
            continue;
        }
        match &named {
            Named::Builtin => sources.push(DescriptorSource::Builtin),
            Named::File(path) => {
                let content = content(item, "file", path, (fingerprint, report));
                sources.extend(content.map(|content| {
                    let path = path.clone();
                    DescriptorSource::File(DescriptorFile { path, content })
                }));
            }
            Named::ServiceConfig(path) => {
                let content = content(item, "service_config", path, (fingerprint, report));
                let config = content.and_then(|content| service_config(path, content, report));
                sources.extend(config.map(DescriptorSource::ServiceConfig));
            }
            Named::Learnt(origin) => sources.push(DescriptorSource::Learnt(LearntDescriptors {
                origin: origin.clone(),
                interval,
                content: learnt.get(origin).cloned(),
            })),
        }
        seen.insert(named);
    }
    Some(sources)
}

/// `builtin`, or a map with one source; and how often it is asked, if it is.
fn named(value: &Value<'_>, base: &Path, report: &mut Report) -> Option<(Named, Timeout)> {
    let default = LearntDescriptors::DEFAULT_INTERVAL;
    if let Kind::Scalar(_) = &value.node.kind {
        return match value.text(report)? {
            "builtin" => Some((Named::Builtin, default)),
            word @ ("reflection" | "kv") => value.wrong(
                report,
                format!("write `{word}: NAME`: it needs to know whom to ask"),
            ),
            text => {
                let why = format!(
                    "unknown word `{text}`: write `builtin`, or `file: {text}` if it is a file"
                );
                value.wrong(report, why)
            }
        };
    }
    let fields = value.fields(&DESCRIPTOR, report)?;
    let given: Vec<&str> = KEYS.into_iter().filter(|key| fields.has(key)).collect();
    let [key] = given.as_slice() else {
        let why = match given.as_slice() {
            [] => "it names no source: write `builtin`, `file: PATH`, `reflection: CLUSTER`, `kv: KEY` or `service_config: PATH`".to_owned(),
            several => format!("an item is one source, and this has {}", several.join(" and ")),
        };
        return value.wrong(report, why);
    };
    let interval = interval(value, &fields, key, report)?;
    let named = match *key {
        "reflection" => fields
            .read("reflection", report, |value, report| {
                value.parsed(report, ClusterName::parse)
            })
            .map(|cluster| Named::Learnt(Origin::Reflection(cluster))),
        "kv" => fields
            .read("kv", report, |value, report| {
                value.parsed(report, |text| text.parse().map_err(str::to_owned))
            })
            .map(|key| Named::Learnt(Origin::Kv(key))),
        key => {
            let path = base.join(fields.get(key)?.text(report)?);
            Some(match key {
                "service_config" => Named::ServiceConfig(path),
                _ => Named::File(path),
            })
        }
    };
    Some((named?, interval))
}

fn interval(
    item: &Value<'_>,
    fields: &Fields<'_>,
    key: &str,
    report: &mut Report,
) -> Option<Timeout> {
    if !fields.has("interval") {
        return Some(LearntDescriptors::DEFAULT_INTERVAL);
    }
    let interval = fields.read("interval", report, Value::timeout)?;
    let why = match key {
        "reflection" if interval >= LEAST_INTERVAL => return Some(interval),
        "reflection" => format!("that is too often: at least {LEAST_INTERVAL}"),
        _ => "only `reflection` asks again and again: remove it".to_owned(),
    };
    item.problem_below(report, "interval", why);
    None
}

/// What is asked at run time has to be there to be asked.
pub(crate) fn check(
    value: &Value<'_>,
    sources: &[DescriptorSource],
    clusters: &[cluster::Declared],
    consul: bool,
    report: &mut Report,
) {
    for origin in sources.iter().filter_map(DescriptorSource::learnt) {
        let (item, why) = match &origin.origin {
            Origin::Kv(key) => {
                let why = "it is not known where Consul is: add `consul: { address: \"http://127.0.0.1:8500\" }` at the top level";
                (
                    at(value, "kv", key.as_str()),
                    (!consul).then(|| why.to_owned()),
                )
            }
            Origin::Reflection(name) => (
                at(value, "reflection", name.as_str()),
                not_asked(name, clusters),
            ),
        };
        if let (Some(item), Some(why)) = (item, why) {
            item.problem(report, why);
        }
    }
}

/// The value of a source's key.
fn at<'n>(list: &Value<'n>, key: &str, text: &str) -> Option<Value<'n>> {
    let Kind::List(items) = &list.node.kind else {
        return None;
    };
    items.iter().enumerate().find_map(|(index, node)| {
        let item = Value {
            node,
            path: format!("{}[{index}]", list.path),
        };
        let node = item.find(key)?;
        let path = format!("{}.{key}", item.path);
        matches!(&node.kind, Kind::Scalar(scalar) if scalar.text == text)
            .then_some(Value { node, path })
    })
}

/// Why a cluster cannot be asked.
fn not_asked(name: &ClusterName, clusters: &[cluster::Declared]) -> Option<String> {
    let Some(cluster) = clusters.iter().find(|cluster| cluster.name == *name) else {
        let names = || clusters.iter().map(|cluster| cluster.name.as_str());
        let suggestion = suggest::did_you_mean(name.as_str(), names());
        let known = suggest::list(names());
        return Some(format!(
            "there is no cluster `{name}`{suggestion} (clusters: {known})"
        ));
    };
    let grpc = cluster
        .protocol
        .is_none_or(|protocol| protocol == Protocol::Grpc);
    (!grpc).then(|| format!("cluster `{name}` does not speak gRPC, so it has no reflection"))
}

/// What is in a file that an item names; readable or not, it is watched.
fn content(
    item: &Value<'_>,
    key: &str,
    path: &Path,
    (fingerprint, report): (&mut Fingerprint, &mut Report),
) -> Option<Arc<[u8]>> {
    let what = match key {
        "file" => "a serialized FileDescriptorSet",
        _ => "a google.api.Service",
    };
    let read = read(path, what);
    let content = read.as_ref().ok().map(|content| hash(content));
    fingerprint.add(path.to_owned(), content);
    read.map_err(|why| item.problem_below(report, key, why))
        .ok()
}

/// The tree of a service configuration, YAML or JSON. It has no variables of the environment: it is written for others, too.
fn service_config(path: &Path, content: Arc<[u8]>, report: &mut Report) -> Option<ServiceConfig> {
    let origins = Origins::one(Arc::from(path.display().to_string()));
    let mut within = Report::new(origins.clone());
    let text = std::str::from_utf8(&content);
    if text.is_err() {
        within.add(0, "", "it is not UTF-8 text".to_owned());
    }
    let text = text.unwrap_or_default();
    let tree = yaml::parse(text, Environment(&|_| None), &mut within);
    match within.finish(tree) {
        Ok(tree) => Some(ServiceConfig {
            path: path.to_owned(),
            value: tree.to_json(),
            positions: Positions::new(origins, tree),
            content,
        }),
        Err(problems) => {
            report.take(&problems);
            None
        }
    }
}

fn read(path: &Path, what: &str) -> Result<Arc<[u8]>, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        format!(
            "cannot read {shown}: {error}; a relative path starts at the directory of this file"
        )
    };
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(format!(
            "{shown} is larger than {} MiB: it cannot be {what}",
            MAX_FILE >> 20
        ));
    }
    let content = fs::read(path).map_err(cannot)?;
    if content.is_empty() {
        return Err(format!("{shown} is empty: it has to be {what}"));
    }
    Ok(Arc::from(content))
}
