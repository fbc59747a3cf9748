//! A line for each policy about tries and endpoints: what a route and a cluster say, and, of a running gateway,
//! how things stand.

use std::fmt::Write;

use mesh_config::model::{CheckQuestion, Cluster, Endpoint, Endpoints, Locality, Route};
use transcode::{Binding, Idempotency};

use crate::rate_limit;
use crate::route_table::Plan;
use crate::upstream::{ClusterView, ConcurrencyView, EndpointView};

/// A cluster with its policies and endpoints.
pub(super) fn whole(plan: &Plan, name: &str, clusters: Option<&[ClusterView]>, out: &mut String) {
    let Some(cluster) = plan
        .snapshot
        .clusters
        .iter()
        .find(|cluster| cluster.name.as_str() == name)
    else {
        return;
    };
    let limits = &cluster.limits;
    let _ = writeln!(
        out,
        "cluster    {name}: {}, {}, connect timeout {:?}, at most {} requests in flight and {} waiting",
        cluster.protocol.as_str(),
        cluster.load_balancing.policy.as_str(),
        cluster.connect_timeout.get(),
        limits.requests,
        limits.pending,
    );
    let view = clusters.and_then(|views| views.iter().find(|view| *view.name == *name));
    of_cluster(cluster, view, out);
    match view {
        Some(view) => {
            for endpoint in &view.endpoints {
                of_endpoint(endpoint, out);
            }
        }
        None => configured(&cluster.endpoints, out),
    }
}

/// Where the endpoints of a cluster come from.
fn configured(endpoints: &Endpoints, out: &mut String) {
    match endpoints {
        Endpoints::Static(endpoints) => {
            for endpoint in endpoints {
                let Endpoint {
                    address,
                    weight,
                    labels,
                } = endpoint;
                let _ = writeln!(out, "endpoint   {address} weight {weight}{labels}");
            }
        }
        Endpoints::Consul(asked) => {
            let _ = writeln!(out, "endpoints  {asked}");
        }
        Endpoints::Dns(asked) => {
            let _ = writeln!(out, "endpoints  {asked}");
        }
    }
}

/// What the route asks of a request before it is let in.
pub(super) fn at_the_door(route: &Route, out: &mut String) {
    let _ = writeln!(out, "priority   {} under overload", route.priority.as_str());
    if let Some(subset) = &route.subset {
        let otherwise = match subset.or_any {
            true => "any, where none of them is usable",
            false => "none else",
        };
        let _ = writeln!(out, "subset     endpoints with {subset}; {otherwise}");
    }
    if let Some(limit) = &route.rate_limit {
        let _ = writeln!(out, "rate limit {}", rate_limit::in_words(limit));
    }
}

/// How the calls of a route are repeated, and whether this one may be.
pub(super) fn repeats(route: &Route, binding: Option<&Binding>, method: &str, out: &mut String) {
    if let Some(retry) = &route.retry {
        let _ = writeln!(
            out,
            "retry      {} tries at most, on {}; a try may take {}, the wait before one is random up to {}, at most {}",
            retry.attempts, retry.on, retry.per_try_timeout, retry.backoff.base, retry.backoff.max
        );
    }
    if let Some(hedge) = &route.hedge {
        let _ = writeln!(
            out,
            "hedge      {} further endpoints at most, each after {}",
            hedge.max, hedge.after
        );
    }
    if route.retry.is_some() || route.hedge.is_some() {
        let _ = writeln!(out, "repeats    {}", safety(route, binding, method));
    }
}

/// Whether a call may be sent again that may have been executed, and why.
fn safety(route: &Route, binding: Option<&Binding>, method: &str) -> String {
    let retry = route.retry.as_ref();
    let named = retry.and_then(|retry| retry.dedupe.as_deref());
    let of_method = binding.and_then(|binding| binding.dedupe.as_deref());
    let idempotent = |binding: &Binding| binding.idempotency != Idempotency::Unknown;
    if retry.is_some_and(|retry| retry.unsafe_methods) {
        "yes: the route says `unsafe: true`".to_owned()
    } else if binding.is_some_and(idempotent) {
        "yes: the method's idempotency_level says that twice is as once".to_owned()
    } else if let Some(key) = named.or(of_method) {
        format!(
            "yes: the service knows a repeated call by `{key}`; without one it gets the gateway's own"
        )
    } else if matches!(method, "GET" | "HEAD" | "PUT" | "DELETE") {
        format!("yes: {method} twice is as once")
    } else {
        "only what no backend can have executed: nothing says that twice is as once".to_owned()
    }
}

/// How much a cluster may have in flight, where that follows its latency.
fn concurrency(cluster: &Cluster, view: Option<&ClusterView>, out: &mut String) {
    let Some(adaptive) = &cluster.adaptive_concurrency else {
        return;
    };
    let now = view.map_or_else(String::new, |view| {
        let ConcurrencyView {
            limit,
            in_flight,
            waiting,
            idle_latency,
            ..
        } = view.concurrency;
        let idle = idle_latency.map_or("not known yet".to_owned(), |idle| format!("{idle:.1?}"));
        format!("; {limit} now, {in_flight} in flight, {waiting} waiting, idle latency {idle}")
    });
    let _ = writeln!(
        out,
        "adaptive   {} to {} requests in flight, by latency{now}",
        adaptive.min, adaptive.max
    );
}

/// What the endpoints of a cluster are asked, whether they are well.
fn checks(cluster: &Cluster, out: &mut String) {
    let Some(check) = &cluster.health_check else {
        return;
    };
    let question = match &check.question {
        CheckQuestion::Grpc { service } if service.is_empty() => "grpc".to_owned(),
        CheckQuestion::Grpc { service } => format!("grpc {service}"),
        CheckQuestion::Http { path, .. } => format!("http {path}"),
        CheckQuestion::Tcp => "tcp".to_owned(),
    };
    let _ = writeln!(
        out,
        "checks     {question}, each {} and within {}; {} failures in a row take an endpoint out, {} passes bring it back",
        check.interval, check.timeout, check.unhealthy, check.healthy
    );
}

/// Which endpoints of a cluster are preferred, and to which a request comes back.
fn balancing(cluster: &Cluster, view: Option<&ClusterView>, out: &mut String) {
    let rules = &cluster.load_balancing;
    if rules.policy.is_by_key() {
        let bound = rules.bounded_load.map_or_else(
            || "without a bound on load".to_owned(),
            |bound| format!("at most {bound} of its share of the requests in flight"),
        );
        let _ = writeln!(
            out,
            "by key     {}: the endpoint that owns the route's `hash_on`, {bound}; at random without it",
            rules.policy.as_str()
        );
    }
    if rules.locality != Locality::Anywhere {
        // Without a running gateway only the configuration is known, not what Consul's agent says.
        let found = view.and_then(|view| view.place.as_ref());
        let place = found.unwrap_or(&cluster.place);
        let by = if found.is_some() {
            ""
        } else {
            ", by its configuration"
        };
        let known = |what: &Option<Box<str>>| what.as_deref().unwrap_or("unknown").to_owned();
        let _ = writeln!(
            out,
            "locality   the same {} first; the gateway is on node {}, in zone {}{by}",
            rules.locality.as_str(),
            known(&place.node),
            known(&place.zone)
        );
    }
    if let Some(window) = cluster.slow_start {
        let growing = view.map_or(0, |view| {
            let grows = |one: &&EndpointView| one.effective_weight < f64::from(one.weight);
            let usable = view.endpoints.iter().filter(|one| one.usable);
            usable.filter(grows).count()
        });
        let _ = writeln!(
            out,
            "slow start the weight of a new endpoint grows for {window}; {growing} do now"
        );
    }
}

/// What keeps a cluster from being asked too much, and its sick endpoints from being asked at all.
pub(super) fn of_cluster(cluster: &Cluster, view: Option<&ClusterView>, out: &mut String) {
    balancing(cluster, view, out);
    concurrency(cluster, view, out);
    let budget = cluster.retry_budget;
    let left = view.map_or_else(String::new, |view| {
        format!("; {} are left now", view.retry_budget_left)
    });
    let _ = writeln!(
        out,
        "budget     tries beyond the first: {} of the first ones of the last 10 s and {} each second, {} under way at most{left}",
        budget.ratio, budget.min_per_second, cluster.limits.retries
    );
    if let Some(breaker) = &cluster.breaker {
        let _ = writeln!(
            out,
            "breaker    rejects from {} failed, or {} that took {}, of {} or more calls in {}; for {}, later up to {}; admits after {} probes",
            breaker.failure_ratio,
            breaker.slow_ratio,
            breaker.slow_call,
            breaker.min_requests,
            breaker.window,
            breaker.hold,
            breaker.max_hold,
            breaker.probes
        );
    }
    if let Some(rules) = &cluster.outlier_detection {
        let compared = [
            (rules.success_rate, " success rate"),
            (rules.latency, " latency"),
        ];
        let compared: String = compared
            .iter()
            .filter_map(|(on, what)| on.then_some(*what))
            .collect();
        let _ = writeln!(
            out,
            "outliers   ejected after {} failures in a row, compared every {} by{}; for {}, later up to {}, at most {} of them",
            rules.consecutive_failures,
            rules.interval,
            if compared.is_empty() {
                " nothing"
            } else {
                &compared
            },
            rules.base_ejection,
            rules.max_ejection,
            rules.max_ejected
        );
    }
    checks(cluster, out);
    let panic = match view {
        Some(view) if view.panic => ": so it is now",
        _ => "",
    };
    let _ = writeln!(
        out,
        "panic      all endpoints within reach are used when fewer than {} are usable{panic}",
        cluster.panic_threshold
    );
}

/// An endpoint as it is now.
pub(super) fn of_endpoint(endpoint: &EndpointView, out: &mut String) {
    let state = if endpoint.usable {
        "usable".to_owned()
    } else {
        format!("not usable: {}", endpoint.reasons.join(", "))
    };
    let breaker = match &endpoint.breaker_reason {
        Some(why) => format!("{} ({why})", endpoint.breaker),
        None => endpoint.breaker.to_owned(),
    };
    let _ = writeln!(
        out,
        "endpoint   {} weight {}{}, {state}, breaker {breaker}, {} in flight, {:.1} ms",
        endpoint.address, endpoint.weight, endpoint.labels, endpoint.in_flight, endpoint.ewma_ms
    );
}
