//! Connections to endpoints: there before requests are, to a part of a large cluster only, gone when an endpoint is.

use std::collections::BTreeSet;
use std::time::Duration;

use testkit::Http1;
use testkit::backend::Backend;
use testkit::http_backend::{self, HttpBackend, Received, Step};
use testkit::wait::{PATIENCE, eventually};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::checked::{until_applied, until_out, until_usable};
use super::pass_setup::{get, http1};
use super::scripted::{Mesh, READ, always, ok};
use super::setup::MS;

async fn until_connected(backend: &Backend, connections: usize) {
    let what = format!("{connections} connections");
    eventually(&what, PATIENCE, || async {
        let open = backend.open_connections();
        (open == connections).then_some(()).ok_or(open)
    })
    .await;
}

/// Two workers, two connections; nobody has asked for anything yet.
#[tokio::test]
async fn connections_are_there_before_requests() {
    let (one, two) = (always(ok()).await, always(ok()).await);
    let mut mesh = Mesh::start(&[&one], "", "").await;
    until_connected(&one, 2).await;
    mesh.add(&[&two]);
    mesh.configure("", "");
    until_connected(&two, 2).await;
    until_usable(&mesh, 1, true).await;
    let before = two.connections();
    assert_eq!(mesh.reads(20).await, [200; 20]);
    assert_eq!((two.calls(), two.connections()), (10, before));
}

/// A listener that nobody serves takes connections and says nothing: requests neither wait for it nor fail.
#[tokio::test]
async fn requests_do_not_wait_for_a_new_endpoint() {
    let one = always(ok()).await;
    let mut mesh = Mesh::start(&[&one], "", "").await;
    mesh.reads(2).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    mesh.add_address(silent.local_addr().unwrap());
    mesh.configure("", "");
    until_out(&mesh, 1, "new: its connections are being opened").await;
    let mut client = mesh.client().await;
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(client.get(READ).await.status, 200);
        let took = began.elapsed();
        assert!(took < Duration::from_millis(900), "{took:?}");
    }
    until_out(&mesh, 1, "cannot connect: no connection within 1s").await;
    assert_eq!(mesh.reads(10).await, [200; 10]);
}

#[tokio::test]
async fn cold_endpoints_are_connected_to_by_requests() {
    let one = always(ok()).await;
    let cold = "load_balancing: { policy: round_robin, connections: { warm: false } }";
    let mesh = Mesh::start(&[&one], cold, "").await;
    assert_eq!(one.open_connections(), 0);
    mesh.reads(1).await;
    assert_eq!(one.open_connections(), 1);
}

/// Who has taken requests, by index.
fn asked(backends: &[Backend], before: &[usize]) -> BTreeSet<usize> {
    let asked = backends.iter().zip(before).enumerate();
    asked
        .filter(|(_, (backend, before))| backend.calls() > **before)
        .map(|(index, _)| index)
        .collect()
}

fn calls(backends: &[Backend]) -> Vec<usize> {
    backends.iter().map(Backend::calls).collect()
}

#[tokio::test]
async fn a_large_cluster_is_used_in_part_and_who_falls_out_is_replaced() {
    let mut backends = Vec::new();
    for _ in 0..8 {
        backends.push(always(ok()).await);
    }
    let all: Vec<_> = backends.iter().collect();
    let three = "load_balancing: { policy: round_robin, connections: { max_endpoints: 3 } }";
    let mesh = Mesh::start(&all, three, "").await;
    drop(all);
    let before = calls(&backends);
    assert_eq!(mesh.reads(30).await, [200; 30]);
    let subset = asked(&backends, &before);
    assert_eq!(subset.len(), 3);
    for (index, backend) in backends.iter().enumerate() {
        // The others were looked at once, to know whether anything is there.
        if subset.contains(&index) {
            until_connected(backend, 2).await;
        } else {
            until_connected(backend, 0).await;
        }
    }
    // A reload that leaves the cluster alone leaves the subset alone.
    mesh.configure(three, "retry: {}");
    until_applied(&mesh, 1).await;
    let before = calls(&backends);
    assert_eq!(mesh.reads(30).await, [200; 30]);
    assert_eq!(asked(&backends, &before), subset);

    let gone = *subset.first().unwrap();
    backends[gone].stop().await;
    until_out(&mesh, gone, "cannot connect").await;
    let before = calls(&backends);
    assert_eq!(mesh.reads(30).await, [200; 30]);
    let replaced = asked(&backends, &before);
    assert_eq!(replaced.len(), 3);
    assert_eq!(subset.intersection(&replaced).count(), 2);

    // Who has stood in is let go when it is not needed any more.
    backends[gone].restart().await;
    until_usable(&mesh, gone, true).await;
    let stand_in = *replaced.difference(&subset).next().unwrap();
    until_connected(&backends[stand_in], 0).await;
    let before = calls(&backends);
    assert_eq!(mesh.reads(30).await, [200; 30]);
    assert_eq!(asked(&backends, &before), subset);
}

#[tokio::test]
async fn connections_to_who_left_close_when_its_requests_have_ended() {
    let stays = always(ok()).await;
    let leaves = Backend::start(|_| ok().after(1500 * MS)).await;
    let mut mesh = Mesh::start(&[&leaves, &stays], "", "").await;
    until_connected(&leaves, 2).await;
    let address = mesh.gateway.http();
    // By turns: one of these two goes to the slow one.
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(async move { Http1::connect(address).await.get(READ).await.status }))
        .collect();
    eventually("a request to be under way", PATIENCE, || async {
        (leaves.calls() == 1).then_some(()).ok_or("none")
    })
    .await;
    mesh.remove(&leaves);
    mesh.configure("", "");
    until_connected(&leaves, 1).await;
    for one in waiting {
        assert_eq!(one.await.unwrap(), 200);
    }
    until_connected(&leaves, 0).await;
}

/// Over HTTP too: the first requests to an endpoint that joins find a connection of their worker's.
#[tokio::test]
async fn who_joins_a_cluster_of_http_is_connected_to_before_it_takes_requests() {
    let one = HttpBackend::start(|_| http_backend::ok("one")).await;
    let two = HttpBackend::start(|_| http_backend::ok("two")).await;
    let gateway = http1(&[&one], "", "").await;
    assert_eq!(get(&gateway).await.text(), "one");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let both = format!("\"{}\", \"{}\"", one.address(), two.address());
    gateway.configure(&text.replace(&format!("\"{}\"", one.address()), &both));
    let began = Instant::now();
    // It has been looked at once, too, to know whether anything is there.
    let both_workers = async || match two.connections() {
        (so_far, 2, _) => Ok(so_far),
        other => Err(format!("{other:?}")),
    };
    let so_far = eventually("both workers to be connected", PATIENCE, both_workers).await;
    assert_eq!(two.requests(), 0, "nobody was asked before");
    let answered = async || match get(&gateway).await.text() {
        text if text == "two" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("it to take requests", PATIENCE, answered).await;
    for _ in 0..10 {
        get(&gateway).await;
    }
    // They wait for five seconds, in which a machine may have been busy with something else.
    if began.elapsed() < Duration::from_secs(4) {
        let (connections, open, _) = two.connections();
        assert_eq!((connections, open), (so_far, 2), "those are used");
    }
}

/// Pools of HTTP keep what is idle for a minute, but not to an endpoint that has left.
#[tokio::test]
async fn idle_connections_of_http_close_when_the_endpoint_has_left() {
    let stays = HttpBackend::start(|_| http_backend::ok("stays")).await;
    let leaves = HttpBackend::start(|request: &Received| {
        let mut steps = http_backend::ok("leaves");
        if request.target == "/slow" {
            steps.insert(0, Step::Wait(1500 * MS));
        }
        steps
    })
    .await;
    let gateway = http1(&[&leaves, &stays], "", "").await;
    for _ in 0..8 {
        assert_eq!(get(&gateway).await.status, 200);
    }
    let open = || leaves.connections().1;
    assert!(open() > 0, "an idle connection is kept");
    let address = gateway.http();
    let slow: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn(async move { Http1::connect(address).await.get("/slow").await.text() })
        })
        .collect();
    eventually("a request to be under way", PATIENCE, || async {
        (leaves.in_flight().0 == 1).then_some(()).ok_or("none")
    })
    .await;
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.configure(&text.replace(&format!("\"{}\", ", leaves.address()), ""));
    let mut said = Vec::new();
    for one in slow {
        said.push(one.await.unwrap());
    }
    said.sort();
    assert_eq!(said, ["leaves", "stays"]);
    eventually(
        "idle connections to close",
        Duration::from_secs(10),
        || async {
            match open() {
                0 => Ok(()),
                open => Err(open),
            }
        },
    )
    .await;
    assert_eq!(get(&gateway).await.text(), "stays");
}
