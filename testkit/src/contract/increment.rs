//! `POST /api/v1/counter/increment`.

use std::net::SocketAddr;

use serde_json::json;

use super::{Client, Expected, counter, fresh, incremented};
use crate::http1::Response;

const PATH: &str = "/api/v1/counter/increment";
const FAILED: Expected<'_> = Expected::Error(500, "Failed to increment counter");

/// What counts, and how much.
pub async fn counts(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let id = fresh("counts");
    // The delta as it is written, and what the counter then holds.
    let deltas = [
        (r#","delta":1"#, 1),
        (r#","delta":41"#, 42),
        ("", 43),
        (r#","delta":0"#, 44),
        (r#","delta":null"#, 45),
        (r#","delta":-50"#, -5),
        (r#","DELTA":6"#, 1),
        (r#","more":{"delta":[1,"x",null,1e9]},"delta":2"#, 3),
    ];
    for (delta, value) in deltas {
        let body = format!(r#"{{"resource_id":"{id}","counter_type":"like"{delta}}}"#);
        client
            .post(PATH, body, &Expected::Data(incremented(&id, "like", value)))
            .await;
    }
    client
        .get(
            &format!("/api/v1/counter/{id}/like"),
            &Expected::Data(counter(&id, "like", 3)),
        )
        .await;
    client
        .get(
            &format!("/api/v1/counter/{id}/view"),
            &Expected::Data(counter(&id, "view", 0)),
        )
        .await;
    client.done();
}

/// The same request, written differently.
pub async fn spellings(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let id = fresh("spellings");
    let bodies = [
        format!(r#"{{"counter_type":"like","resource_id":"{id}"}}"#),
        format!(r#"{{"Resource_Id":"{id}","COUNTER_TYPE":"like"}}"#),
        format!(" \r\n\t{{ \"resource_id\" : \"{id}\" , \"counter_type\" : \"\\u006cike\" }} \n"),
        format!(r#"{{"resource_id":"{id}","counter_type":"like","unknown":null,"":0}}"#),
    ];
    for (value, body) in (1..).zip(bodies) {
        client
            .post(PATH, body, &Expected::Data(incremented(&id, "like", value)))
            .await;
    }
    // What curl sends by itself, and no type at all: the monolith read JSON whatever it was called.
    let body = format!(r#"{{"resource_id":"{id}","counter_type":"like"}}"#);
    for (value, headers) in (5..).zip([
        &[("content-type", "application/x-www-form-urlencoded")][..],
        &[],
    ]) {
        let expected = Expected::Data(incremented(&id, "like", value));
        client
            .check("POST", PATH, headers, Some(body.as_bytes()), &expected)
            .await;
    }
    client.done();
}

/// Ids at and over their limits.
pub async fn ids(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let unique = fresh("ids");
    let long = |length: usize| format!("{unique}{}", "x".repeat(length - unique.len()));
    // Two bytes each; one more letter first where the rest is odd.
    let accents = |length: usize| {
        let rest = length - unique.len();
        format!("{unique}{}{}", "x".repeat(rest % 2), "é".repeat(rest / 2))
    };
    let colons = format!("{unique}:a:b/c d{{e}}");
    let emoji = format!("{unique}-日本-🦀");
    for id in [&long(256), &accents(256), &colons, &emoji] {
        let body = json!({ "resource_id": id, "counter_type": "like" }).to_string();
        client
            .post(PATH, body, &Expected::Data(incremented(id, "like", 1)))
            .await;
    }
    for kind in [
        "t".repeat(64),
        "a b".to_owned(),
        "é".repeat(32),
        "a/b".to_owned(),
    ] {
        let body = json!({ "resource_id": unique, "counter_type": kind }).to_string();
        client
            .post(PATH, body, &Expected::Data(incremented(&unique, &kind, 1)))
            .await;
    }
    for id in [
        long(257),
        accents(258),
        String::new(),
        "a\nb".to_owned(),
        "a\0".to_owned(),
        "\u{7f}".to_owned(),
    ] {
        let body = json!({ "resource_id": id, "counter_type": "like" }).to_string();
        client.post(PATH, body, &Expected::Invalid).await;
    }
    for kind in [
        "t".repeat(65),
        "é".repeat(33),
        String::new(),
        "a:b".to_owned(),
        "{".to_owned(),
        "}".to_owned(),
        "\t".to_owned(),
    ] {
        let body = json!({ "resource_id": unique, "counter_type": kind }).to_string();
        client.post(PATH, body, &Expected::Invalid).await;
    }
    client.done();
}

/// What is no document of the right form.
pub async fn documents(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let id = fresh("documents");
    let good = format!(r#"{{"resource_id":"{id}","counter_type":"like"}}"#);
    for body in NOT_DOCUMENTS {
        client.post(PATH, body, &Expected::Invalid).await;
    }
    for after in [" x", "{}", ",", "]", "\0", &good] {
        client
            .post(PATH, format!("{good}{after}"), &Expected::Invalid)
            .await;
    }
    let missing = [
        r#"{"resource_id":"a"}"#,
        r#"{"counter_type":"like"}"#,
        r#"{"delta":1}"#,
    ];
    // The monolith knew its own names only.
    let camel = r#"{"resourceId":"a","counterType":"like"}"#;
    for body in missing.into_iter().chain([camel]) {
        client.post(PATH, body, &Expected::Invalid).await;
    }
    client
        .get(
            &format!("/api/v1/counter/{id}/like"),
            &Expected::Data(counter(&id, "like", 0)),
        )
        .await;
    client.done();
}

/// What is of another type than its field.
pub async fn types(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let id = fresh("types");
    for wrong in ["1", "1.5", "true", "{}", "[]", "[\"a\"]", "null", "\"\""] {
        let body = format!(r#"{{"resource_id":{wrong},"counter_type":"like"}}"#);
        client.post(PATH, body, &Expected::Invalid).await;
        let body = format!(r#"{{"resource_id":"{id}","counter_type":{wrong}}}"#);
        client.post(PATH, body, &Expected::Invalid).await;
    }
    for delta in NOT_INTEGERS {
        let body = format!(r#"{{"resource_id":"{id}","counter_type":"like","delta":{delta}}}"#);
        client.post(PATH, body, &Expected::Invalid).await;
    }
    client
        .get(
            &format!("/api/v1/counter/{id}/like"),
            &Expected::Data(counter(&id, "like", 0)),
        )
        .await;
    client.done();
}

const NOT_DOCUMENTS: [&[u8]; 15] = [
    b"",
    b" ",
    b"\x00",
    b"not json",
    b"{",
    b"[]",
    b"\"text\"",
    b"1",
    b"null",
    b"{}",
    b"{'resource_id':'a','counter_type':'like'}",
    b"{\"resource_id\"}",
    b"{\"resource_id\":\"a\",\"counter_type\":\"like\",}",
    b"{\"resource_id\":\"a\nb\",\"counter_type\":\"like\"}",
    b"{\"resource_id\":\"\xff\xfe\",\"counter_type\":\"like\"}",
];

const NOT_INTEGERS: [&str; 20] = [
    "\"1\"",
    "\"\"",
    "1.0",
    "1.5",
    "1e2",
    "1E0",
    "true",
    "false",
    "{}",
    "[]",
    "[1]",
    "01",
    "+1",
    "--1",
    "0x1",
    "NaN",
    "9223372036854775808",
    "-9223372036854775809",
    "1e400",
    "99999999999999999999999999",
];

/// The ends of an int64: reached exactly, never passed.
pub async fn overflow(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    for (end, step) in [(i64::MAX, 1), (i64::MIN, -1)] {
        let id = fresh("overflow");
        let body = |delta: i64| {
            format!(r#"{{"resource_id":"{id}","counter_type":"like","delta":{delta}}}"#)
        };
        client
            .post(
                PATH,
                body(end),
                &Expected::Data(incremented(&id, "like", end)),
            )
            .await;
        client.post(PATH, body(step), &FAILED).await;
        client
            .get(
                &format!("/api/v1/counter/{id}/like"),
                &Expected::Data(counter(&id, "like", end)),
            )
            .await;
        client
            .post(
                PATH,
                body(-step),
                &Expected::Data(incremented(&id, "like", end - step)),
            )
            .await;
    }
    client.done();
}

/// A key makes a request countable once: the repeat has the first answer, another request with the key is refused.
pub async fn idempotency(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let (id, key) = (fresh("idempotency"), fresh("key"));
    let body = |delta| format!(r#"{{"resource_id":"{id}","counter_type":"like"{delta}}}"#);
    let sent = [
        (key.as_str(), "", 1, None),
        (&key, r#","delta":1"#, 1, Some("true")),
        ("another", r#","delta":5"#, 6, None),
        (&key, r#","delta":0"#, 1, Some("true")),
    ];
    let mut first: Option<Response> = None;
    for (key, delta, value, replayed) in sent {
        let expected = incremented(&id, "like", value);
        // A repeat has the answer that was given, its second too.
        let given = first.as_ref().filter(|_| replayed.is_some());
        let expected = given.map_or(expected, |given| given.json()["data"].clone());
        let answer = with_key(&mut client, key, &body(delta), &Expected::Data(expected)).await;
        let same = given.is_none_or(|given| given.text() == answer.text());
        if answer.header("idempotency-replayed") != replayed || !same {
            let why = format!("replayed should be {replayed:?}, the same as {given:?}");
            client.note(PATH, &why, &answer);
        }
        first.get_or_insert(answer);
    }
    let refused = [
        (key.as_str(), Expected::Error(422, "Idempotency key reused")),
        ("", Expected::Invalid),
        ("two words", Expected::Invalid),
    ];
    for (key, expected) in refused {
        with_key(&mut client, key, &body(r#","delta":2"#), &expected).await;
    }
    let read = format!("/api/v1/counter/{id}/like");
    client
        .get(&read, &Expected::Data(counter(&id, "like", 6)))
        .await;
    client.done();
}

async fn with_key(client: &mut Client, key: &str, body: &str, expected: &Expected<'_>) -> Response {
    let headers = [("Idempotency-Key", key)];
    client
        .check("POST", PATH, &headers, Some(body.as_bytes()), expected)
        .await
}
