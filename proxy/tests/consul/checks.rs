//! The gateway's own checks beside Consul's: each says what it knows, and an endpoint is usable when neither objects.

use serde_json::json;
use testkit::Consul;
use testkit::wait::{PATIENCE, eventually};

use super::setup::{Gateway, SERVICE, config, counter, grpc};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_consul_says_and_what_the_gateway_sees_stand_side_by_side() {
    let consul = Consul::dev().await;
    let counters = [counter().await, counter().await, counter().await];
    for (id, one) in ["one", "two", "three"].into_iter().zip(&counters) {
        consul.register(SERVICE, id, grpc(one), json!({})).await;
    }
    let all = counters.each_ref().map(grpc);
    let check = "    protocol: grpc\n    health_check: { interval: 200ms }\n";
    let config = config(&consul, "", "").replace("    protocol: grpc\n", check);
    let gateway = Gateway::start(&config).await;
    gateway.expect_usable(&all).await;

    // It is there, but does not answer: Consul, which does not ask it, goes on passing it.
    counters[0].freeze().await;
    gateway.expect_usable(&all[1..]).await;
    let reasons = async |wanted: &[&str]| {
        let what = format!("the reasons to be {wanted:?}");
        eventually(&what, PATIENCE, async || {
            let endpoints = gateway.endpoints().await;
            let found = endpoints.iter().find(|one| one.0 == all[0].to_string());
            let said = found
                .map(|(.., reasons)| reasons.clone())
                .unwrap_or_default();
            let both = wanted.iter().all(|one| said.contains(one));
            (both && said.contains("Consul") == (wanted.len() > 1))
                .then_some(())
                .ok_or(said)
        })
        .await;
    };
    reasons(&["check: timeout after 500ms"]).await;
    for _ in 0..20 {
        assert_eq!(gateway.read().await, 200);
    }
    consul.set_health("one", "critical").await;
    reasons(&["check: timeout after 500ms", "critical in Consul"]).await;

    // One is not enough to be back.
    counters[0].thaw();
    gateway.program.line_with("passes its checks again").await;
    gateway.expect_usable(&all[1..]).await;
    consul.set_health("one", "passing").await;
    gateway.expect_usable(&all).await;
}
