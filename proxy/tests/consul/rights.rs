//! A token with too few rights: the missing rule is named, the token is not, and nobody loses an endpoint over it.

use std::time::Duration;

use serde_json::json;
use testkit::Consul;
use testkit::wait::{PATIENCE, eventually};

use super::load::Load;
use super::setup::{Gateway, SERVICE, config, counter, grpc};

const READ: &str =
    "service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named() {
    let consul = Consul::with_acls().await;
    let one = counter().await;
    consul.register(SERVICE, "one", grpc(&one), json!({})).await;
    let poor = consul.token("key_prefix \"\" { policy = \"read\" }").await;
    let gateway = Gateway::start(&config(&consul, &poor, "")).await;
    let line = gateway.program.line_with("want of rights").await;
    assert!(
        line.contains("service:read") && line.contains(SERVICE),
        "{line}"
    );
    let line = gateway.program.line_with("`service:write`").await;
    assert!(line.contains("high-go-press-gateway"), "{line}");
    assert!(!gateway.program.logs().contains(&poor));

    let unknown = "99999999-2222-3333-4444-555555555555";
    let gateway = Gateway::start(&config(&consul, unknown, "")).await;
    let line = gateway.program.line_with("403").await;
    assert!(line.contains("`service:"), "{line}");
    assert!(!gateway.program.logs().contains(unknown));
    gateway.expect_consul(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_taken_away_take_no_endpoint_out() {
    let consul = Consul::with_acls().await;
    let (one, two) = (counter().await, counter().await);
    consul.register(SERVICE, "one", grpc(&one), json!({})).await;
    consul.register(SERVICE, "two", grpc(&two), json!({})).await;
    let policy = json!({ "Name": "gateway", "Rules": READ });
    let made = consul.api("PUT", "/v1/acl/policy", &policy).await;
    let token = json!({ "Policies": [{ "Name": "gateway" }] });
    let token = consul.api("PUT", "/v1/acl/token", &token).await;
    let secret = token["SecretID"].as_str().unwrap();
    let gateway = Gateway::start(&config(&consul, secret, "")).await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;
    let load = Load::start(gateway.http());

    let path = format!("/v1/acl/policy/{}", made["ID"].as_str().unwrap());
    let rules = "key_prefix \"\" { policy = \"read\" }";
    consul
        .api("PUT", &path, &json!({ "Name": "gateway", "Rules": rules }))
        .await;
    // No change of the service tells of it: Consul says so with its next answer.
    eventually(
        "the missing right to be named",
        PATIENCE + PATIENCE,
        async || {
            let logs = gateway.program.logs();
            if logs.contains("want of rights") {
                Ok(())
            } else {
                Err(logs)
            }
        },
    )
    .await;
    // Longer than anything is held back for.
    tokio::time::sleep(Duration::from_secs(12)).await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;

    consul
        .api("PUT", &path, &json!({ "Name": "gateway", "Rules": READ }))
        .await;
    consul.set_health("one", "critical").await;
    gateway.expect_usable(&[grpc(&two)]).await;
    load.stop().await;
}
