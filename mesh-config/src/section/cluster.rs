//! `clusters`: backends, how one is picked, and how much they are asked at once.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use super::{balancing, endpoint, health_check, resilience};
use crate::model::{
    AdaptiveConcurrency, Cluster, ClusterName, Limits, MessageCoding, PerEndpointLimits, Place,
    Protocol, RetryBudget, Timeout,
};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{CLUSTER, CLUSTER_LIMITS, Choices, PER_ENDPOINT};

const PROTOCOLS: Choices<Protocol> = &[
    ("grpc", Some(Protocol::Grpc)),
    ("http1", Some(Protocol::Http1)),
    ("http2", Some(Protocol::Http2)),
];

const COMPRESSION: Choices<MessageCoding> = &[
    ("gzip", Some(MessageCoding::Gzip)),
    ("zstd", Some(MessageCoding::Zstd)),
];

pub(crate) const CONNECT_TIMEOUT: Timeout = Timeout::from_secs::<1>();

/// A cluster as far as it could be read: routes may name it even if something else is wrong with it.
pub(crate) struct Declared {
    pub(crate) name: ClusterName,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) cluster: Option<Cluster>,
}

pub(crate) fn clusters(value: &Value<'_>, place: &Place, report: &mut Report) -> Vec<Declared> {
    let mut lines: HashMap<ClusterName, u32> = HashMap::new();
    let mut clusters = Vec::new();
    for item in value.items(report).unwrap_or_default() {
        let Some(declared) = cluster(&item, place, report) else {
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

fn cluster(value: &Value<'_>, place: &Place, report: &mut Report) -> Option<Declared> {
    let fields = value.fields(&CLUSTER, report)?;
    let name = fields.required("name", report, |value, report| {
        value.parsed(report, ClusterName::parse)
    });
    let protocol = fields.required("protocol", report, |value, report| {
        value.choice(PROTOCOLS, report)
    });
    let endpoints = fields.required("endpoints", report, endpoint::endpoints);
    let load_balancing = fields.read("load_balancing", report, balancing::load_balancing);
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
    let adaptive_concurrency = adaptive_concurrency(&fields, limits.requests, report);
    let health_check = fields.read("health_check", report, |value, report| {
        health_check::health_check(value, protocol, report)
    });
    let slow_start = fields.read("slow_start", report, Value::timeout);
    let compression = compression(&fields, protocol, report);

    let name = name?;
    let whole = || {
        Some(Cluster {
            name: name.clone(),
            protocol: protocol?,
            endpoints: endpoints?,
            load_balancing: load_balancing.unwrap_or_default(),
            connect_timeout,
            limits,
            panic_threshold,
            retry_budget,
            breaker,
            outlier_detection,
            adaptive_concurrency,
            health_check,
            slow_start,
            compression,
            place: place.clone(),
        })
    };
    let cluster = whole();
    Some(Declared {
        name,
        protocol,
        cluster,
    })
}

/// Of clusters that speak gRPC: HTTP has no word for what a server reads.
fn compression(
    fields: &Fields<'_>,
    protocol: Option<Protocol>,
    report: &mut Report,
) -> Option<MessageCoding> {
    let value = fields.get("compression")?;
    if protocol.is_some_and(|protocol| protocol != Protocol::Grpc) {
        let why = "only messages of gRPC are compressed: this is for clusters of protocol `grpc`";
        value.problem(report, why);
    }
    value.choice(COMPRESSION, report)
}

/// `None` also where it is written, and off.
fn adaptive_concurrency(
    fields: &Fields<'_>,
    requests: NonZeroUsize,
    report: &mut Report,
) -> Option<AdaptiveConcurrency> {
    let read = fields.read("adaptive_concurrency", report, |value, report| {
        resilience::adaptive_concurrency(value, requests, report)
    });
    read.flatten()
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
