//! Instances of a service with their health, out of an answer of `/v1/health/service/:name`.
//!
//! Read from a generic JSON tree: fields that are not needed may be anything. Refused as a whole: what is not a list of
//! objects that name a service. An entry that can take no traffic (no port, no address) is counted and left out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::Error;

/// Consul takes larger ones, and means nothing by them.
const MAX_WEIGHT: u64 = 65_535;
/// Of a check's output, for people.
const MAX_OUTPUT: usize = 200;
/// Checks with these names are how Consul keeps maintenance.
const MAINTENANCE: [&str; 2] = ["_service_maintenance", "_node_maintenance"];

/// All instances of a service, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instances {
    /// Those that could take traffic.
    pub list: Vec<Instance>,
    /// Those without an address or a port.
    pub unreachable: usize,
}

/// One registered instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Unique on its node.
    pub id: String,
    /// The name of its node.
    pub node: String,
    /// The metadata of its node.
    pub node_meta: BTreeMap<String, String>,
    /// The datacenter of its node.
    pub datacenter: Option<String>,
    /// A name or an IP address: the service's own, else its node's.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its metadata.
    pub meta: BTreeMap<String, String>,
    /// Its share of the traffic.
    pub weights: Weights,
    /// How it is.
    pub health: Health,
}

/// Shares of traffic, relative to the other instances'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// While all checks pass.
    pub passing: u32,
    /// While one warns.
    pub warning: u32,
}

/// The worst of an instance's checks, its node's included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// All pass, or there are none.
    Passing,
    /// One warns: which, and what it says.
    Warning(String),
    /// One is critical: which, and what it says.
    Critical(String),
    /// Somebody took it out, for this reason.
    Maintenance(String),
}

impl Default for Weights {
    /// What Consul itself takes where none are given.
    fn default() -> Self {
        Self {
            passing: 1,
            warning: 1,
        }
    }
}

impl Instance {
    /// The part of the datacenter that it is in, as `zone` in the metadata of its node, or else in its own.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        let zone = self.node_meta.get("zone").or_else(|| self.meta.get("zone"));
        zone.map(String::as_str).filter(|zone| !zone.is_empty())
    }
}

/// Reads an answer of `/v1/health/service/:name`.
pub(crate) fn parse(body: &[u8]) -> Result<Instances, Error> {
    match json(body)? {
        Value::Array(entries) => instances(&entries),
        _ => Err(Error::nonsense("the answer is not a list of instances")),
    }
}

/// Reads an answer of `/v1/query/:name/execute`.
pub(crate) fn parse_executed(body: &[u8]) -> Result<Instances, Error> {
    let value = json(body)?;
    let Some(nodes) = value.get("Nodes") else {
        return Err(Error::nonsense("the answer has no `Nodes`"));
    };
    match nodes {
        // An empty list of Go.
        Value::Null => Ok(Instances::default()),
        Value::Array(entries) => instances(entries),
        _ => Err(Error::nonsense("`Nodes` is not a list of instances")),
    }
}

pub(crate) fn json(body: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::nonsense(format!("the answer is not JSON: {error}")))
}

fn instances(entries: &[Value]) -> Result<Instances, Error> {
    let mut instances = Instances::default();
    for (at, entry) in entries.iter().enumerate() {
        match instance(entry) {
            Some(Ok(instance)) => instances.list.push(instance),
            Some(Err(Unreachable)) => instances.unreachable += 1,
            None => return Err(Error::nonsense(format!("entry {at} names no service"))),
        }
    }
    // The order of the answer is any; a stable one shows whether anything has changed.
    instances
        .list
        .sort_by(|one, other| (&one.id, &one.node).cmp(&(&other.id, &other.node)));
    Ok(instances)
}

/// It has no address or no port.
struct Unreachable;

fn instance(entry: &Value) -> Option<Result<Instance, Unreachable>> {
    let (service, node) = (
        entry.get("Service")?.as_object()?,
        entry.get("Node")?.as_object()?,
    );
    let id = text(service, "ID").or_else(|| text(service, "Service"))?;
    let host = text(service, "Address").or_else(|| text(node, "Address"));
    let port = service.get("Port").and_then(Value::as_u64);
    let port = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0);
    let (Some(host), Some(port)) = (host, port) else {
        return Some(Err(Unreachable));
    };
    let checks = entry.get("Checks").and_then(Value::as_array);
    Some(Ok(Instance {
        id: id.to_owned(),
        node: text(node, "Node").unwrap_or_default().to_owned(),
        node_meta: meta(node.get("Meta")),
        datacenter: text(node, "Datacenter").map(str::to_owned),
        host: host.to_owned(),
        port,
        tags: tags(service.get("Tags")),
        meta: meta(service.get("Meta")),
        weights: weights(service.get("Weights")),
        health: health(checks.map_or(&[], Vec::as_slice)),
    }))
}

/// A text that is there and not empty.
fn text<'v>(object: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    object.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn tags(value: Option<&Value>) -> Vec<String> {
    let tags = value.and_then(Value::as_array).into_iter().flatten();
    tags.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn meta(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn weights(value: Option<&Value>) -> Weights {
    let defaults = Weights::default();
    let weight = |key: &str, default: u32| {
        let given = value
            .and_then(|value| value.get(key))
            .and_then(Value::as_u64);
        given.map_or(default, |given| {
            u32::try_from(given.min(MAX_WEIGHT)).unwrap_or(default)
        })
    };
    Weights {
        passing: weight("Passing", defaults.passing),
        warning: weight("Warning", defaults.warning),
    }
}

/// The worst of the checks. A status that nobody knows is critical.
fn health(checks: &[Value]) -> Health {
    let mut worst = Health::Passing;
    for check in checks.iter().filter_map(Value::as_object) {
        let id = text(check, "CheckID").unwrap_or_default();
        let found = match text(check, "Status").unwrap_or_default() {
            "passing" => Health::Passing,
            "warning" => Health::Warning(said(check)),
            "critical" | "maintenance"
                if MAINTENANCE.iter().any(|name| {
                    id.strip_prefix(name)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
                }) =>
            {
                Health::Maintenance(text(check, "Notes").unwrap_or("in maintenance").to_owned())
            }
            _ => Health::Critical(said(check)),
        };
        if rank(&found) > rank(&worst) {
            worst = found;
        }
    }
    worst
}

fn rank(health: &Health) -> u8 {
    match health {
        Health::Passing => 0,
        Health::Warning(_) => 1,
        Health::Critical(_) => 2,
        Health::Maintenance(_) => 3,
    }
}

/// `NAME: OUTPUT`, in a line.
fn said(check: &Map<String, Value>) -> String {
    let name = text(check, "Name").or_else(|| text(check, "CheckID"));
    let name = name.unwrap_or("a check without a name");
    let words: Vec<&str> = text(check, "Output")
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    if words.is_empty() {
        return name.to_owned();
    }
    let output: String = words.join(" ").chars().take(MAX_OUTPUT).collect();
    format!("{name}: {output}")
}

#[cfg(test)]
mod tests;
