//! `clusters`: backends, how one is picked, and how much they are asked at once.

use std::collections::HashMap;

use super::{endpoint, resilience};
use crate::model::{
    BalancingPolicy, Cluster, ClusterName, Limits, LoadBalancing, PerEndpointLimits, Protocol,
    RetryBudget, Timeout,
};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::{CLUSTER, CLUSTER_LIMITS, Choices, LOAD_BALANCING, PER_ENDPOINT};

const PROTOCOLS: Choices<Protocol> = &[
    ("grpc", Some(Protocol::Grpc)),
    ("http1", Some(Protocol::Http1)),
    ("http2", Some(Protocol::Http2)),
];

const POLICIES: Choices<BalancingPolicy> = &[
    ("p2c", Some(BalancingPolicy::P2c)),
    ("round_robin", Some(BalancingPolicy::RoundRobin)),
    ("random", Some(BalancingPolicy::Random)),
    ("least_request", Some(BalancingPolicy::LeastRequest)),
    ("ring_hash", None),
    ("maglev", None),
];

pub(crate) const CONNECT_TIMEOUT: Timeout = Timeout::from_secs::<1>();

/// A cluster as far as it could be read: routes may name it even if something else is wrong with it.
pub(crate) struct Declared {
    pub(crate) name: ClusterName,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) cluster: Option<Cluster>,
}

pub(crate) fn clusters(value: &Value<'_>, report: &mut Report) -> Vec<Declared> {
    let mut lines: HashMap<ClusterName, u32> = HashMap::new();
    let mut clusters = Vec::new();
    for item in value.items(report).unwrap_or_default() {
        let Some(declared) = cluster(&item, report) else {
            continue;
        };
        match lines.insert(declared.name.clone(), item.line()) {
            None => clusters.push(declared),
            Some(first) => {
                let name = &declared.name;
                let why = format!("`{name}` is already the name of the cluster on line {first}");
                item.problem_below(report, "name", why);
            }
        }
    }
    clusters
}

fn cluster(value: &Value<'_>, report: &mut Report) -> Option<Declared> {
    let fields = value.fields(&CLUSTER, report)?;
    let name = fields.required("name", report, |value, report| {
        value.parsed(report, ClusterName::parse)
    });
    let protocol = fields.required("protocol", report, |value, report| {
        value.choice(PROTOCOLS, report)
    });
    let endpoints = fields.required("endpoints", report, endpoint::endpoints);
    let load_balancing = fields.or(
        "load_balancing",
        LoadBalancing::default(),
        report,
        load_balancing,
    );
    let connect_timeout = fields.or("connect_timeout", CONNECT_TIMEOUT, report, Value::timeout);
    let limits = fields.or("limits", Limits::default(), report, limits);
    let panic_threshold = fields.or(
        "panic_threshold",
        Cluster::DEFAULT_PANIC_THRESHOLD,
        report,
        Value::share,
    );
    let retry_budget = fields.or(
        "retry_budget",
        RetryBudget::default(),
        report,
        resilience::retry_budget,
    );
    let breaker = fields.read("breaker", report, resilience::breaker);
    let outlier_detection = fields.read("outlier_detection", report, resilience::outlier_detection);
    let requests = limits.requests;
    let adaptive_concurrency = fields
        .read("adaptive_concurrency", report, |value, report| {
            resilience::adaptive_concurrency(value, requests, report)
        })
        .flatten();

    let name = name?;
    let whole = || {
        Some(Cluster {
            name: name.clone(),
            protocol: protocol?,
            endpoints: endpoints?,
            load_balancing,
            connect_timeout,
            limits,
            panic_threshold,
            retry_budget,
            breaker,
            outlier_detection,
            adaptive_concurrency,
        })
    };
    let cluster = whole();
    Some(Declared {
        name,
        protocol,
        cluster,
    })
}

fn load_balancing(value: &Value<'_>, report: &mut Report) -> Option<LoadBalancing> {
    let fields = value.fields(&LOAD_BALANCING, report)?;
    let policy = fields.required("policy", report, |value, report| {
        value.choice(POLICIES, report)
    });
    policy.map(|policy| LoadBalancing { policy })
}

fn limits(value: &Value<'_>, report: &mut Report) -> Option<Limits> {
    let fields = value.fields(&CLUSTER_LIMITS, report)?;
    let defaults = Limits::default();
    let connections = fields.or("connections", defaults.connections, report, Value::positive);
    let pending = fields.or("pending", defaults.pending, report, Value::count);
    let requests = fields.or("requests", defaults.requests, report, Value::positive);
    let retries = fields.or("retries", defaults.retries, report, Value::count);
    let per_endpoint = fields
        .get("per_endpoint")
        .and_then(|value| per_endpoint(&value, report))
        .unwrap_or_default();
    Some(Limits {
        connections,
        pending,
        requests,
        retries,
        per_endpoint,
    })
}

fn per_endpoint(value: &Value<'_>, report: &mut Report) -> Option<PerEndpointLimits> {
    let fields = value.fields(&PER_ENDPOINT, report)?;
    let connections = fields
        .get("connections")
        .and_then(|value| value.positive(report));
    let requests = fields
        .get("requests")
        .and_then(|value| value.positive(report));
    Some(PerEndpointLimits {
        connections,
        requests,
    })
}
