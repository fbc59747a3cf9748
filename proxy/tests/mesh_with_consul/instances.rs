//! Counters that die, leave, come, fall silent and fail their checks, while increments and reads flow.

use serde_json::{Value, json};
use testkit::wait::PATIENCE;
use testkit::{Consul, Metrics};

use super::mesh::{Mesh, SERVICE, expect_line};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_is_killed_and_one_that_is_added() {
    let mut mesh = Mesh::start(Consul::server().await).await;
    let load = mesh.load();
    load.goes_on(100).await;
    let killed = mesh.counters.remove(0);
    let gone = killed.address("grpc");
    killed.kill().await;
    // The gateway sees it by itself, and says why; Consul hears of it when the check is not renewed.
    mesh.expect_usable().await;
    mesh.expect_line(&["an endpoint cannot be reached", &gone.to_string()])
        .await;
    mesh.expect_out(gone, &["critical in Consul", "TTL expired"])
        .await;
    mesh.expect_line(&[
        "an endpoint takes no requests any more",
        &gone.to_string(),
        "TTL expired",
    ])
    .await;
    mesh.expect_registered(2, 3).await;

    let added = mesh.add().await;
    mesh.expect_usable().await;
    mesh.expect_line(&[
        "an endpoint takes requests from now on",
        &added.to_string(),
        "cause=\"Consul\"",
    ])
    .await;
    load.goes_on(300).await;
    let metrics = Metrics::scrape(mesh.counters[2].address("admin")).await;
    let served = metrics.counter_value("highgopress_grpc_requests_total", &[]);
    assert!(served > 10, "the added counter served {served} calls");
    load.stop(&mesh.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_leaves() {
    let mut mesh = Mesh::start(Consul::dev().await).await;
    let load = mesh.load();
    load.goes_on(100).await;
    let leaving = mesh.counters.remove(0);
    let gone = leaving.address("grpc").to_string();
    let status = leaving.stop_within(PATIENCE).await;
    assert_eq!(status.code(), Some(0));
    mesh.expect_usable().await;
    mesh.expect_registered(2, 2).await;
    // It says that it drains before it is gone.
    mesh.expect_line(&[
        "an endpoint takes no requests any more",
        &gone,
        "critical in Consul",
        "drain",
    ])
    .await;
    load.goes_on(200).await;
    load.stop(&mesh.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_somebody_deregisters() {
    let mut mesh = Mesh::start(Consul::dev().await).await;
    let load = mesh.load();
    load.goes_on(100).await;
    // Registered by hand, it stays away.
    let by_hand = mesh.counters.remove(0);
    let address = by_hand.address("grpc");
    for (id, _) in mesh.consul.instances(SERVICE).await {
        mesh.consul.deregister(&id).await;
    }
    mesh.expect_registered(3, 3).await;
    for counter in std::iter::once(&by_hand).chain(&mesh.counters) {
        expect_line(
            counter,
            &["had forgotten this instance", "registered again"],
        )
        .await;
    }
    let own = instance_at(&mesh, address.port()).await;
    by_hand.freeze().await;
    mesh.consul.deregister(&own).await;
    mesh.expect_usable().await;
    mesh.expect_line(&[
        "an endpoint takes no requests any more",
        &address.to_string(),
        "not in Consul any more",
    ])
    .await;
    load.goes_on(200).await;
    load.stop(&mesh.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_falls_silent_fails_its_check_and_comes_back() {
    let mut mesh = Mesh::start(Consul::dev().await).await;
    let load = mesh.load();
    load.goes_on(100).await;
    let silent = mesh.counters.remove(0);
    silent.freeze().await;
    mesh.expect_out(
        silent.address("grpc"),
        &["critical in Consul", "TTL expired"],
    )
    .await;
    mesh.expect_usable().await;
    load.goes_on(200).await;
    // What it was sent before is executed now, and has long been counted by another: under one key it counts once.
    silent.thaw();
    mesh.counters.push(silent);
    mesh.expect_usable().await;
    load.goes_on(200).await;
    load.stop(&mesh.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_whose_check_fails_though_it_serves() {
    let mut mesh = Mesh::start(Consul::dev().await).await;
    let load = mesh.load();
    let failing = mesh.counters.remove(0);
    let address = failing.address("grpc");
    // A check of the operator's own, beside the counter's.
    let service = instance_at(&mesh, address.port()).await;
    let check = json!({ "Name": "disk", "ID": "disk", "ServiceID": service, "TTL": "10m", "Status": "critical" });
    mesh.consul
        .api("PUT", "/v1/agent/check/register", &check)
        .await;
    mesh.expect_usable().await;
    mesh.expect_out(address, &["critical in Consul: disk"])
        .await;
    mesh.expect_line(&[
        "takes no requests",
        &address.to_string(),
        "critical in Consul",
    ])
    .await;
    load.goes_on(200).await;
    mesh.consul
        .api("PUT", "/v1/agent/check/pass/disk", &Value::Null)
        .await;
    mesh.counters.push(failing);
    mesh.expect_usable().await;
    // In maintenance, which is on purpose, and out of it.
    let failing = mesh.counters.remove(2);
    let maintenance =
        |on: bool| format!("/v1/agent/service/maintenance/{service}?enable={on}&reason=upgrade");
    mesh.consul
        .api("PUT", &maintenance(true), &Value::Null)
        .await;
    mesh.expect_out(address, &["in maintenance in Consul: upgrade"])
        .await;
    mesh.expect_line(&["takes no requests", "in maintenance in Consul: upgrade"])
        .await;
    load.goes_on(200).await;
    mesh.consul
        .api("PUT", &maintenance(false), &Value::Null)
        .await;
    mesh.counters.push(failing);
    mesh.expect_usable().await;
    load.stop(&mesh.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_policy_nothing_fails_that_reached_no_counter() {
    let mut mesh = Mesh::without_retries(Consul::dev().await).await;
    let load = mesh.load();
    load.goes_on(200).await;
    // Who leaves has time to say so, and finishes what it has begun.
    let leaving = mesh.counters.remove(0);
    assert_eq!(leaving.stop_within(PATIENCE).await.code(), Some(0));
    mesh.expect_usable().await;
    mesh.add().await;
    mesh.expect_usable().await;
    load.goes_on(200).await;
    let load = load.pause().await;
    // Who is killed while nothing is under way leaves nothing unanswered.
    mesh.counters.remove(0).kill().await;
    let load = load.resume();
    load.goes_on(200).await;
    mesh.expect_usable().await;
    load.stop(&mesh.redis).await;
}

/// The id under which Consul knows the counter at this port.
async fn instance_at(mesh: &Mesh, port: u16) -> String {
    let found = mesh
        .consul
        .get(&format!("/v1/health/service/{SERVICE}"))
        .await;
    let found = found.as_array().expect("a list");
    let at_port = found.iter().find(|one| one["Service"]["Port"] == port);
    let id = at_port.expect("the counter is known")["Service"]["ID"].as_str();
    id.expect("an id").to_owned()
}
