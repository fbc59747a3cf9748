//! Metrics of what is turned away at the door: by rate limits, and under overload.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{counter, gauge};
use crate::rate_limit::{LimitView, RateLimits};
use crate::shedding::Shedding;
use crate::upstream::{Cluster, ConcurrencyView};

pub(super) fn limits(encoder: &mut DescriptorEncoder<'_>, limits: &RateLimits) -> fmt::Result {
    let views = limits.limits();
    let mut by_route = |name, help, count: fn(&LimitView) -> u64| {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for view in &views {
            counter(&mut family, &[("route", &*view.route)], count(view))?;
        }
        Ok(())
    };
    by_route(
        "highpress_rate_limited_requests",
        "Requests that a route's rate limit refused",
        |view| view.limited,
    )?;
    by_route(
        "highpress_rate_limit_away_decisions",
        "Requests that were decided by `when_away`, because the store did not answer",
        |view| view.away,
    )?;
    by_route(
        "highpress_rate_limit_evictions",
        "Buckets that gave way to others before they were full",
        |view| view.evicted,
    )?;
    let mut up = encoder.encode_descriptor(
        "highpress_rate_limit_store_up",
        "Whether a store of rate limits answers: 1, or 0",
        None,
        MetricType::Gauge,
    )?;
    for view in limits.stores() {
        gauge(
            &mut up,
            &[("store", &*view.store)],
            f64::from(u8::from(view.up)),
        )?;
    }
    Ok(())
}

/// How much clusters have in flight, and what their limits turn away.
pub(super) fn concurrency(
    encoder: &mut DescriptorEncoder<'_>,
    clusters: &[Arc<Cluster>],
) -> fmt::Result {
    let views: Vec<_> = clusters
        .iter()
        .map(|cluster| (cluster.name(), cluster.view().concurrency))
        .collect();
    let mut gauges = |name, help, value: fn(&ConcurrencyView) -> usize| {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (cluster, view) in &views {
            gauge(&mut family, &[("cluster", cluster)], value(view) as f64)?;
        }
        Ok(())
    };
    gauges(
        "highpress_upstream_requests_limit",
        "Requests that a cluster may have in flight",
        |view| view.limit,
    )?;
    gauges(
        "highpress_upstream_requests_in_flight",
        "Requests that a cluster has in flight",
        |view| view.in_flight,
    )?;
    gauges(
        "highpress_upstream_requests_waiting",
        "Requests that wait for a slot within a cluster's limit",
        |view| view.waiting,
    )?;
    let mut refused = encoder.encode_descriptor(
        "highpress_upstream_requests_refused",
        "Requests that a cluster's limit turned away",
        None,
        MetricType::Counter,
    )?;
    for (cluster, view) in &views {
        counter(&mut refused, &[("cluster", cluster)], view.refused)?;
    }
    Ok(())
}

pub(super) fn shedding(encoder: &mut DescriptorEncoder<'_>, shedding: &Shedding) -> fmt::Result {
    let mut shed = encoder.encode_descriptor(
        "highpress_shed_requests",
        "Requests that were turned away under overload, by their priority",
        None,
        MetricType::Counter,
    )?;
    for (priority, count) in shedding.shed() {
        counter(&mut shed, &[("priority", priority)], count)?;
    }
    let mut level = encoder.encode_descriptor(
        "highpress_overload_level",
        "How many priorities are turned away: 0 none, 1 low, 2 normal too, 3 high too",
        None,
        MetricType::Gauge,
    )?;
    level.encode_gauge(&f64::from(shedding.level() as u8))?;
    let mut lag = encoder.encode_descriptor(
        "highpress_event_loop_lag",
        "How late the timers of the worst worker were when they were last looked at",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    lag.encode_gauge(&shedding.pressure_seen().loop_lag.as_secs_f64())
}
