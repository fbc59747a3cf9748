//! `consul`: where Consul is; and `clusters[].endpoints.consul`: what a cluster asks of it.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use consul::{PreparedQuery, ServiceQuery, TlsError, TlsFiles};

use super::endpoint;
use crate::model::{Announced, Asked, Consul, ConsulEndpoints, ConsulToken};
use crate::origins::Origins;
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{CONSUL, CONSUL_ENDPOINTS};
use crate::sources::{Given, KvKey, Place};
use crate::yaml::{Kind, Node};

/// How often a prepared query is asked: it cannot block.
const POLL: Duration = Duration::from_secs(5);
/// A busier one would be a load on Consul.
const LEAST_POLL: Duration = Duration::from_millis(500);
/// What a prepared query decides itself.
const OF_SERVICES: [&str; 6] = [
    "service",
    "datacenters",
    "tags",
    "node_meta",
    "filter",
    "config_entries",
];

/// What `consul` says.
struct Written {
    consul: Consul,
    /// The key that holds the configuration.
    key: Option<KvKey>,
    announced: Announced,
}

/// Where Consul is, and what it is told of the gateway. `Some(None)`: nobody asks Consul anything. Files are relative to the directory.
pub(crate) fn consul(
    root: &Fields<'_>,
    beside: (&Path, &Given),
    report: &mut Report,
) -> (Option<Option<Consul>>, Announced) {
    if let Some(value) = root.get("consul") {
        let written = written(&value, beside, report);
        return written.map_or_else(Default::default, |written| {
            (Some(Some(written.consul)), written.announced)
        });
    }
    if let Some(consul) = beside.1.consul() {
        return (Some(Some(consul)), Announced::default());
    }
    if let Some(clusters) = root.get("clusters") {
        asked_nowhere(&clusters, report);
    }
    (Some(None), Announced::default())
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

/// The key that holds the configuration, as far as a tree and what beats it say one.
pub(crate) fn place(tree: Option<&Node>, beside: (&Path, &Given)) -> Option<Place> {
    // What is wrong is reported when the whole is read.
    let mut unread = Report::new(Origins::one("".into()));
    let root = tree.and_then(|tree| Value::root(tree).find("consul"));
    let value = root.map(|node| Value {
        node,
        path: "consul".to_owned(),
    });
    let written = value.and_then(|value| written(&value, beside, &mut unread));
    let (consul, key) = match written {
        Some(written) => (written.consul, written.key),
        None => (beside.1.consul()?, None),
    };
    let key = beside.1.key.clone().or(key)?;
    Some(Place { consul, key })
}

fn written(
    value: &Value<'_>,
    (base_dir, given): (&Path, &Given),
    report: &mut Report,
) -> Option<Written> {
    let fields = value.fields(&CONSUL, report)?;
    let read = |value: &Value<'_>, report: &mut Report| {
        value.parsed(report, |text| {
            text.parse()
                .map_err(|error: consul::AddressError| error.to_string())
        })
    };
    let address = match &given.consul {
        Some(address) => Some(address.clone()),
        None => fields.required("address", report, read),
    };
    let token = fields.get("token");
    let token = token.map_or(Some(None), |value| token_of(&value, report).map(Some));
    let tls = tls(&fields, base_dir, report);
    let announced = announced(&fields, report);
    let address: consul::Address = address?;
    // Of no use without TLS, and no reason to refuse the rest.
    if address.is_tls()
        && let Err(why) = tls.check()
    {
        let key = match &why {
            TlsError::File { path, .. } if tls.cert.as_ref() == Some(path) => "cert",
            TlsError::File { path, .. } if tls.key.as_ref() == Some(path) => "key",
            TlsError::File { .. } => "ca",
            TlsError::Name(_) => "server_name",
            TlsError::NoRoots => "address",
            TlsError::Half | TlsError::Config(_) => "cert",
        };
        let key = if fields.has(key) { key } else { "address" };
        value.problem_below(report, key, why.to_string());
        return None;
    }
    let key = fields.read("kv", report, |value, report| {
        value.parsed(report, |text| text.parse().map_err(str::to_owned))
    });
    let consul = Consul {
        address,
        token: given.token(token?.flatten()),
        tls,
    };
    Some(Written {
        consul,
        key,
        announced,
    })
}

/// What Consul is told of the gateway.
fn announced(fields: &Fields<'_>, report: &mut Report) -> Announced {
    let advertise = fields
        .get("advertise")
        .filter(|value| !value.is_empty_text());
    let advertise = advertise.and_then(|value| {
        value.parsed(report, |text| {
            text.parse().map_err(|why: &'static str| why.to_owned())
        })
    });
    let weight = fields.or("weight", NonZeroU16::MIN, report, |value, report| {
        let weight = value.weight(report)?;
        let weight = NonZeroU16::try_from(weight).ok();
        weight.or_else(|| value.wrong(report, "that is too much for Consul: at most 65535"))
    });
    Announced {
        advertise,
        tags: fields.read("tags", report, tags).unwrap_or_default(),
        weight,
    }
}

impl Given {
    /// Consul, where a configuration says nothing of it.
    pub(crate) fn consul(&self) -> Option<Consul> {
        Some(Consul {
            address: self.consul.clone()?,
            token: self.token(None),
            tls: self.tls.clone(),
        })
    }

    /// The token to ask with, where a configuration says `written`.
    fn token(&self, written: Option<ConsulToken>) -> Option<ConsulToken> {
        let given = self.token.clone();
        given.or(written).or_else(|| self.fallback_token.clone())
    }
}

/// Empty texts are none, so that variables that are not set may stand there.
fn tls(fields: &Fields<'_>, base_dir: &Path, report: &mut Report) -> TlsFiles {
    let mut text = |key| {
        let value = fields.get(key).filter(|value| !value.is_empty_text())?;
        value.text(report).map(str::to_owned)
    };
    let file = |path: Option<String>| -> Option<PathBuf> { path.map(|path| base_dir.join(path)) };
    TlsFiles {
        ca: file(text("ca")),
        cert: file(text("cert")),
        key: file(text("key")),
        server_name: text("server_name"),
    }
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
    let warning = fields.or("warning", false, report, Value::boolean);
    let asked = if fields.has("query") {
        prepared(value, &fields, report).map(Asked::Prepared)
    } else {
        service(value, &fields, report)
    };
    let config_entries = fields.or("config_entries", false, report, Value::boolean);
    Some(ConsulEndpoints {
        asked: asked?,
        warning,
        config_entries,
    })
}

fn service(value: &Value<'_>, fields: &Fields<'_>, report: &mut Report) -> Option<Asked> {
    if !fields.has("service") {
        let why = "it says neither `service: NAME` nor `query: NAME` (a prepared query)";
        value.problem(report, why);
    }
    if fields.has("interval") {
        let why = "services are watched, not polled: remove it, or name a prepared `query`";
        value.problem_below(report, "interval", why);
    }
    let mut text = |key| fields.read(key, report, Value::text).map(str::to_owned);
    let (datacenter, filter) = (text("datacenter"), text("filter"));
    let (namespace, partition) = (text("namespace"), text("partition"));
    let service = text("service");
    let datacenters = fields.read("datacenters", report, tags).unwrap_or_default();
    if datacenter.is_some() && !datacenters.is_empty() {
        let why = "either one `datacenter` or a list of `datacenters`: remove one";
        value.problem_below(report, "datacenter", why);
    }
    let tags = fields.read("tags", report, tags);
    let node_meta = fields.read("node_meta", report, endpoint::texts);
    let max_stale = fields.read("max_stale", report, Value::timeout);
    let query = ServiceQuery {
        service: service?,
        tags: tags.unwrap_or_default(),
        datacenter,
        node_meta: node_meta.unwrap_or_default(),
        filter,
        namespace,
        partition,
        max_stale: max_stale.map(|timeout| timeout.get()),
    };
    Some(Asked::Service { query, datacenters })
}

fn prepared(value: &Value<'_>, fields: &Fields<'_>, report: &mut Report) -> Option<PreparedQuery> {
    for key in OF_SERVICES {
        if fields.has(key) {
            let why =
                "a prepared query decides that itself: remove it, or name a `service` instead";
            value.problem_below(report, key, why);
        }
    }
    let mut text = |key| fields.read(key, report, Value::text).map(str::to_owned);
    let (name, datacenter) = (text("query"), text("datacenter"));
    let (namespace, partition) = (text("namespace"), text("partition"));
    let interval = fields.read("interval", report, |value, report| {
        let interval = value.timeout(report)?.get();
        if interval < LEAST_POLL {
            return value.wrong(
                report,
                format!("that is too often: at least {LEAST_POLL:?}"),
            );
        }
        Some(interval)
    });
    let max_stale = fields.read("max_stale", report, Value::timeout);
    Some(PreparedQuery {
        name: name?,
        interval: interval.unwrap_or(POLL),
        datacenter,
        namespace,
        partition,
        max_stale: max_stale.map(|timeout| timeout.get()),
    })
}

/// An empty list asks for nothing.
fn tags(value: &Value<'_>, report: &mut Report) -> Option<Vec<String>> {
    match &value.node.kind {
        Kind::List(items) if items.is_empty() => Some(Vec::new()),
        _ => value.set(report, |text| Ok(text.to_owned())),
    }
}
