//! Many instances that vanish at once and unexplained are held for a while, unless they refuse connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::Consul;
use testkit::wait::{PATIENCE, eventually};

use super::load::Load;
use super::setup::{Gateway, SERVICE, config, counter, grpc};

/// Registers in the catalogue, on a node that is not the agent's: it can vanish with all that is on it.
async fn on_node(consul: &Consul, id: &str, address: SocketAddr) {
    let body = json!({
        "Node": "outside", "Address": "127.0.0.1",
        "Service": { "ID": id, "Service": SERVICE, "Address": address.ip().to_string(), "Port": address.port() },
    });
    consul.api("PUT", "/v1/catalog/register", &body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_deregistration_is_held_back_for_ten_seconds() {
    let consul = Consul::dev().await;
    let counters = [counter().await, counter().await, counter().await];
    let all: Vec<SocketAddr> = counters.iter().map(grpc).collect();
    for (at, address) in all.iter().enumerate() {
        on_node(&consul, &format!("c{at}"), *address).await;
    }
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    gateway.expect_usable(&all).await;
    let load = Load::start(gateway.http());

    consul
        .api(
            "PUT",
            "/v1/catalog/deregister",
            &json!({ "Node": "outside" }),
        )
        .await;
    let vanished = Instant::now();
    gateway.program.line_with("held back").await;
    let endpoints = gateway.endpoints().await;
    assert!(
        endpoints
            .iter()
            .all(|(_, usable, reasons)| *usable && reasons.contains("held: ")),
        "{endpoints:?}"
    );
    let held = gateway
        .metric("highpress_endpoints_held", &[("cluster", "counter")])
        .await;
    assert_eq!(held, Some(3.0));
    // One that refuses connections is gone at once.
    counters[0].kill().await;
    gateway.expect_usable(&all[1..]).await;
    let known = gateway.endpoints().await.len();
    assert_eq!(known, 2, "it is dropped, not merely unusable");
    assert!(
        vanished.elapsed() < Duration::from_secs(8),
        "{:?}",
        vanished.elapsed()
    );
    // Back in the catalogue, one is held no longer.
    on_node(&consul, "c1", all[1]).await;
    eventually("one that is not held", PATIENCE, async || {
        let endpoints = gateway.endpoints().await;
        let held = endpoints
            .iter()
            .filter(|(.., reasons)| reasons.contains("held: "))
            .count();
        if held == 1 {
            Ok(())
        } else {
            Err(format!("{endpoints:?}"))
        }
    })
    .await;
    gateway.expect_usable(&all[1..2]).await;
    let over = vanished.elapsed().as_secs_f64();
    assert!((9.5..13.0).contains(&over), "held for {over} s");
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_critical_before_is_not_held() {
    let consul = Consul::dev().await;
    let counters = [counter().await, counter().await, counter().await];
    for (at, one) in counters.iter().enumerate() {
        consul
            .register(SERVICE, &format!("c{at}"), grpc(one), json!({}))
            .await;
    }
    let gateway = Gateway::start(&config(&consul, "", "")).await;
    gateway
        .expect_usable(&[grpc(&counters[0]), grpc(&counters[1]), grpc(&counters[2])])
        .await;
    for id in ["c1", "c2"] {
        consul.set_health(id, "critical").await;
    }
    gateway.expect_usable(&[grpc(&counters[0])]).await;
    for id in ["c1", "c2"] {
        consul.deregister(id).await;
    }
    eventually(
        "one endpoint to be left",
        Duration::from_secs(5),
        async || match gateway.endpoints().await {
            one if one.len() == 1 => Ok(()),
            more => Err(format!("{more:?}")),
        },
    )
    .await;
    assert!(!gateway.program.logs().contains("held back"));
}
