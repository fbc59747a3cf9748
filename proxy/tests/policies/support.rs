//! What the tests of destinations share: backends that say who they are, and a gateway in front of them.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::http_backend::{HttpBackend, ok};
use testkit::mesh::Gateway;
use testkit::{Http1, Metrics, Program, Response};

/// An address at which nothing listens.
pub(super) async fn closed() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A backend that answers its name.
pub(super) async fn named(name: &'static str) -> HttpBackend {
    HttpBackend::start(move |_| ok(name)).await
}

/// A cluster that speaks HTTP, as mesh.yaml has it.
pub(super) fn http(name: &str, address: SocketAddr) -> String {
    format!("  - {{ name: {name}, protocol: http1, endpoints: {{ static: [\"{address}\"] }} }}\n")
}

/// A cluster that speaks gRPC.
pub(super) fn grpc(name: &str, address: SocketAddr) -> String {
    http(name, address).replace("http1", "grpc")
}

/// A gateway with these clusters, and one route whose map goes on so.
pub(super) async fn gateway(clusters: &[String], route: &str) -> Gateway {
    Gateway::start(&mesh(clusters, route)).await
}

/// Its mesh.yaml.
pub(super) fn mesh(clusters: &[String], route: &str) -> String {
    let clusters = clusters.concat();
    format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: 127.0.0.1:0 }}\nthreads: 2\n\
         descriptors: [builtin]\nclusters:\n{clusters}routes:\n  - name: counters\n{route}"
    )
}

/// A route that transcodes the counter service.
pub(super) const TRANSCODED: &str =
    "    transcode: { services: [counter.CounterService], profile: phase1 }\n";
/// A route that passes everything through.
pub(super) const PASSED: &str = "    match: { path_prefix: / }\n";
/// A path that both take.
pub(super) const PATH: &str = "/api/v1/counter/r/like";

/// The body of an answer to a GET with these headers.
pub(super) async fn get(client: &mut Http1, headers: &[(&str, &str)]) -> String {
    client.request("GET", PATH, headers, None).await.text()
}

/// A page of the admin port as JSON.
pub(super) async fn page(gateway: &Gateway, path: &str) -> Value {
    admin(gateway, path).await.json()
}

/// A page of the admin port.
pub(super) async fn admin(gateway: &Gateway, path: &str) -> Response {
    let mut client = Http1::connect(gateway.admin()).await;
    let json = [("accept", "application/json, text/plain")];
    client.request("GET", path, &json, None).await
}

/// A count of the gateway.
pub(super) async fn count(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> u64 {
    Metrics::scrape(gateway.admin())
        .await
        .counter_value(name, labels)
}

/// `highpress-proxy switch` against this gateway: its exit status and what it wrote.
pub(super) async fn switch(gateway: &Gateway, args: &[&str]) -> (Option<i32>, String) {
    let admin = format!("http://{}", gateway.admin());
    let program = Program::new("highpress-proxy").arg("switch").args(args);
    let ended = program.args(["--admin", &admin]).run().await;
    (ended.status.code(), ended.output)
}
