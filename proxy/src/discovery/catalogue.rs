//! Consul as a source: one watch for each datacenter, the preferred one first, or one prepared query that is polled. It turns
//! instances into what a cluster wants to know of them, and says in the log what cannot be used.

use std::sync::Arc;

use consul::{Client, Health, Instance, Instances, Query, Seen, ServiceQuery, Watch};
use mesh_config::model::{Address, Asked, ConsulEndpoints, Labels};
use service_kit::consul::ConsulMetrics;
use tokio::runtime::Handle;

use super::holding::{Known, List, Listed, Out};
use super::measured::Measured;
use super::source::{Source, Tell};

/// Starts to watch what a cluster asks for.
pub(super) fn watch(
    cluster: &str,
    endpoints: &ConsulEndpoints,
    client: &Client,
    metrics: &ConsulMetrics,
    runtime: &Handle,
) -> (Source, Measured) {
    let Asked::Prepared(query) = &endpoints.asked else {
        let queries = endpoints.asked.watched().into_iter();
        let tiers: Vec<_> = queries.map(|query| (query, endpoints.warning)).collect();
        return watch_services(cluster, &tiers, client, metrics, runtime);
    };
    let mut source = Source::new("Consul");
    let mut measured = Measured::new(metrics.clone());
    let watch = Watch::new(client.clone(), query.clone());
    measured.add(format!("cluster {cluster}"), watch.status());
    let reader = Reader::new(cluster, &query.name, 0, endpoints.warning);
    source.add(runtime, |tell| follow(watch, reader, tell));
    (source, measured)
}

/// Starts to watch services, each a tier, the preferred one first; with each, whether its instances take requests that warn.
pub(super) fn watch_services(
    cluster: &str,
    tiers: &[(ServiceQuery, bool)],
    client: &Client,
    metrics: &ConsulMetrics,
    runtime: &Handle,
) -> (Source, Measured) {
    let mut source = Source::new("Consul");
    let mut measured = Measured::new(metrics.clone());
    for (tier, (query, warning)) in (0..).zip(tiers) {
        let reader = Reader::new(cluster, &query.service, tier, *warning);
        let watch = Watch::new(client.clone(), query.clone());
        let mut name = format!("cluster {cluster}");
        if tiers.len() > 1 {
            let first = &tiers[0].0.service;
            let service = Some(&query.service).filter(|service| *service != first);
            name.extend(service.map(|service| format!(", {service}")));
            let datacenter = query.datacenter.as_ref();
            name.extend(datacenter.map(|datacenter| format!(" in {datacenter}")));
        }
        measured.add(name, watch.status());
        source.add(runtime, |tell| follow(watch, reader, tell));
    }
    (source, measured)
}

/// Passes on what a watch sees until nobody listens.
async fn follow<Q>(mut watch: Watch<Q>, mut reader: Reader, tell: Tell)
where
    Q: Query<Value = Instances> + Send + Sync,
{
    let mut before: Option<(List, bool)> = None;
    loop {
        let seen = watch.next().await;
        let now = reader.read(seen);
        // What is polled, or watched while something else changes, is mostly as it was.
        if before.as_ref() == Some(&now) {
            continue;
        }
        let (list, believed) = now.clone();
        before = Some(now);
        if !tell.update(list, believed).await {
            return;
        }
    }
}

/// Reads the answers for one tier.
struct Reader {
    cluster: Box<str>,
    /// The service or the prepared query.
    what: Box<str>,
    tier: u32,
    /// Instances that warn take requests too.
    warning: bool,
    /// Why the last answer was not believed.
    no_rights: bool,
}

impl Reader {
    fn new(cluster: &str, what: &str, tier: u32, warning: bool) -> Self {
        Self {
            cluster: cluster.into(),
            what: what.into(),
            tier,
            warning,
            no_rights: false,
        }
    }

    /// Who is there, and whether that can be believed.
    fn read(&mut self, seen: Seen<Instances>) -> (List, bool) {
        let (cluster, service) = (&*self.cluster, &*self.what);
        if seen.value.unreachable > 0 {
            let count = seen.value.unreachable;
            tracing::warn!(
                cluster,
                service,
                count,
                "instances without an address or a port are left out"
            );
        }
        let list = self.list(seen.value.list);
        let no_rights = seen.meta.filtered && list.is_empty();
        if no_rights && !self.no_rights {
            tracing::warn!(
                cluster,
                service,
                "Consul leaves everything out for want of rights: the token lacks `service:read` on `{service}`, or `node:read`"
            );
        }
        self.no_rights = no_rights;
        (list, !no_rights)
    }

    /// By address: instances that share one are one endpoint, as well as the best of them.
    fn list(&self, instances: Vec<Instance>) -> List {
        let mut list = List::new();
        for instance in instances {
            let Ok(address) = address(&instance) else {
                let cluster = &*self.cluster;
                let (id, host) = (instance.id.as_str(), instance.host.as_str());
                tracing::warn!(
                    cluster,
                    id,
                    host,
                    "an instance whose address cannot be one is left out"
                );
                continue;
            };
            let listed = self.listed(instance);
            let better = |known: &Listed| known.out.is_some() && listed.out.is_none();
            if list.get(&address).is_none_or(better) {
                list.insert(address, listed);
            }
        }
        list
    }

    fn listed(&self, instance: Instance) -> Listed {
        let weights = instance.weights;
        let labels = Arc::new(labels(&instance, self.tier));
        let out = |on_purpose, why: String| Some(Out { why, on_purpose });
        let (weight, out) = match instance.health {
            Health::Warning(_) if self.warning && weights.warning == 0 => {
                (1, out(true, "its weight in Consul is 0".to_owned()))
            }
            Health::Warning(_) if self.warning => (weights.warning, None),
            Health::Passing if weights.passing == 0 => {
                (1, out(true, "its weight in Consul is 0".to_owned()))
            }
            Health::Passing => (weights.passing, None),
            Health::Warning(why) => (
                weights.passing,
                out(false, format!("warning in Consul: {why}")),
            ),
            Health::Critical(why) => (
                weights.passing,
                out(false, format!("critical in Consul: {why}")),
            ),
            Health::Maintenance(why) => (
                weights.passing,
                out(true, format!("in maintenance in Consul: {why}")),
            ),
        };
        let weight = weight.max(1);
        Listed {
            known: Known { weight, labels },
            out,
        }
    }
}

/// What Consul says of an instance beside its address and health.
fn labels(instance: &Instance, tier: u32) -> Labels {
    let metadata = instance.meta.iter();
    let metadata = metadata.map(|(key, value)| (key.as_str(), value.as_str()));
    let named = |text: &str| (!text.is_empty()).then(|| text.into());
    Labels {
        node: named(&instance.node),
        zone: instance.zone().map(Box::from),
        datacenter: instance.datacenter.as_deref().and_then(named),
        tags: instance
            .tags
            .iter()
            .map(|tag| tag.as_str().into())
            .collect(),
        metadata: metadata.collect(),
        priority: tier,
    }
}

fn address(instance: &Instance) -> Result<Address, String> {
    let Instance { host, port, .. } = instance;
    if host.contains(':') {
        Address::parse(&format!("[{host}]:{port}"))
    } else {
        Address::parse(&format!("{host}:{port}"))
    }
}
