//! A token with too few rights: the missing rule is named, the token is not, and nobody loses an endpoint over it.

use serde_json::json;
use testkit::Consul;

use super::setup::{Gateway, SERVICE, config, counter, grpc};

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
