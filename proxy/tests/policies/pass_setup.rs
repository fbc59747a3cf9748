//! What tests of requests that are passed through share: one route to one cluster of scripted HTTP backends.

use std::net::SocketAddr;

use testkit::http_backend::{HttpBackend, Received, Step, answer, ok};
use testkit::mesh::Gateway;
use testkit::{Http1, Response};

use super::setup::{cluster, gateway};

/// For tests of something else than the budget.
pub(super) const AMPLE: &str = ", retry_budget: { min_per_second: 100 }";

/// A gateway before these endpoints, asked in turn, with further keys of the cluster and of the route.
pub(super) async fn before(protocol: &str, at: &[SocketAddr], more: &str, route: &str) -> Gateway {
    let in_turn = format!(", load_balancing: {{ policy: round_robin }}{more}");
    let clusters = [cluster("old", protocol, at, &in_turn)];
    let routes = [format!(
        "{{ name: rest, match: {{ path_prefix: / }}, to: old, timeout: 4s{route} }}"
    )];
    gateway(&clusters, &routes).await
}

pub(super) async fn http1(backends: &[&HttpBackend], more: &str, route: &str) -> Gateway {
    let at: Vec<_> = backends.iter().map(|backend| backend.address()).collect();
    before("http1", &at, more, route).await
}

pub(super) async fn get(gateway: &Gateway) -> Response {
    Http1::connect(gateway.http()).await.get("/").await
}

pub(super) async fn send(
    gateway: &Gateway,
    method: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut client = Http1::connect(gateway.http()).await;
    client.request(method, "/", headers, Some(body)).await
}

/// Fails the first `failures` requests, whoever sends them.
pub(super) async fn failing_first(failures: usize, failure: Vec<Step>) -> HttpBackend {
    HttpBackend::start(move |request: &Received| match request.number < failures {
        true => failure.clone(),
        false => ok("done"),
    })
    .await
}

pub(super) fn unwell() -> Vec<Step> {
    answer(503, &[], "unwell")
}
