//! Metrics of the gateway's state, read from where it lives at each scrape: clusters, configuration, connections.
//!
//! Nothing here is counted twice or kept beside the truth.

mod door;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use mesh_config::{Live, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::destination::{CanaryNow, States};
use crate::edge::Stats;
use crate::entries::Entries;
use crate::rate_limit::RateLimits;
use crate::shedding::Shedding;
use crate::upstream::{CheckOutcome, Cluster, EndpointView, Outcome, Upstreams};
use crate::worker_table::Published;

/// Reads the state at each scrape.
pub(crate) struct StateMetrics {
    /// The clusters.
    pub upstreams: Arc<Upstreams>,
    /// What Consul's config entries make of them.
    pub entries: Arc<Entries>,
    /// The configuration in force.
    pub config: Live<Status>,
    /// The live table.
    pub published: Arc<Published>,
    /// What is known of the routes' destinations.
    pub states: Arc<States>,
    /// The door.
    pub edge: Arc<Stats>,
    /// The rate limits of the routes.
    pub limits: Arc<RateLimits>,
    /// Who is turned away under overload.
    pub shedding: Arc<Shedding>,
}

impl fmt::Debug for StateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMetrics").finish_non_exhaustive()
    }
}

impl Collector for StateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let clusters = self.upstreams.all();
        attempts(&mut encoder, &clusters)?;
        retries(&mut encoder, &clusters)?;
        budgets(&mut encoder, &clusters)?;
        endpoints(&mut encoder, &clusters)?;
        held(&mut encoder, &clusters)?;
        checks(&mut encoder, &clusters)?;
        ejections(&mut encoder, &clusters)?;
        panics(&mut encoder, &clusters)?;
        breakers(&mut encoder, &clusters)?;
        picks(&mut encoder, &clusters)?;
        self.entries(&mut encoder)?;
        self.canaries(&mut encoder)?;
        self.fallbacks(&mut encoder)?;
        self.reloads(&mut encoder)?;
        self.connections(&mut encoder)?;
        door::limits(&mut encoder, &self.limits)?;
        door::concurrency(&mut encoder, &clusters)?;
        door::shedding(&mut encoder, &self.shedding)
    }
}

impl StateMetrics {
    fn entries(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let reports = self.entries.reports();
        let mut rejected = encoder.encode_descriptor(
            "highpress_config_entries_rejected",
            "1 while Consul's config entries for a cluster cannot be followed, and those before are in force, or none",
            None,
            MetricType::Gauge,
        )?;
        for (cluster, report) in &reports {
            let is_rejected = !report.problems.is_empty();
            let labels = [("cluster", cluster.as_str())];
            gauge(&mut rejected, &labels, f64::from(u8::from(is_rejected)))?;
        }
        let mut unsupported = encoder.encode_descriptor(
            "highpress_config_entries_unsupported",
            "Keys of Consul's config entries for a cluster that have no effect",
            None,
            MetricType::Gauge,
        )?;
        for (cluster, report) in &reports {
            let labels = [("cluster", cluster.as_str())];
            gauge(&mut unsupported, &labels, report.unsupported.len() as f64)?;
        }
        Ok(())
    }

    fn canaries(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.published.load(0);
        let canaries: BTreeMap<&str, CanaryNow> = table
            .rows()
            .iter()
            .filter_map(|row| Some((&*row.route, row.policies.destination.canary_now()?)))
            .collect();
        let mut states = encoder.encode_descriptor(
            "highpress_canary_state",
            "Whether a canary is on trial (1) or was taken back (0)",
            None,
            MetricType::Gauge,
        )?;
        for (route, canary) in &canaries {
            let labels = [("route", *route), ("cluster", &canary.cluster)];
            gauge(
                &mut states,
                &labels,
                if canary.taken_back { 0.0 } else { 1.0 },
            )?;
        }
        let mut shares = encoder.encode_descriptor(
            "highpress_canary_share",
            "The part of a route's requests that its canary gets by the split, 0 to 1",
            None,
            MetricType::Gauge,
        )?;
        for (route, canary) in &canaries {
            let labels = [("route", *route), ("cluster", &canary.cluster)];
            gauge(&mut shares, &labels, canary.share)?;
        }
        Ok(())
    }

    fn fallbacks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "highpress_fallbacks",
            "Requests that fell back to this cluster, by why the one before could not take them",
            None,
            MetricType::Counter,
        )?;
        for state in self.states.all() {
            for (cluster, reason, count) in state.fallbacks.each() {
                let labels = [
                    ("route", &*state.route),
                    ("cluster", &*cluster),
                    ("reason", reason),
                ];
                counter(&mut family, &labels, count)?;
            }
        }
        Ok(())
    }

    fn reloads(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.config.load();
        let mut family = encoder.encode_descriptor(
            "highpress_config_reloads",
            "Configuration reloads by their result",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in status.reloads.by_result() {
            counter(&mut family, &[("result", result)], count)?;
        }
        let applied = status
            .applied_at
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut gauge = encoder.encode_descriptor(
            "highpress_config_last_applied_timestamp",
            "When the configuration in force was applied, in unix time",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        gauge.encode_gauge(&applied.as_secs_f64())
    }

    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut open = encoder.encode_descriptor(
            "highpress_downstream_connections",
            "Client connections that are open, by worker",
            None,
            MetricType::Gauge,
        )?;
        for (worker, count) in self.edge.open_by_worker().enumerate() {
            gauge(&mut open, &[("worker", &worker.to_string())], count as f64)?;
        }
        let mut taken = encoder.encode_descriptor(
            "highpress_downstream_connections_taken",
            "Client connections by what became of them at the door",
            None,
            MetricType::Counter,
        )?;
        let edge = &self.edge;
        for (result, count) in [
            ("accepted", edge.accepted()),
            ("refused", edge.refused()),
            ("failed", edge.failed()),
        ] {
            counter(&mut taken, &[("result", result)], count)?;
        }
        Ok(())
    }
}

fn attempts(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_upstream_attempts",
        "Tries at endpoints, by what came of them",
        None,
        MetricType::Counter,
    )?;
    for cluster in clusters {
        for outcome in Outcome::ALL {
            let labels = [("cluster", &**cluster.name()), ("outcome", outcome.label())];
            counter(&mut family, &labels, cluster.attempts(outcome))?;
        }
    }
    Ok(())
}

/// Tries beyond the first, those among them that are free because the one before never reached a backend.
fn retries(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_upstream_retries",
        "Tries beyond a call's first, by why the one before failed",
        None,
        MetricType::Counter,
    )?;
    for cluster in clusters {
        for (reason, count) in cluster.retries() {
            let labels = [("cluster", &**cluster.name()), ("reason", &reason)];
            counter(&mut family, &labels, count)?;
        }
    }
    Ok(())
}

fn budgets(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut exhausted = encoder.encode_descriptor(
        "highpress_retry_budget_exhausted",
        "Tries beyond the first that were not made because the cluster's budget was spent",
        None,
        MetricType::Counter,
    )?;
    for cluster in clusters {
        let (by_budget, _) = cluster.retries_refused();
        counter(&mut exhausted, &[("cluster", cluster.name())], by_budget)?;
    }
    let mut limited = encoder.encode_descriptor(
        "highpress_retry_limit_reached",
        "Tries beyond the first that were not made because limits.retries were under way",
        None,
        MetricType::Counter,
    )?;
    for cluster in clusters {
        let (_, by_limit) = cluster.retries_refused();
        counter(&mut limited, &[("cluster", cluster.name())], by_limit)?;
    }
    Ok(())
}

fn ejections(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_outlier_ejections",
        "Times that an endpoint was left out for doing worse than it should",
        None,
        MetricType::Counter,
    )?;
    for cluster in clusters {
        counter(
            &mut family,
            &[("cluster", cluster.name())],
            cluster.ejections(),
        )?;
    }
    Ok(())
}

fn panics(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_cluster_panic",
        "1 while too few endpoints are usable, so that all within reach take requests",
        None,
        MetricType::Gauge,
    )?;
    for cluster in clusters {
        let panics = f64::from(u8::from(cluster.panics()));
        gauge(&mut family, &[("cluster", cluster.name())], panics)?;
    }
    Ok(())
}

fn endpoints(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_endpoints",
        "Endpoints of a cluster by their state",
        None,
        MetricType::Gauge,
    )?;
    for cluster in clusters {
        let view = cluster.view();
        let count =
            |is: fn(&EndpointView) -> bool| view.endpoints.iter().filter(|one| is(one)).count();
        for (state, count) in [
            ("usable", count(|one| one.usable)),
            ("ejected", count(|one| one.ejected)),
            ("unusable", count(|one| !one.usable && !one.ejected)),
        ] {
            gauge(
                &mut family,
                &[("cluster", &*view.name), ("state", state)],
                count as f64,
            )?;
        }
    }
    Ok(())
}

fn checks(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_health_checks",
        "Health checks of endpoints, by what came of them",
        None,
        MetricType::Counter,
    )?;
    let checked = clusters
        .iter()
        .filter(|one| one.config().health_check.is_some());
    for cluster in checked {
        for outcome in CheckOutcome::ALL {
            let labels = [("cluster", &**cluster.name()), ("outcome", outcome.label())];
            counter(&mut family, &labels, cluster.health_checks(outcome))?;
        }
    }
    Ok(())
}

fn held(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_endpoints_held",
        "Endpoints that discovery has lost and that take requests for a while all the same",
        None,
        MetricType::Gauge,
    )?;
    for cluster in clusters {
        let view = cluster.view();
        let held = view.endpoints.iter().filter(|endpoint| endpoint.held);
        gauge(
            &mut family,
            &[("cluster", &*view.name)],
            held.count() as f64,
        )?;
    }
    Ok(())
}

fn breakers(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_breaker_state",
        "What an endpoint's breaker does with requests: 0 admit, 1 probe, 2 reject",
        None,
        MetricType::Gauge,
    )?;
    for cluster in clusters {
        let view = cluster.view();
        for endpoint in &view.endpoints {
            let state = match endpoint.breaker {
                "admit" => 0.0,
                "probe" => 1.0,
                _ => 2.0,
            };
            gauge(
                &mut family,
                &[("cluster", &*view.name), ("endpoint", &*endpoint.address)],
                state,
            )?;
        }
    }
    Ok(())
}

fn picks(encoder: &mut DescriptorEncoder<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "highpress_picks",
        "Tries by where they went: to endpoints near the gateway (local) or farther away (spilled)",
        None,
        MetricType::Counter,
    )?;
    for cluster in clusters.iter().filter(|one| one.prefers_near()) {
        let (local, spilled) = cluster.picks();
        for (locality, count) in [("local", local), ("spilled", spilled)] {
            let labels = [("cluster", &**cluster.name()), ("locality", locality)];
            counter(&mut family, &labels, count)?;
        }
    }
    Ok(())
}

fn counter(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], count: u64) -> fmt::Result {
    family
        .encode_family(&labels)?
        .encode_counter::<[(&str, &str); 0], _, u64>(&count, None)
}

fn gauge(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: f64) -> fmt::Result {
    family.encode_family(&labels)?.encode_gauge(&value)
}
