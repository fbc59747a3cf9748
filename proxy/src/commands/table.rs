//! The compiled routing table as text, one row a line, in columns.

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
        Planned::Stream(binding) => {
            format!("{} (streams: not in this version)", binding.full_name())
        }
        Planned::PassThrough => "(HTTP passed through)".to_owned(),
        Planned::Redirect(_) => "(redirected)".to_owned(),
        Planned::System(..) => "(answered by the gateway)".to_owned(),
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
    let mut policies = vec![format!("timeout {:?}", row.timeout)];
    let first = plan.clusters(row).next();
    let cluster = plan
        .snapshot
        .clusters
        .iter()
        .find(|cluster| Some(cluster.name.as_str()) == first);
    policies.extend(cluster.map(|cluster| cluster.load_balancing.policy.as_str().to_owned()));
    if let Planned::Transcode { max_body, .. } = &row.action {
        policies.push(format!("body up to {max_body} bytes"));
    }
    let conditions = row.conditions.headers.len() + row.conditions.query.len();
    if conditions > 0 {
        policies.push(format!("{conditions} conditions"));
    }
    let switched = row.source.and_then(|_| switches.get(&*row.route));
    policies.extend(switched.map(|to| format!("switched by hand to {}", to.cluster)));
    policies.join(", ")
}
