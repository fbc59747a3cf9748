//! `- kv: KEY`, with a real Consul.

use testkit::Consul;
use testkit::echo::Echo;
use testkit::mesh::Gateway;
use testkit::wait::{PATIENCE, eventually};

use super::setup::{answers, config, get, json, orders, ready, waits_for};

const KEY: &str = "high-go-press/descriptors/orders";

#[tokio::test]
async fn a_key_is_followed_and_what_is_wrong_with_it_changes_nothing() {
    let consul = Consul::dev().await;
    let (one, two) = (orders(&["Get"], ""), orders(&["Get", "Cancel"], ""));
    let backend = Echo::start(&two).await;
    let at = format!("consul: {{ address: \"{}\" }}", consul.url());
    let mut gateway = Gateway::start(&config(&format!("kv: {KEY}"), backend.address, &at)).await;
    waits_for(
        &gateway,
        &format!("the descriptors in Consul's key {KEY}: there is no such key"),
    )
    .await;
    assert_eq!(get(&gateway, "/v1/orders/7/get").await.0, 503);

    consul.put_bytes(KEY, &one).await;
    answers(&gateway, "/v1/orders/7/get", 200).await;
    ready(&gateway).await;
    consul.put_bytes(KEY, &two).await;
    answers(&gateway, "/v1/orders/7/cancel", 200).await;

    consul.put_bytes(KEY, b"no descriptors at all").await;
    eventually("it is refused", PATIENCE, || async {
        let shown = json(&gateway, "/descriptors").await[1].clone();
        match shown["refused"][0].as_str() {
            Some(why) if why.contains("descriptors[1]") => Ok(()),
            _ => Err(shown.to_string()),
        }
    })
    .await;
    assert_eq!(get(&gateway, "/v1/orders/7/cancel").await.0, 200);
    consul.delete_key(KEY).await;
    eventually("its end is told", PATIENCE, || async {
        let shown = json(&gateway, "/descriptors").await[1].clone();
        match shown["failure"].as_str() {
            Some("there is no such key") => Ok(()),
            _ => Err(shown.to_string()),
        }
    })
    .await;
    assert_eq!(get(&gateway, "/v1/orders/7/cancel").await.0, 200);

    gateway.program.terminate();
    gateway.program.exit_within(PATIENCE).await;
    drop(consul);
    gateway.restart().await;
    answers(&gateway, "/v1/orders/7/cancel", 200).await;
}
