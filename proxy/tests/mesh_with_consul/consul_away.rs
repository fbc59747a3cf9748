//! Consul itself is killed, loses everything, or falls silent: nobody notices but the operator.

use std::time::Duration;

use testkit::Consul;

use super::load::Load;
use super::mesh::{Mesh, expect_line};

/// How long Consul is silent: `CONSUL_SILENT=60 cargo nextest run ...` makes it a minute.
fn silence() -> Duration {
    let seconds = std::env::var("CONSUL_SILENT").ok();
    let seconds = seconds.map(|text| text.parse().expect("CONSUL_SILENT is in whole seconds"));
    Duration::from_secs(seconds.unwrap_or(12))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_is_killed_and_started_again() {
    let mut mesh = Mesh::start(Consul::server().await).await;
    let load = mesh.load();
    mesh.consul.kill().await;
    noticed(&mesh, "gives no answer to go by").await;
    load.goes_on(300).await;
    lose_one_without_consul(&mut mesh, &load).await;
    mesh.consul.restart().await;
    answers_again(&mut mesh, &load).await;
    load.stop(&mesh.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_is_started_again_and_has_forgotten_everything() {
    let mut mesh = Mesh::start(Consul::dev().await).await;
    let load = mesh.load();
    mesh.consul.kill().await;
    noticed(&mesh, "gives no answer to go by").await;
    mesh.consul.restart().await;
    mesh.expect_consul(true).await;
    // Empty at first, which is not believed; then all register again.
    mesh.expect_registered(3, 3).await;
    for counter in &mesh.counters {
        expect_line(
            counter,
            &["had forgotten this instance", "registered again"],
        )
        .await;
    }
    mesh.expect_usable().await;
    answers_again(&mut mesh, &load).await;
    load.stop(&mesh.redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_falls_silent_and_goes_on() {
    let mut mesh = Mesh::start(Consul::server().await).await;
    let load = mesh.load();
    mesh.consul.freeze().await;
    let silent = tokio::time::Instant::now() + silence();
    noticed(&mesh, "no answer within").await;
    lose_one_without_consul(&mut mesh, &load).await;
    tokio::time::sleep_until(silent).await;
    load.goes_on(100).await;
    // Nobody could renew a check meanwhile: all fail at once, which says nothing about the counters.
    mesh.consul.thaw();
    answers_again(&mut mesh, &load).await;
    load.stop(&mesh.redis).await;
}

/// The gateway and a counter say that Consul does not answer.
async fn noticed(mesh: &Mesh, why: &str) {
    mesh.expect_consul(false).await;
    mesh.expect_line(&["what is known goes on being used", why])
        .await;
    expect_line(&mesh.counters[0], &["Consul cannot be told"]).await;
}

/// What the gateway sees by itself counts all the same.
async fn lose_one_without_consul(mesh: &mut Mesh, load: &Load) {
    let killed = mesh.counters.remove(0);
    killed.kill().await;
    mesh.expect_usable().await;
    let address = killed.address("grpc").to_string();
    mesh.expect_line(&["an endpoint cannot be reached", &address])
        .await;
    load.goes_on(200).await;
}

/// Consul is listened to again: all are found, and who is added too.
async fn answers_again(mesh: &mut Mesh, load: &Load) {
    mesh.expect_consul(true).await;
    mesh.expect_line(&["Consul answers again", "away_for"])
        .await;
    mesh.expect_usable().await;
    mesh.add().await;
    mesh.expect_usable().await;
    load.goes_on(200).await;
}
