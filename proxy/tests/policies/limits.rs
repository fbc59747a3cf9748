//! Limits of a cluster: what is never exceeded, whoever asks, and what is carried all the same.

use std::time::Duration;

use testkit::Http1;
use testkit::backend::{Answer, Backend};
use testkit::http_backend::{HttpBackend, Step, answer};
use tokio::task::JoinSet;

use super::scripted::{Mesh, READ, always, ok};
use super::setup::{cluster, gateway};

const PLENTY: &str = "retry_budget: { ratio: 100%, min_per_second: 1000 }";

/// So many reads at once, each over a connection of its own; their statuses in order.
async fn together(mesh: &Mesh, count: usize, headers: &'static [(&'static str, &str)]) -> Vec<u16> {
    let mut reads = JoinSet::new();
    for _ in 0..count {
        let mut client = mesh.client().await;
        reads.spawn(async move { client.request("GET", READ, headers, None).await.status });
    }
    let mut statuses = reads.join_all().await;
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn a_hedge_is_a_request_in_flight_and_is_not_made_beyond_the_limit() {
    let slow = || always(ok().after(Duration::from_millis(400)));
    let backends = [slow().await, slow().await];
    let both = [&backends[0], &backends[1]];
    for (requests, tries) in [(2, 2), (3, 3), (4, 4)] {
        let before = backends[0].calls() + backends[1].calls();
        let cluster = format!("{PLENTY}, limits: {{ requests: {requests} }}");
        let mesh = Mesh::start(&both, &cluster, "hedge: { after: 20ms }").await;
        assert_eq!(together(&mesh, 2, &[]).await, [200, 200]);
        let made = backends[0].calls() + backends[1].calls() - before;
        assert_eq!(made, tries, "requests: {requests}");
    }
}

#[tokio::test]
async fn one_connection_carries_the_calls_of_all_workers() {
    let backend = always(ok().after(Duration::from_millis(20))).await;
    let cluster = "limits: { connections: 1 }";
    let mesh = Mesh::start(&[&backend], cluster, "").await;
    for _ in 0..5 {
        assert_eq!(together(&mesh, 20, &[]).await, [200; 20]);
        assert!(backend.open_connections() <= 1);
    }
}

#[tokio::test]
async fn requests_in_flight_and_waiting_are_as_many_as_it_says() {
    let hanging = always(Answer::Hang).await;
    let cluster = "limits: { requests: 5, pending: 3 }";
    let mesh = Mesh::start(&[&hanging], cluster, "").await;
    let soon = &[("x-request-timeout", "1500ms")];
    let statuses = together(&mesh, 20, soon).await;
    assert_eq!(statuses, [[503; 12].as_slice(), &[504; 8]].concat());
    drop(hanging);
    let slow = Backend::start(|_| ok().after(Duration::from_millis(800))).await;
    let mesh = Mesh::start(&[&slow], cluster, "").await;
    let statuses = together(&mesh, 20, &[]).await;
    assert_eq!(statuses, [[200; 8].as_slice(), &[503; 12]].concat());
    assert_eq!((slow.calls(), slow.most_in_flight()), (8, 5));
}

#[tokio::test]
async fn endpoints_that_have_as_much_as_they_may_are_waited_for() {
    let slow = Backend::start(|_| ok().after(Duration::from_millis(400))).await;
    let cluster = "limits: { pending: 3, per_endpoint: { requests: 2 } }";
    let mesh = Mesh::start(&[&slow], cluster, "").await;
    let statuses = together(&mesh, 20, &[]).await;
    assert_eq!(statuses, [[200; 5].as_slice(), &[503; 15]].concat());
    assert_eq!((slow.calls(), slow.most_in_flight()), (5, 2));
    let hanging = always(Answer::Hang).await;
    let mesh = Mesh::start(&[&hanging], cluster, "").await;
    let soon = &[("x-request-timeout", "1500ms")];
    let statuses = together(&mesh, 20, soon).await;
    assert_eq!(statuses, [[503; 15].as_slice(), &[504; 5]].concat());
}

#[tokio::test]
async fn requests_that_are_passed_through_wait_for_endpoints_too() {
    let slow = HttpBackend::start(|_| {
        let mut steps = vec![Step::Wait(Duration::from_millis(400))];
        steps.extend(answer(200, &[], "late"));
        steps
    })
    .await;
    let limits = ", limits: { pending: 3, per_endpoint: { requests: 2 } }";
    let clusters = [cluster("old", "http1", &[slow.address()], limits)];
    let routes = ["{ name: all, match: { path_prefix: / }, to: old }".to_owned()];
    let gateway = gateway(&clusters, &routes).await;
    let mut reads = JoinSet::new();
    for _ in 0..20 {
        let mut client = Http1::connect(gateway.http()).await;
        reads.spawn(async move { client.get("/x").await.status });
    }
    let mut statuses = reads.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 5].as_slice(), &[503; 15]].concat());
    assert_eq!(slow.requests(), 5);
    let (_, most) = slow.in_flight();
    assert_eq!(most, 2);
}
