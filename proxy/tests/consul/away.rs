//! Consul itself dies, freezes, comes back, or was never there: what is known goes on serving, and everybody can see since when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use testkit::Consul;
use testkit::wait::{PATIENCE, eventually};

use super::load::Load;
use super::setup::{Gateway, SERVICE, config, counter, grpc, registered};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_while_consul_is_killed_and_started_again() {
    let mut consul = Consul::server().await;
    let (one, two) = (registered(&consul).await, registered(&consul).await);
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;
    gateway.expect_consul(true).await;
    let load = Load::start(gateway.http());

    let killed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    consul.kill().await;
    gateway.expect_consul(false).await;
    let labels = [("what", "cluster counter")];
    let since = gateway
        .metric("highpress_consul_since_timestamp_seconds", &labels)
        .await
        .unwrap();
    assert!(
        (killed - 0.1..killed + 5.0).contains(&since),
        "{killed} {since}"
    );
    gateway
        .program
        .line_with("Consul gives no answer to go by")
        .await;
    // Without Consul, what the gateway sees by itself still counts.
    two.kill().await;
    gateway.expect_usable(&[grpc(&one)]).await;

    consul.restart().await;
    gateway.expect_consul(true).await;
    gateway.program.line_with("Consul answers again").await;
    let three = registered(&consul).await;
    gateway.expect_usable(&[grpc(&one), grpc(&three)]).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_while_consul_is_frozen_and_that_is_noticed() {
    let consul = Consul::dev().await;
    let one = counter().await;
    consul.register(SERVICE, "one", grpc(&one), json!({})).await;
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    gateway.expect_usable(&[grpc(&one)]).await;
    let load = Load::start(gateway.http());
    consul.freeze().await;
    gateway.expect_consul(false).await;
    gateway.program.line_with("no answer within").await;
    assert_eq!(gateway.ready().await.0, 200);
    consul.thaw();
    gateway.expect_consul(true).await;
    let two = counter().await;
    consul.register(SERVICE, "two", grpc(&two), json!({})).await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_starts_from_disk_while_consul_is_away() {
    let mut consul = Consul::server().await;
    let one = counter().await;
    consul
        .register(
            SERVICE,
            "one",
            grpc(&one),
            json!({ "Weights": { "Passing": 5, "Warning": 1 } }),
        )
        .await;
    let text = config(&consul, "", "");
    let gateway = Gateway::start(&text).await;
    gateway.expect_usable(&[grpc(&one)]).await;
    let kept = gateway.directory.path().join("data/discovery/counter.json");
    eventually("the endpoints to be kept on disk", PATIENCE, async || {
        let text = std::fs::read_to_string(&kept).map_err(|error| error.to_string())?;
        if text.contains(&grpc(&one).to_string()) {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    gateway.program.kill().await;
    consul.kill().await;

    let Gateway { directory, .. } = gateway;
    let again = Gateway::start_in(directory, &text).await;
    assert_eq!(again.read().await, 200);
    assert_eq!(again.ready().await.0, 200);
    again.expect_consul(false).await;
    consul.restart().await;
    again.expect_consul(true).await;
    // A check that nobody has renewed for so long fails after a restart: with nobody else, its instance serves all the same.
    assert_eq!(again.read().await, 200);
    consul.set_health("one", "passing").await;
    again.expect_usable(&[grpc(&one)]).await;
    assert_eq!(again.read().await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_knows_nothing_starts_and_says_what_it_waits_for() {
    let mut consul = Consul::absent();
    let started = std::time::Instant::now();
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let (status, text) = gateway.ready().await;
    assert_eq!(status, 503);
    assert!(
        text.contains("endpoints of cluster counter") && text.contains(&consul.url()),
        "{text}"
    );
    assert_eq!(gateway.read().await, 503);
    consul.restart().await;
    let one = counter().await;
    consul.register(SERVICE, "one", grpc(&one), json!({})).await;
    gateway.expect_usable(&[grpc(&one)]).await;
    assert_eq!(gateway.ready().await.0, 200);
    assert_eq!(gateway.read().await, 200);
}
