//! `clusters[].endpoints`: where the backends of a cluster come from.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{consul, dns};
use crate::model::{Address, Endpoint, Endpoints, Labels};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{ENDPOINT, ENDPOINTS};
use crate::yaml::Kind;

pub(crate) fn endpoints(value: &Value<'_>, report: &mut Report) -> Option<Endpoints> {
    let fields = value.fields(&ENDPOINTS, report)?;
    if fields.is_empty() {
        let why = "it names no endpoints: write `static: [\"host:port\"]`, `consul: { service: NAME }` or `dns: \"host:port\"`";
        return value.wrong(report, why);
    }
    let mut given = ["static", "consul", "dns"]
        .into_iter()
        .filter(|key| fields.has(key));
    if let (Some(one), Some(other)) = (given.next(), given.next()) {
        let why = format!("endpoints come either from `{one}` or from `{other}`: remove one");
        return value.wrong(report, why);
    }
    if let Some(fixed) = fields.get("static") {
        return list(&fixed, report).map(Endpoints::Static);
    }
    if let Some(name) = fields.get("dns") {
        return dns::endpoints(&name, report).map(Endpoints::Dns);
    }
    consul::endpoints(&fields.get("consul")?, report).map(Endpoints::Consul)
}

fn list(value: &Value<'_>, report: &mut Report) -> Option<Vec<Endpoint>> {
    let mut lines: HashMap<Address, u32> = HashMap::new();
    let mut endpoints = Some(Vec::new());
    for item in value.items(report)? {
        let endpoint = endpoint(&item, report);
        if let Some(endpoint) = &endpoint
            && let Some(first) = lines.insert(endpoint.address.clone(), item.line())
        {
            let why = format!(
                "{} is already on line {first}: keep one, with a weight",
                endpoint.address
            );
            item.problem(report, why);
        }
        endpoints = endpoints.zip(endpoint).map(|(mut endpoints, endpoint)| {
            endpoints.push(endpoint);
            endpoints
        });
    }
    endpoints
}

/// `"host:port"`, or a map with a weight and labels.
fn endpoint(value: &Value<'_>, report: &mut Report) -> Option<Endpoint> {
    if let Kind::Scalar(_) = &value.node.kind {
        let address = value.parsed(report, Address::parse)?;
        return Some(Endpoint {
            address,
            weight: NonZeroU32::MIN,
            labels: Arc::default(),
        });
    }
    let fields = value.fields(&ENDPOINT, report)?;
    let address = fields
        .require("address", report)
        .and_then(|value| value.parsed(report, Address::parse));
    let weight = fields
        .get("weight")
        .map_or(Some(NonZeroU32::MIN), |value| value.weight(report));
    let labels = labels(&fields, report);
    Some(Endpoint {
        address: address?,
        weight: weight?,
        labels: Arc::new(labels),
    })
}

fn labels(fields: &Fields<'_>, report: &mut Report) -> Labels {
    let mut text = |key| fields.read(key, report, Value::text).map(Box::from);
    let (node, zone) = (text("node"), text("zone"));
    let tags = fields.or("tags", Vec::new(), report, tags);
    let metadata = fields.or("metadata", Vec::new(), report, texts);
    let priority = fields.or("priority", 0, report, Value::count);
    Labels {
        node,
        zone,
        datacenter: None,
        tags: tags.into(),
        metadata: metadata.into_iter().collect(),
        priority: u32::try_from(priority).unwrap_or(u32::MAX),
    }
}

pub(crate) fn tags(value: &Value<'_>, report: &mut Report) -> Option<Vec<Box<str>>> {
    value.set(report, |tag| Ok(Box::from(tag)))
}

/// A map from keys that people choose to texts.
pub(crate) fn texts(value: &Value<'_>, report: &mut Report) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (key, value) in value.entries(report)? {
        if let Some(text) = value.text(report) {
            all.push((key.to_owned(), text.to_owned()));
        }
    }
    Some(all)
}
