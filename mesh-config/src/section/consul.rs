//! `consul`: where Consul is; and `clusters[].endpoints.consul`: what a cluster asks of it.

use consul::ServiceQuery;

use crate::model::{Consul, ConsulEndpoints, ConsulToken};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{CONSUL, CONSUL_ENDPOINTS};
use crate::yaml::Kind;

/// `Some(None)`: nobody asks Consul anything.
pub(crate) fn consul(root: &Fields<'_>, report: &mut Report) -> Option<Option<Consul>> {
    if let Some(value) = root.get("consul") {
        return whereabouts(&value, report).map(Some);
    }
    if let Some(clusters) = root.get("clusters") {
        asked_nowhere(&clusters, report);
    }
    Some(None)
}

/// Clusters that ask Consul, where nobody said where it is.
fn asked_nowhere(clusters: &Value<'_>, report: &mut Report) {
    let Kind::List(items) = &clusters.node.kind else {
        return;
    };
    for (index, node) in items.iter().enumerate() {
        let path = format!("{}[{index}]", clusters.path);
        let cluster = Value { node, path };
        if cluster.find("endpoints.consul").is_some() {
            let why = "it is not known where Consul is: add `consul: { address: \"http://127.0.0.1:8500\" }` at the top level";
            cluster.problem_below(report, "endpoints.consul", why);
        }
    }
}

fn whereabouts(value: &Value<'_>, report: &mut Report) -> Option<Consul> {
    let fields = value.fields(&CONSUL, report)?;
    let address = fields.required("address", report, |value, report| {
        value.parsed(report, |text| {
            text.parse()
                .map_err(|error: consul::AddressError| error.to_string())
        })
    });
    let token = fields.get("token");
    let token = token.map_or(Some(None), |value| token_of(&value, report).map(Some));
    Some(Consul {
        address: address?,
        token: token?.flatten(),
    })
}

/// An empty one is none, so that a variable that is not set may stand there. What is wrong with one is not quoted.
fn token_of(value: &Value<'_>, report: &mut Report) -> Option<Option<ConsulToken>> {
    if value.is_empty_text() {
        return Some(None);
    }
    let text = value.text(report)?;
    match ConsulToken::new(text) {
        Some(token) => Some(Some(token)),
        None => value.wrong(report, "it has characters that no token has"),
    }
}

pub(crate) fn endpoints(value: &Value<'_>, report: &mut Report) -> Option<ConsulEndpoints> {
    let fields = value.fields(&CONSUL_ENDPOINTS, report)?;
    let mut text = |key| fields.read(key, report, Value::text).map(str::to_owned);
    let (datacenter, filter) = (text("datacenter"), text("filter"));
    let (namespace, partition) = (text("namespace"), text("partition"));
    let service = fields.required("service", report, Value::text);
    let tags = fields.read("tags", report, tags);
    let node_meta = fields.read("node_meta", report, node_meta);
    let warning = fields.or("warning", false, report, Value::boolean);
    let max_stale = fields.read("max_stale", report, Value::timeout);
    Some(ConsulEndpoints {
        query: ServiceQuery {
            service: service?.to_owned(),
            tags: tags.unwrap_or_default(),
            datacenter,
            node_meta: node_meta.unwrap_or_default(),
            filter,
            namespace,
            partition,
            max_stale: max_stale.map(|timeout| timeout.get()),
        },
        warning,
    })
}

/// An empty list asks for nothing.
fn tags(value: &Value<'_>, report: &mut Report) -> Option<Vec<String>> {
    match &value.node.kind {
        Kind::List(items) if items.is_empty() => Some(Vec::new()),
        _ => value.set(report, |text| Ok(text.to_owned())),
    }
}

fn node_meta(value: &Value<'_>, report: &mut Report) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (key, value) in value.entries(report)? {
        if let Some(text) = value.text(report) {
            all.push((key.to_owned(), text.to_owned()));
        }
    }
    Some(all)
}
