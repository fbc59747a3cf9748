//! What the policies' tests share.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::mesh::Gateway;
use testkit::{Metrics, eventually};

pub(super) const MS: Duration = Duration::from_millis(1);

/// A gateway with these clusters and routes, a list item each, and a counter service's descriptors.
pub(super) async fn gateway(clusters: &[String], routes: &[String]) -> Gateway {
    let list =
        |items: &[String]| -> String { items.iter().map(|item| format!("  - {item}\n")).collect() };
    Gateway::start(&format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         descriptors: [builtin]\n\
         clusters:\n{}routes:\n{}",
        list(clusters),
        list(routes)
    ))
    .await
}

/// A cluster of that protocol, with further keys.
pub(super) fn cluster(name: &str, protocol: &str, endpoints: &[SocketAddr], more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
    let endpoints = endpoints.join(", ");
    format!(
        "{{ name: {name}, protocol: {protocol}, endpoints: {{ static: [{endpoints}] }}{more} }}"
    )
}

/// Waits until a counter has this value: an answer can be read before it is counted.
pub(super) async fn counted(gateway: &Gateway, name: &str, labels: &[(&str, &str)], wanted: u64) {
    let what = format!("{name} {labels:?} to be {wanted}");
    eventually(&what, Duration::from_secs(10), || async {
        let metrics = Metrics::scrape(gateway.admin()).await;
        match metrics.counter_value(name, labels) {
            value if value == wanted => Ok(()),
            other => Err(format!("it is {other}")),
        }
    })
    .await;
}
