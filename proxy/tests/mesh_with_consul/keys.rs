//! The configuration in Consul's KV store, edited well and badly, while increments and reads flow.

use serde_json::Value;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1};

use super::mesh::{Mesh, config};

const KEY: &str = "high-go-press/config/test/gateway";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_edits_come_into_force_and_bad_ones_change_nothing() {
    let mut mesh = Mesh::with_key(Consul::server().await, KEY).await;
    let load = mesh.load();
    for name in ["one", "two", "three"] {
        mesh.consul.put_key(KEY, &routes(&mesh, name)).await;
        expect_answers_from(&mesh, name).await;
    }
    mesh.expect_line(&["configuration in force"]).await;
    let good = settled(&mesh).await;

    let misspelt = routes(&mesh, "four").replace("timeout: 10s", "timeuot: 10s");
    for (bad, why) in [
        (misspelt, "routes[0].timeuot"),
        ("routes: [".to_owned(), KEY),
        ("routes: []\n".to_owned(), "routes: this list is empty"),
        (
            routes(&mesh, "four").replace("to: counter", "to: nowhere"),
            "there is no cluster `nowhere`",
        ),
    ] {
        mesh.consul.put_key(KEY, &bad).await;
        eventually(&format!("{why} to be refused"), PATIENCE, async || {
            let rejected = page(&mesh).await["rejected"].to_string();
            if rejected.contains(why) {
                Ok(())
            } else {
                Err(rejected)
            }
        })
        .await;
        mesh.expect_line(&[why]).await;
        expect_answers_from(&mesh, "three").await;
    }
    mesh.expect_line(&["configuration refused, the last good one stays", KEY])
        .await;
    assert_eq!(page(&mesh).await["version"], good["version"]);
    let rejected = [("result", "rejected")];
    let rejected = mesh
        .metric("highpress_config_reloads_total", &rejected)
        .await;
    assert!(rejected.is_some_and(|count| count >= 4.0), "{rejected:?}");
    load.goes_on(200).await;

    // A key that is bad, a Consul that dies and a counter that does so too: the last good version goes on.
    mesh.consul.kill().await;
    mesh.counters.remove(0).kill().await;
    mesh.expect_usable().await;
    expect_answers_from(&mesh, "three").await;
    load.goes_on(200).await;
    mesh.consul.restart().await;
    mesh.consul.put_key(KEY, &routes(&mesh, "five")).await;
    expect_answers_from(&mesh, "five").await;
    assert!(settled(&mesh).await["rejected"].is_null());
    mesh.expect_usable().await;
    load.goes_on(200).await;
    load.stop(&mesh.redis).await;
}

/// The routes of the file, whose answers say which version they are from.
fn routes(mesh: &Mesh, name: &str) -> String {
    let file = config(&mesh.consul, "");
    let (_, routes) = file.split_once("\nroutes:").expect("there are routes");
    format!("routes:{routes}    response_headers: {{ set: {{ x-version: {name} }} }}\n")
}

async fn expect_answers_from(mesh: &Mesh, name: &str) {
    eventually(
        &format!("answers of version {name}"),
        PATIENCE,
        async || {
            let mut client = Http1::connect(mesh.gateway.http()).await;
            let answer = client.get("/api/v1/counter/version/like").await;
            match answer.header("x-version") {
                Some(version) if version == name => Ok(()),
                other => Err(format!("{} from {other:?}", answer.status)),
            }
        },
    )
    .await;
}

/// The page `/config` once it tells of the version that requests have seen a moment before.
async fn settled(mesh: &Mesh) -> Value {
    eventually("the version to be told of", PATIENCE, async || {
        let page = page(mesh).await;
        match page["kv"]["modify_index"] == page["kv"]["latest_modify_index"] {
            true => Ok(page),
            false => Err(page),
        }
    })
    .await
}

/// The page `/config`.
async fn page(mesh: &Mesh) -> Value {
    let mut admin = Http1::connect(mesh.gateway.admin()).await;
    let json = [("accept", "application/json")];
    admin.request("GET", "/config", &json, None).await.json()
}
