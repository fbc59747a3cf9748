//! The compiled routing table as text, one row a line, in columns.

use mesh_config::model::{Cluster, Priority, Route};

use crate::destination::Switches;
use crate::route_table::{Plan, Planned, PlannedRow};

const TITLES: [&str; 6] = [
    "ROUTE",
    "METHOD",
    "PATTERN",
    "GRPC METHOD",
    "CLUSTER",
    "POLICIES",
];

/// The table of a plan.
pub(super) fn of(plan: &Plan, switches: &Switches) -> String {
    let mut lines = vec![TITLES.map(str::to_owned)];
    lines.extend(plan.rows.iter().map(|row| cells(plan, row, switches)));
    let width = |column: usize| {
        lines
            .iter()
            .map(|cells| cells[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
    let line = |cells: &[String; 6]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

fn cells(plan: &Plan, row: &PlannedRow, switches: &Switches) -> [String; 6] {
    let methods: Vec<&str> = row.conditions.methods().collect();
    let method = if methods.is_empty() {
        "*".to_owned()
    } else {
        methods.join(",")
    };
    let grpc = match &row.action {
        Planned::Transcode { binding, .. } => binding.full_name().to_owned(),
        Planned::Stream { binding, .. } => format!("{} (streams)", binding.full_name()),
        Planned::Grpc(_) => "(gRPC passed through)".to_owned(),
        Planned::PassThrough => "(HTTP passed through)".to_owned(),
        Planned::Redirect(_) => "(redirected)".to_owned(),
        Planned::System(..) => "(answered by the gateway)".to_owned(),
        Planned::Waiting(what, _) => format!("(waiting for {what})"),
    };
    let clusters: Vec<&str> = plan.clusters(row).collect();
    let clusters = if clusters.is_empty() {
        "-".to_owned()
    } else {
        clusters.join(",")
    };
    [
        row.route.to_string(),
        method,
        row.pattern.clone(),
        grpc,
        clusters,
        policies(plan, row, switches),
    ]
}

fn policies(plan: &Plan, row: &PlannedRow, switches: &Switches) -> String {
    let mut policies = Vec::new();
    if !matches!(row.action, Planned::Redirect(_)) {
        policies.push(format!("timeout {:?}", row.timeout));
    }
    let first = plan.clusters(row).next();
    let cluster = plan
        .snapshot
        .clusters
        .iter()
        .find(|cluster| Some(cluster.name.as_str()) == first);
    policies.extend(cluster.into_iter().flat_map(|cluster| of_cluster(cluster)));
    if let Planned::Transcode { max_body, .. } = &row.action {
        policies.push(format!("body up to {max_body} bytes"));
    }
    let conditions = row.conditions.headers.len() + row.conditions.query.len();
    if conditions > 0 {
        policies.push(format!("{conditions} conditions"));
    }
    policies.extend(plan.route(row).into_iter().flat_map(of_route));
    let switched = row.source.and_then(|_| switches.get(&*row.route));
    policies.extend(switched.map(|to| format!("switched by hand to {}", to.cluster)));
    policies.join(", ")
}

/// What is on for the endpoints of a cluster.
fn of_cluster(cluster: &Cluster) -> Vec<String> {
    let policy = cluster.load_balancing.policy.as_str();
    let on = [
        (cluster.breaker.is_some(), "breaker"),
        (cluster.outlier_detection.is_some(), "outlier detection"),
        (cluster.health_check.is_some(), "health check"),
        (
            cluster.adaptive_concurrency.is_some(),
            "adaptive concurrency",
        ),
    ];
    let on = on.into_iter().filter_map(|(on, what)| on.then_some(what));
    std::iter::once(policy)
        .chain(on)
        .map(str::to_owned)
        .collect()
}

/// What a route does to requests beside sending them to a cluster; `explain` tells the rest of each.
fn of_route(route: &Route) -> Vec<String> {
    let retry = route.retry.as_ref();
    let limit = route.rate_limit.as_ref();
    let canary = route.canary.as_ref();
    let mirror = route.mirror.as_ref();
    let fallback: Vec<&str> = route.fallback.iter().map(|name| name.as_str()).collect();
    let on = |on: bool, what: &str| on.then(|| what.to_owned());
    let all = [
        (route.priority != Priority::Normal)
            .then(|| format!("priority {}", route.priority.as_str())),
        limit.map(|limit| format!("rate limit {}/{}", limit.requests, limit.per)),
        on(route.fault.is_some(), "fault"),
        split(route),
        on(route.hash_on.is_some(), "sticky"),
        canary.map(|canary| format!("canary {}", canary.cluster.as_str())),
        mirror.map(|mirror| format!("mirror {} to {}", mirror.share, mirror.cluster.as_str())),
        retry.map(|retry| format!("{} tries", retry.attempts)),
        route
            .hedge
            .as_ref()
            .map(|hedge| format!("hedge after {}", hedge.after)),
        (!fallback.is_empty()).then(|| format!("fallback {}", fallback.join(" then "))),
        on(route.rewrite.is_some(), "rewrite"),
        on(!route.request_headers.is_empty(), "request headers edited"),
        on(
            !route.response_headers.is_empty(),
            "response headers edited",
        ),
    ];
    all.into_iter().flatten().collect()
}

fn split(route: &Route) -> Option<String> {
    if route.destinations.only().is_some() || route.destinations.first().is_none() {
        return None;
    }
    let sides = route.destinations.iter();
    let sides = sides.map(|side| format!("{} {}", side.cluster.as_str(), side.weight));
    Some(format!("split {}", sides.collect::<Vec<_>>().join(" : ")))
}
