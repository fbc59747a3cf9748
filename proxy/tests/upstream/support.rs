//! Clusters made of scripted backends, and calls to them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highpress_proxy::upstream::{Call, CallError, Cluster, Method, Reply, Terms, Upstreams};
use http::{HeaderName, HeaderValue};
use testkit::backend::framed;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A deadline that only a test that hangs meets.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// The clusters of a configuration, this text under its key `clusters`.
pub(crate) fn clusters(text: &str) -> Vec<Arc<mesh_config::model::Cluster>> {
    // A configuration needs a route, and that one a cluster.
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0}}]\n\
         routes: [{{name: all, match: {{path_prefix: /}}, to: routed}}]\n\
         clusters:\n  - {{name: routed, protocol: http1, endpoints: {{static: [\"127.0.0.1:1\"]}}}}\n{text}"
    );
    let mut clusters = mesh_config::parse(&text, Path::new("/"), "test.yaml")
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
        .clusters;
    clusters.remove(0);
    clusters
}

/// One entry of that text.
pub(crate) fn entry(name: &str, addresses: &[SocketAddr], more: &str) -> String {
    let addresses: Vec<_> = addresses
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    let more = if more.is_empty() {
        String::new()
    } else {
        format!(", {more}")
    };
    format!(
        "  - {{name: {name}, protocol: grpc, endpoints: {{static: [{}]}}, connect_timeout: 1s{more}}}\n",
        addresses.join(", ")
    )
}

/// A cluster named `c` of these backends.
pub(crate) fn cluster(addresses: &[SocketAddr], more: &str) -> (Upstreams, Arc<Cluster>) {
    let upstreams = Upstreams::new(1, Handle::current());
    upstreams.apply(&clusters(&entry("c", addresses, more)));
    let cluster = upstreams.get("c").unwrap();
    (upstreams, cluster)
}

/// Calls `/test.Service/Method` with the message `ask`.
pub(crate) async fn call(cluster: &Arc<Cluster>, within: Duration) -> Result<Reply, CallError> {
    call_with(cluster, within, &[], b"ask", 4 << 20).await
}

pub(crate) async fn call_with(
    cluster: &Arc<Cluster>,
    within: Duration,
    metadata: &[(HeaderName, HeaderValue)],
    message: &[u8],
    max_response: usize,
) -> Result<Reply, CallError> {
    let method = Method::new("/test.Service/Method").unwrap();
    let call = Call {
        method: &method,
        metadata,
        message: framed(message),
        coding: None,
        max_response,
        terms: Terms::until(Instant::now() + within),
    };
    cluster.unary(0, call).await
}
