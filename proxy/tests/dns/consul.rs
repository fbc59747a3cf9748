//! Consul's own DNS, which knows instances, their ports and which of them pass.

use std::net::SocketAddr;

use serde_json::json;
use testkit::{Consul, Running};

use super::setup::{Gateway, counter_at, grpc};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_consul_are_followed_by_srv_records() {
    let consul = Consul::dev().await;
    let mut counters: Vec<Running> = Vec::new();
    for at in 0..5 {
        let one = counter_at("127.0.0.1:0").await;
        consul
            .register("counter", &format!("c{at}"), grpc(&one), json!({}))
            .await;
        counters.push(one);
    }
    let all: Vec<SocketAddr> = counters.iter().map(grpc).collect();
    for scheme in ["", "tcp://"] {
        let gateway = Gateway::start(&format!(
            "{{ name: counter.service.consul, type: srv, resolvers: [\"{scheme}{}\"] }}",
            consul.dns()
        ))
        .await;
        gateway.expect_known(&all).await;
        assert_eq!(gateway.read().await, 200);
        consul.set_health("c0", "critical").await;
        gateway.expect_known(&all[1..]).await;
        consul.set_health("c0", "passing").await;
        gateway.expect_known(&all).await;
    }
    let host = Gateway::start(&format!(
        "{{ name: \"counter.service.consul:{}\", type: a, resolvers: [\"{}\"] }}",
        all[0].port(),
        consul.dns()
    ))
    .await;
    host.expect_known(&all[..1]).await;
    assert_eq!(host.read().await, 200);
}
