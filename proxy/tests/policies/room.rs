//! The limit on connections makes requests wait, in every lane, and never keeps them from an endpoint that is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use testkit::Http1;
use testkit::backend::Backend;
use testkit::http_backend::{HttpBackend, Received, Step, answer};
use testkit::mesh::Gateway;

use super::scripted::{Mesh, ok, unavailable};
use super::setup::{MS, cluster, gateway};
use super::support::{PASSED, PATH, TRANSCODED};

const PARALLEL: usize = 6;
const EACH: usize = 20;

/// A gateway whose one route, transcoded or not, goes to these backends of HTTP.
async fn before(backends: &[&HttpBackend], route: &str, more: &str) -> Gateway {
    let at: Vec<_> = backends.iter().map(|backend| backend.address()).collect();
    let route = route.trim();
    let (key, map) = route.split_once(": ").unwrap();
    let routes = [format!("{{ name: r, {key}: {map}, to: c, timeout: 8s }}")];
    gateway(&[cluster("c", "http1", &at, more)], &routes).await
}

/// What many requests of some clients at once are answered.
async fn statuses(gateway: &Gateway) -> Vec<u16> {
    let address = gateway.http();
    let client = move || async move {
        let mut statuses = Vec::new();
        for _ in 0..EACH {
            // Some refusals end the connection.
            let mut client = Http1::connect(address).await;
            statuses.push(client.get(PATH).await.status);
        }
        statuses
    };
    let clients: Vec<_> = (0..PARALLEL).map(|_| tokio::spawn(client())).collect();
    let mut all = Vec::new();
    for one in clients {
        all.extend(one.await.unwrap());
    }
    all
}

async fn slow() -> HttpBackend {
    HttpBackend::start(|_| vec![Step::Wait(3 * MS), answer(200, &[], "{}").remove(0)]).await
}

#[tokio::test]
async fn requests_wait_for_a_connection_whoever_keeps_the_idle_ones() {
    for route in [TRANSCODED, PASSED] {
        let backend = slow().await;
        let gateway = before(&[&backend], route, ", limits: { connections: 2 }").await;
        assert_eq!(statuses(&gateway).await, [200; PARALLEL * EACH], "{route}");
        assert!(backend.connections().1 <= 2, "{:?}", backend.connections());
    }
}

#[tokio::test]
async fn an_endpoints_own_limit_makes_requests_wait_as_many_as_may() {
    for route in [TRANSCODED, PASSED] {
        let backend = slow().await;
        let limits = ", limits: { per_endpoint: { connections: 1 } }";
        let gateway = before(&[&backend], route, limits).await;
        assert_eq!(statuses(&gateway).await, [200; PARALLEL * EACH], "{route}");
        let none_waits = ", limits: { pending: 0, per_endpoint: { connections: 1 } }";
        let backend =
            HttpBackend::start(|_| vec![Step::Wait(300 * MS), answer(200, &[], "{}").remove(0)])
                .await;
        let gateway = before(&[&backend], route, none_waits).await;
        let all = statuses(&gateway).await;
        assert!(all.contains(&200) && all.contains(&503), "{route} {all:?}");
        assert!(
            all.iter().all(|status| [200, 503].contains(status)),
            "{all:?}"
        );
    }
}

/// Two endpoints share one connection, which the first has; then it is ejected.
#[tokio::test]
async fn an_ejected_endpoint_leaves_its_connections_to_the_others() {
    let more = ", limits: { connections: 1 }, load_balancing: { policy: round_robin }, \
                outlier_detection: { consecutive_failures: 1, base_ejection: 60s, max_ejection: 60s }, panic_threshold: 0%";
    for route in [TRANSCODED, PASSED] {
        let ill = Arc::new(AtomicBool::new(false));
        let is_ill = Arc::clone(&ill);
        let first = HttpBackend::start(move |_: &Received| match is_ill.load(SeqCst) {
            true => answer(503, &[], "{}"),
            false => answer(200, &[], "{}"),
        })
        .await;
        let second = slow().await;
        let gateway = before(&[&first, &second], route, more).await;
        let mut client = Http1::connect(gateway.http()).await;
        while first.requests() == 0 {
            assert_eq!(client.get(PATH).await.status, 200);
        }
        ill.store(true, SeqCst);
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(client.get(PATH).await.status);
        }
        assert!(
            statuses.iter().filter(|status| **status != 200).count() <= 1,
            "{route} {statuses:?}"
        );
        assert!(second.requests() >= 8, "{route} {statuses:?}");
    }
}

#[tokio::test]
async fn an_ejected_endpoint_of_grpc_leaves_its_connections_too() {
    let more = "limits: { connections: 1 }, load_balancing: { policy: round_robin, connections: { warm: false } }, \
                outlier_detection: { consecutive_failures: 1, base_ejection: 60s, max_ejection: 60s }, panic_threshold: 0%";
    let ill = Arc::new(AtomicBool::new(false));
    let is_ill = Arc::clone(&ill);
    let first = Backend::start(move |_| match is_ill.load(SeqCst) {
        true => unavailable(),
        false => ok(),
    })
    .await;
    let second = Backend::start(|_| ok()).await;
    let mesh = Mesh::start(&[&first, &second], more, "").await;
    while first.calls() == 0 {
        mesh.reads(1).await;
    }
    ill.store(true, SeqCst);
    let statuses = mesh.reads(10).await;
    assert!(
        statuses.iter().filter(|status| **status != 200).count() <= 1,
        "{statuses:?}"
    );
    assert!(second.calls() >= 8, "{statuses:?}");
}
