//! The gateway's own place, from the agent that it talks to: the node's name and the zone in the node's metadata.

use serde_json::{Value, json};
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Running};

use super::load::Load;
use super::setup::{Gateway, SERVICE, config, counter, grpc, reads};

const BY_ZONE: &str = "    load_balancing: { policy: round_robin, locality: zone }\n";

/// A mesh of two zones, with an agent and a counter in each.
struct Zones {
    server: Consul,
    agents: [Consul; 2],
    counters: [Running; 2],
}

async fn zones() -> Zones {
    let server = Consul::server().await;
    let agents = [
        server.client_in("node-a", "a").await,
        server.client_in("node-b", "b").await,
    ];
    let counters = [counter().await, counter().await];
    for (agent, one) in agents.iter().zip(&counters) {
        agent.register(SERVICE, "one", grpc(one), json!({})).await;
    }
    Zones {
        server,
        agents,
        counters,
    }
}

fn asking(consul: &Consul, rules: &str) -> String {
    let protocol = "    protocol: grpc\n";
    config(consul, "", "").replace(protocol, &format!("{protocol}{rules}"))
}

/// Waits until the gateway knows where it is.
async fn expect_place(gateway: &Gateway, node: &str, zone: &str) {
    let wanted = json!({ "node": node, "zone": zone });
    eventually("the gateway to know its place", PATIENCE, async || {
        let clusters = gateway.clusters().await;
        match &clusters[0]["gateway"] {
            known if *known == wanted => Ok(()),
            other => Err(other.clone()),
        }
    })
    .await;
}

/// Everything goes to this one and nothing to the other.
async fn expect_only(one: &Running, other: &Running, gateway: &Gateway) {
    let before = (reads(one).await, reads(other).await);
    let load = Load::start(gateway.http());
    load.reads(200).await;
    load.stop().await;
    assert_eq!(reads(other).await, before.1, "of the other zone");
    assert!(reads(one).await >= before.0 + 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_node_says_in_which_zone_the_gateway_is() {
    let zones = zones().await;
    let both = zones.counters.each_ref().map(grpc);
    for (at, (node, zone)) in [("node-a", "a"), ("node-b", "b")].into_iter().enumerate() {
        let (own, other) = (&zones.counters[at], &zones.counters[1 - at]);
        let gateway = Gateway::start(&asking(&zones.agents[at], BY_ZONE)).await;
        gateway.expect_usable(&both).await;
        expect_place(&gateway, node, zone).await;
        expect_only(own, other, &gateway).await;
        let logs = gateway.program.logs();
        assert!(
            logs.contains("the agent says where the gateway is"),
            "{logs}"
        );

        // Its zone has nobody for a while.
        zones.agents[at].set_health("one", "critical").await;
        gateway.expect_usable(&[both[1 - at]]).await;
        expect_only(other, own, &gateway).await;
        zones.agents[at].set_health("one", "passing").await;
        gateway.expect_usable(&both).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_configuration_says_of_the_place_goes_before() {
    let zones = zones().await;
    let both = zones.counters.each_ref().map(grpc);
    let asked = asking(&zones.agents[0], BY_ZONE);
    let gateway = Gateway::start(&format!("locality: {{ zone: b }}\n{asked}")).await;
    gateway.expect_usable(&both).await;
    expect_only(&zones.counters[1], &zones.counters[0], &gateway).await;
    // Of what it does not say, the agent is believed; and all of it when it says nothing any more.
    let by_node = BY_ZONE.replace("locality: zone", "locality: node");
    let asked = asking(&zones.agents[0], &by_node);
    gateway.reconfigure(&format!("locality: {{ zone: b }}\n{asked}"));
    expect_place(&gateway, "node-a", "b").await;
    gateway.reconfigure(&asked);
    expect_place(&gateway, "node-a", "a").await;
    expect_only(&zones.counters[0], &zones.counters[1], &gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_knows_no_zone_or_is_away_takes_nobody_out() {
    let mut zones = zones().await;
    let both = zones.counters.each_ref().map(grpc);
    let gateway = Gateway::start(&asking(&zones.server, BY_ZONE)).await;
    gateway.expect_usable(&both).await;
    gateway
        .program
        .line_with("has no `zone` in its metadata")
        .await;
    let shown = gateway.clusters().await[0]["gateway"].clone();
    assert_eq!(shown, json!({ "node": "server", "zone": Value::Null }));
    let load = Load::start(gateway.http());
    load.reads(200).await;
    load.stop().await;
    for one in &zones.counters {
        assert!(reads(one).await > 50, "nobody is near, so all are alike");
    }

    // An agent that is away at the start, and comes.
    zones.agents[0].kill().await;
    let gateway = Gateway::start(&asking(&zones.agents[0], BY_ZONE)).await;
    gateway
        .program
        .line_with("the agent does not say where the gateway is")
        .await;
    zones.agents[0].restart().await;
    expect_place(&gateway, "node-a", "a").await;
}
