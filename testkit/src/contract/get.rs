//! `GET /api/v1/counter/{resource_id}/{counter_type}`.

use std::net::SocketAddr;

use serde_json::json;

use super::{Client, Expected, counter, fresh, incremented};

/// Every counter can be read, whatever its id; one that was never written is 0.
pub async fn reads(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let unique = fresh("get");
    // The id as it is, and as a path writes it.
    let ids = [
        (unique.clone(), unique.clone()),
        (format!("{unique} b"), format!("{unique}%20b")),
        (format!("{unique}/b"), format!("{unique}%2Fb")),
        (format!("{unique}:b"), format!("{unique}:b")),
        (format!("{unique}+b"), format!("{unique}+b")),
        (format!("{unique}%b"), format!("{unique}%25b")),
        (
            format!("{unique}é🦀"),
            format!("{unique}%C3%A9%f0%9f%a6%80"),
        ),
        (format!("{unique}?#&="), format!("{unique}%3F%23%26%3D")),
        (format!("{unique}{{}}"), format!("{unique}%7B%7D")),
    ];
    for (id, path) in ids {
        let path = format!("/api/v1/counter/{path}/like");
        client
            .get(&path, &Expected::Data(counter(&id, "like", 0)))
            .await;
        let body = json!({ "resource_id": id, "counter_type": "like", "delta": -7 }).to_string();
        client
            .post(
                "/api/v1/counter/increment",
                body,
                &Expected::Data(incremented(&id, "like", -7)),
            )
            .await;
        client
            .get(&path, &Expected::Data(counter(&id, "like", -7)))
            .await;
    }
    // Words of other paths are ids like any other, and a query that nobody knows is no matter.
    for id in ["increment", "batch"] {
        let kind = fresh("kind");
        client
            .get(
                &format!("/api/v1/counter/{id}/{kind}"),
                &Expected::Data(counter(id, &kind, 0)),
            )
            .await;
    }
    let unknown = format!("/api/v1/counter/{unique}/view?unknown=1&x");
    client
        .get(&unknown, &Expected::Data(counter(&unique, "view", 0)))
        .await;
    client.done();
}

/// Ids that break the rules.
pub async fn refusals(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let paths = [
        format!("{}/like", "x".repeat(257)),
        format!("{}/like", "%C3%A9".repeat(129)),
        "a%00/like".to_owned(),
        "a%0A/like".to_owned(),
        "%FF%FE/like".to_owned(),
        format!("a/{}", "t".repeat(65)),
        "a/b:c".to_owned(),
        "a/b%3Ac".to_owned(),
        "a/%7B".to_owned(),
        "a/b%7D".to_owned(),
    ];
    for path in paths {
        client
            .get(&format!("/api/v1/counter/{path}"), &Expected::Invalid)
            .await;
    }
    client.done();
}
