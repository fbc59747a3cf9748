//! `POST /api/v1/counter/batch`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Client, Expected, counter, fresh, incremented};

const PATH: &str = "/api/v1/counter/batch";

fn results(results: &[Value]) -> Expected<'static> {
    Expected::Data(json!({ "results": results, "total": results.len() }))
}

/// One result for each item, in their order.
pub async fn reads(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let (one, two, none) = (fresh("one"), fresh("two"), fresh("none"));
    for (id, delta) in [(&one, 11), (&two, -22)] {
        let body = json!({ "resource_id": id, "counter_type": "like", "delta": delta }).to_string();
        client
            .post(
                "/api/v1/counter/increment",
                body,
                &Expected::Data(incremented(id, "like", delta)),
            )
            .await;
    }
    let item = |id: &str, kind: &str| json!({ "resource_id": id, "counter_type": kind });
    let body = json!({ "items": [item(&two, "like"), item(&none, "like"), item(&one, "like"), item(&two, "view"), item(&two, "like")] });
    let expected = [
        counter(&two, "like", -22),
        counter(&none, "like", 0),
        counter(&one, "like", 11),
        counter(&two, "view", 0),
        counter(&two, "like", -22),
    ];
    client
        .post(PATH, body.to_string(), &results(&expected))
        .await;

    let odd = format!(
        r#" {{"x":[{{}}],"ITEMS":[{{"Counter_Type":"like","y":1,"RESOURCE_ID":"{one}"}}]}} "#
    );
    client
        .post(PATH, odd, &results(&[counter(&one, "like", 11)]))
        .await;
    client.done();
}

/// 1 to 1,000 items.
pub async fn limits(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    // As long as ids can be, so that the body is as large as a good one can be.
    let prefix = "é".repeat(123);
    let items = |count: usize| {
        (0..count).map(|n| json!({ "resource_id": format!("{prefix}{n:>10}"), "counter_type": "c".repeat(64) }))
    };
    let expected: Vec<Value> = (0..1000)
        .map(|n| counter(&format!("{prefix}{n:>10}"), &"c".repeat(64), 0))
        .collect();
    let body = |count| json!({ "items": items(count).collect::<Vec<_>>() }).to_string();
    client.post(PATH, body(1000), &results(&expected)).await;
    client.post(PATH, body(1), &results(&expected[..1])).await;
    client.post(PATH, body(1001), &Expected::Invalid).await;
    client.post(PATH, body(0), &Expected::Invalid).await;
    client.done();
}

/// What is refused with 400.
pub async fn refusals(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let good = r#"{"resource_id":"a","counter_type":"like"}"#;
    for body in [
        "",
        "[]",
        "{}",
        "null",
        r#"{"items":null}"#,
        r#"{"item":[]}"#,
        r#"{"items":{}}"#,
        r#"{"items":"a"}"#,
        r#"{"items":1}"#,
    ] {
        client.post(PATH, body, &Expected::Invalid).await;
    }
    let items = [
        "{}",
        "null",
        "1",
        "\"a\"",
        "[]",
        r#"{"resource_id":"a"}"#,
        r#"{"counter_type":"like"}"#,
        r#"{"resource_id":"","counter_type":"like"}"#,
        r#"{"resource_id":"a","counter_type":""}"#,
        r#"{"resource_id":1,"counter_type":"like"}"#,
        r#"{"resource_id":"a","counter_type":"a:b"}"#,
        r#"{"resource_id":"a\u0001","counter_type":"like"}"#,
    ];
    for item in items {
        client
            .post(
                PATH,
                format!(r#"{{"items":[{good},{item}]}}"#),
                &Expected::Invalid,
            )
            .await;
    }
    client
        .post(
            PATH,
            format!(r#"{{"items":[{good}]}} x"#),
            &Expected::Invalid,
        )
        .await;
    client
        .post(
            PATH,
            format!(r#"{{"items":[{good},]}}"#),
            &Expected::Invalid,
        )
        .await;
    client.done();
}
