//! Tokens with too few rights: the rule that is missing is named, the token never, and whoever serves goes on serving.

use serde_json::json;
use testkit::Consul;
use testkit::wait::{PATIENCE, eventually};

use super::mesh::{COUNTERS_RULES, GATEWAYS_RULES, Mesh, expect_line};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_rights_are_taken_away_under_load() {
    let consul = Consul::with_acls().await;
    let counters = consul.token(COUNTERS_RULES).await;
    let (policy, gateway) = policy_and_token(&consul, GATEWAYS_RULES).await;
    let mut mesh = Mesh::with_tokens(consul, &counters, &gateway).await;
    let load = mesh.load();
    change(
        &mesh.consul,
        &policy,
        "key_prefix \"\" { policy = \"read\" }",
    )
    .await;
    // The gateway learns of it with Consul's next answer.
    mesh.add().await;
    let left_out = &["`service:read`", "high-go-press-counter", "want of rights"];
    mesh.expect_line(left_out).await;
    // Those that were known are held, for as long as it takes; the new one cannot be known.
    let unknown = mesh.counters.pop().expect("it was added");
    held(&mesh, 3.0).await;
    mesh.expect_usable().await;
    load.goes_on(300).await;

    change(&mesh.consul, &policy, GATEWAYS_RULES).await;
    mesh.counters.push(unknown);
    mesh.expect_usable().await;
    held(&mesh, 0.0).await;
    load.goes_on(100).await;
    load.stop(&mesh.redis).await;
    assert!(!mesh.gateway.program.logs().contains(&gateway), "the token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_may_not_register_says_so_and_serves() {
    let consul = Consul::with_acls().await;
    let (policy, counters) = policy_and_token(&consul, COUNTERS_RULES).await;
    let gateway = consul.token(GATEWAYS_RULES).await;
    let mut mesh = Mesh::with_tokens(consul, &counters, &gateway).await;
    let load = mesh.load();
    change(
        &mesh.consul,
        &policy,
        "key_prefix \"\" { policy = \"read\" }",
    )
    .await;
    mesh.add().await;
    let poor = mesh.counters.pop().expect("it was added");
    expect_line(
        &poor,
        &[
            "403",
            "`service:write`",
            "high-go-press-counter",
            "which serves all the same",
        ],
    )
    .await;
    // The others cannot renew their checks, nor can the agent tell anybody that it heard nothing of them.
    for counter in &mesh.counters {
        expect_line(counter, &["403", "`service:write`"]).await;
    }
    load.goes_on(300).await;

    change(&mesh.consul, &policy, COUNTERS_RULES).await;
    mesh.counters.push(poor);
    mesh.expect_usable().await;
    load.goes_on(100).await;
    load.stop(&mesh.redis).await;
    for counter in &mesh.counters {
        assert!(!counter.logs().contains(&counters), "the token");
    }
}

/// Waits until so many endpoints are held back, by the metric.
async fn held(mesh: &Mesh, count: f64) {
    eventually(&format!("{count} held endpoints"), PATIENCE, async || {
        let labels = [("cluster", "counter")];
        match mesh.metric("highpress_endpoints_held", &labels).await {
            held if held == Some(count) => Ok(()),
            held => Err(format!("{held:?}")),
        }
    })
    .await;
}

/// The id of a new policy with these rules, and a token with it.
async fn policy_and_token(consul: &Consul, rules: &str) -> (String, String) {
    let policy = json!({ "Name": "changing", "Rules": rules });
    let made = consul.api("PUT", "/v1/acl/policy", &policy).await;
    let token = json!({ "Policies": [{ "Name": "changing" }] });
    let token = consul.api("PUT", "/v1/acl/token", &token).await;
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    (text(&made["ID"]), text(&token["SecretID"]))
}

async fn change(consul: &Consul, policy: &str, rules: &str) {
    let body = json!({ "Name": "changing", "Rules": rules });
    let path = format!("/v1/acl/policy/{policy}");
    consul.api("PUT", &path, &body).await;
}
