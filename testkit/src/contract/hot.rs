//! `GET /api/v1/counter/hot/{counter_type}`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, Expected, fresh, incremented};
use crate::http1::Http1;
use crate::wait::eventually;

fn list(kind: &str, period: &str, ranked: &[(&str, i64)]) -> Value {
    let row = |(rank, (id, value)): (usize, &(&str, i64))| json!({ "rank": rank, "resource_id": id, "counter_type": kind, "value": value });
    let rows: Vec<Value> = (1..).zip(ranked).map(row).collect();
    json!({ "counter_type": kind, "period": period, "counters": rows, "total": rows.len() })
}

/// The ranking of real increments: by value, ties by id, as many as asked for, in every period.
pub async fn ranks(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let kind = fresh("kind");
    let deltas = [
        ("d", 5),
        ("b", 7),
        ("a", 5),
        ("c", 9),
        ("e", -3),
        ("d", 1),
        ("d", -1),
        ("c", 11),
    ];
    let mut values = BTreeMap::new();
    for (id, delta) in deltas {
        let value = values
            .entry(id)
            .and_modify(|value| *value += delta)
            .or_insert(delta);
        increment(&mut client, id, &kind, delta, *value).await;
    }
    let ranked = [("c", 20), ("b", 7), ("a", 5), ("d", 5), ("e", -3)];
    let path = format!("/api/v1/counter/hot/{kind}");
    settled(gateway, &path, &list(&kind, "day", &ranked)).await;
    client
        .get(&path, &Expected::Data(list(&kind, "day", &ranked)))
        .await;
    for period in ["hour", "day", "week", "month", "all"] {
        let all = Expected::Data(list(&kind, period, &ranked));
        client.get(&format!("{path}?period={period}"), &all).await;
        let three = Expected::Data(list(&kind, period, &ranked[..3]));
        client
            .get(&format!("{path}?limit=3&period={period}"), &three)
            .await;
    }
    let unknown = format!("{path}?limit=1000&unknown=x");
    client
        .get(&unknown, &Expected::Data(list(&kind, "day", &ranked)))
        .await;
    let empty = fresh("empty");
    let none = Expected::Data(list(&empty, "day", &[]));
    client
        .get(&format!("/api/v1/counter/hot/{empty}"), &none)
        .await;
    client.done();
}

/// Ten unless asked otherwise.
pub async fn default_limit(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let kind = fresh("kind");
    let ids: Vec<String> = (0..12).map(|n| format!("id{n:02}")).collect();
    for id in &ids {
        increment(&mut client, id, &kind, 1, 1).await;
    }
    let ranked: Vec<(&str, i64)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
    let path = format!("/api/v1/counter/hot/{kind}");
    settled(
        gateway,
        &format!("{path}?limit=12"),
        &list(&kind, "day", &ranked),
    )
    .await;
    client
        .get(&path, &Expected::Data(list(&kind, "day", &ranked[..10])))
        .await;
    let eleven = Expected::Data(list(&kind, "day", &ranked[..11]));
    client.get(&format!("{path}?limit=11"), &eleven).await;
    client.done();
}

async fn increment(client: &mut Client, id: &str, kind: &str, delta: i64, value: i64) {
    let body = json!({ "resource_id": id, "counter_type": kind, "delta": delta }).to_string();
    let expected = Expected::Data(incremented(id, kind, value));
    client
        .post("/api/v1/counter/increment", body, &expected)
        .await;
}

/// Analytics may be a moment behind the counts.
async fn settled(gateway: SocketAddr, path: &str, data: &Value) {
    eventually(
        "the ranking to hold all increments",
        Duration::from_secs(10),
        || async {
            let found = Http1::connect(gateway).await.get(path).await.json();
            if found["data"] == *data {
                Ok(())
            } else {
                Err(found)
            }
        },
    )
    .await;
}

/// Limits and periods that do not exist.
pub async fn refusals(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    for limit in [
        "0",
        "-1",
        "1001",
        "abc",
        "1.5",
        "1e1",
        "",
        "99999999999",
        "%20",
    ] {
        client
            .get(
                &format!("/api/v1/counter/hot/like?limit={limit}"),
                &Expected::Invalid,
            )
            .await;
    }
    for period in ["year", "Day", "days", "24h", "1"] {
        client
            .get(
                &format!("/api/v1/counter/hot/like?period={period}"),
                &Expected::Invalid,
            )
            .await;
    }
    client
        .get(
            &format!("/api/v1/counter/hot/{}", "t".repeat(65)),
            &Expected::Invalid,
        )
        .await;
    client
        .get("/api/v1/counter/hot/a:b", &Expected::Invalid)
        .await;
    client.done();
}
