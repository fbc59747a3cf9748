//! Clients that speak the Connect protocol: unary calls and streams, in JSON and protobuf, over HTTP/1.1 and HTTP/2.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::stream_backend::{StreamBackend, StreamCall};
use testkit::{Http1, Response};

use super::setup::{Mesh, echo, gzip, mesh, transcoding};

const GET: &str = "/counter.CounterService/GetCounter";
/// `resource_id: "a"`, `counter_type: "like"` on the wire.
const COUNTER: &[u8] = b"\x0a\x01a\x12\x04like";

async fn ask(mesh: &Mesh, path: &str, kind: &str, body: &[u8]) -> Response {
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let headers = [("content-type", kind), ("connect-protocol-version", "1")];
    client.request("POST", path, &headers, Some(body)).await
}

fn envelope(flags: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flags][..], &length.to_be_bytes(), message].concat()
}

/// The envelopes of a body: flags and messages.
fn envelopes(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        all.push((body[0], body[5..5 + length].to_vec()));
        body = &body[5 + length..];
    }
    all
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_else(|why| panic!("{why}: {}", json.escape_ascii()))
}

#[tokio::test]
async fn unary_calls_are_plain_posts() {
    let mesh = mesh("", echo).await;
    let json = json!({ "resourceId": "a", "counterType": "like" });
    let answer = ask(&mesh, GET, "application/json", json.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-method"), Some(GET));
    assert_eq!(answer.header("trailer-x-trailer"), Some("late"));
    assert_eq!(parsed(&answer.body), json);
    // Nothing is known of the second method.
    for path in [GET, "/library.v1.Library/Get"] {
        let answer = ask(&mesh, path, "application/proto", COUNTER).await;
        assert_eq!((answer.status, &answer.body[..]), (200, COUNTER), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/proto"));
    }
    let curl = mesh.client().await;
    let kind = [("content-type", "application/json")];
    let answer = curl
        .request("POST", GET, &kind, b"{\"resourceId\":\"a\",\"unknown\":1}")
        .await;
    assert_eq!(parsed(&answer.body), json!({ "resourceId": "a" }));
}

#[tokio::test]
async fn failures_have_their_status_and_words() {
    let mesh = mesh("", |call: StreamCall| async move {
        // A `google.rpc.Status` whose only detail is an `a.B` of one byte.
        let status = "CAUaCgoFeC9hLkISAQE";
        call.finish_with(
            5,
            "gone",
            &[("grpc-status-details-bin", status), ("x-why", "1")],
        )
    })
    .await;
    let answer = ask(&mesh, GET, "application/proto", b"").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (404, Some("application/json"))
    );
    let expected = json!({ "code": "not_found", "message": "gone", "details": [{ "type": "a.B", "value": "AQ" }] });
    assert_eq!(parsed(&answer.body), expected);
    assert_eq!(answer.header("trailer-x-why"), Some("1"));
    let answer = ask(&mesh, GET, "application/json", b"{").await;
    assert_eq!(answer.status, 400);
    assert_eq!(parsed(&answer.body)["code"], "invalid_argument");
    let answer = ask(&mesh, "/nobody.v1.Here/Get", "application/json", b"{}").await;
    let said = parsed(&answer.body);
    assert_eq!(
        (&said["code"], &said["details"][0]["type"]),
        (&json!("unimplemented"), &json!("google.rpc.ErrorInfo"))
    );
    let answer = ask(&mesh, "/library.v1.Library/Get", "application/json", b"{}").await;
    assert_eq!(answer.status, 415, "JSON of a method that nobody knows");
}

#[tokio::test]
async fn the_clients_own_time_holds() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        assert!(call.headers.contains_key("grpc-timeout"));
        assert!(!call.headers.contains_key("connect-timeout-ms"));
        Err(call.cancelled().await)
    })
    .await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let headers = [
        ("content-type", "application/proto"),
        ("connect-timeout-ms", "100"),
    ];
    let answer = client.request("POST", GET, &headers, Some(b"")).await;
    assert_eq!(
        (answer.status, &parsed(&answer.body)["code"]),
        (504, &json!("deadline_exceeded"))
    );
}

#[tokio::test]
async fn streams_are_envelopes_and_an_end() {
    let mesh = mesh("", echo).await;
    let path = "/library.v1.Library/Chat";
    let body = [envelope(0, b"one"), envelope(0, b"two")].concat();
    let answer = ask(&mesh, path, "application/connect+proto", &body).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/connect+proto"))
    );
    assert_eq!(answer.header("x-method"), Some(path));
    let envelopes = envelopes(&answer.body);
    assert_eq!(envelopes[..2], [(0, b"one".to_vec()), (0, b"two".to_vec())]);
    assert_eq!((envelopes.len(), envelopes[2].0), (3, 2));
    assert_eq!(
        parsed(&envelopes[2].1),
        json!({ "metadata": { "x-trailer": ["late"] } })
    );
}

#[tokio::test]
async fn compressed_messages_are_read_within_the_limit() {
    let mesh = mesh("", echo).await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let mut ask = async |path: &str, kind: &str, name: &str, coding: &str, body: &[u8]| {
        let headers = [("content-type", kind), (name, coding)];
        client.request("POST", path, &headers, Some(body)).await
    };
    let unary = ("application/proto", "content-encoding");
    let answer = ask(GET, unary.0, unary.1, "gzip", &gzip(COUNTER)).await;
    assert_eq!((answer.status, &answer.body[..]), (200, COUNTER));
    let bomb = gzip(&vec![0; 5 << 20]);
    let answer = ask(GET, unary.0, unary.1, "gzip", &bomb).await;
    assert_eq!(parsed(&answer.body)["code"], "resource_exhausted");
    let answer = ask(GET, unary.0, unary.1, "snappy", COUNTER).await;
    assert_eq!(parsed(&answer.body)["code"], "unimplemented");
    let (path, kind) = ("/library.v1.Library/Chat", "application/connect+proto");
    let body = [envelope(1, &gzip(b"one")), envelope(0, b"two")].concat();
    let answer = ask(path, kind, "connect-content-encoding", "gzip", &body).await;
    let all = envelopes(&answer.body);
    assert_eq!(all[..2], [(0, b"one".to_vec()), (0, b"two".to_vec())]);
}

#[tokio::test]
async fn both_sides_take_turns_over_http2() {
    let mesh = mesh("", echo).await;
    let kind = [("content-type", "application/connect+proto")];
    let mut call = mesh
        .client()
        .await
        .open("POST", "/library.v1.Library/Chat", &kind)
        .await;
    call.send(&envelope(0, b"one"), false);
    call.head().await;
    assert_eq!(call.piece().await.unwrap(), envelope(0, b"one"));
    call.send(&envelope(0, b"two"), true);
    let rest = call.piece().await.unwrap();
    assert!(rest.starts_with(&envelope(0, b"two")), "{rest:?}");
}

#[tokio::test]
async fn failures_of_streams_are_their_end() {
    let mesh = mesh("", |mut call: StreamCall| async move {
        call.message().await?;
        call.send(b"x").await?;
        call.finish(8, "too much")
    })
    .await;
    let kind = "application/connect+proto";
    let answer = ask(&mesh, "/library.v1.Library/Chat", kind, &envelope(0, b"")).await;
    let all = envelopes(&answer.body);
    assert_eq!((answer.status, all.len()), (200, 2));
    assert_eq!(
        parsed(&all[1].1)["error"],
        json!({ "code": "resource_exhausted", "message": "too much" })
    );
    for (path, body, code) in [
        ("/nobody.v1.Here/Get", envelope(0, b""), "unimplemented"),
        (
            "/library.v1.Library/Chat",
            envelope(1, b"gzip"),
            "unimplemented",
        ),
        (
            "/library.v1.Library/Chat",
            envelope(2, b"{}"),
            "invalid_argument",
        ),
    ] {
        let answer = ask(&mesh, path, kind, &body).await;
        let all = envelopes(&answer.body);
        assert_eq!((answer.status, all.len(), all[0].0), (200, 1, 2), "{path}");
        assert_eq!(parsed(&all[0].1)["error"]["code"], code, "{path}");
    }
}

#[tokio::test]
async fn transcoded_routes_take_it_beside_json() {
    let backend = StreamBackend::start(|mut call: StreamCall| async move {
        call.message().await?;
        call.send(b"\x0a\x04like").await?;
        call.finish(0, "")
    })
    .await;
    let options = (", unannotated: true", "");
    let gateway = transcoding("analytics.AnalyticsService", options, &backend).await;
    let mut client = Http1::connect(gateway.http()).await;
    let path = "/analytics.AnalyticsService/WatchTopCounters";
    let kind = [("content-type", "application/connect+json")];
    let body = envelope(0, b"{\"counterType\":\"like\"}");
    let answer = client.request("POST", path, &kind, Some(&body)).await;
    let all = envelopes(&answer.body);
    assert_eq!(parsed(&all[0].1), json!({ "counterType": "like" }));
    assert_eq!(all[1], (2, b"{}".to_vec()));
    let kind = [
        ("content-type", "application/json"),
        ("connect-protocol-version", "1"),
    ];
    let path = "/analytics.AnalyticsService/GetTopCounters";
    let answer = client
        .request("POST", path, &kind, Some(b"{\"bad\":1}"))
        .await;
    assert_eq!(
        (answer.status, &parsed(&answer.body)["code"]),
        (400, &json!("invalid_argument"))
    );
}

#[tokio::test]
async fn methods_that_change_nothing_are_called_by_get_too() {
    let mesh = mesh("", echo).await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let json = "%7B%22resourceId%22%3A%22a%22%7D";
    let packed = URL_SAFE_NO_PAD.encode(gzip(COUNTER));
    let plain = URL_SAFE_NO_PAD.encode(COUNTER);
    for (query, kind, body) in [
        (
            format!("encoding=json&message={json}"),
            "application/json",
            &b"{\"resourceId\":\"a\"}"[..],
        ),
        (
            format!("encoding=proto&base64=1&message={plain}"),
            "application/proto",
            COUNTER,
        ),
        (
            format!("base64=1&encoding=proto&compression=gzip&message={packed}"),
            "application/proto",
            COUNTER,
        ),
        (
            "encoding=proto&message=".to_owned(),
            "application/proto",
            b"",
        ),
    ] {
        let answer = client.get(&format!("{GET}?connect=v1&{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        assert_eq!(
            (answer.header("content-type"), &answer.body[..]),
            (Some(kind), body)
        );
        assert_eq!(answer.header("trailer-x-trailer"), Some("late"));
    }
}

#[tokio::test]
async fn other_methods_and_queries_are_refused_by_get() {
    let mesh = mesh("", echo).await;
    let mut client = Http1::connect(mesh.gateway.http()).await;
    for (path, query, status, code) in [
        (
            "/counter.CounterService/IncrementCounter",
            "encoding=json&message={}",
            405,
            "unimplemented",
        ),
        (
            "/library.v1.Library/Get",
            "encoding=proto&message=",
            405,
            "unimplemented",
        ),
        (GET, "encoding=json", 400, "invalid_argument"),
        (
            GET,
            "encoding=proto&base64=1&message=!",
            400,
            "invalid_argument",
        ),
    ] {
        let answer = client.get(&format!("{path}?connect=v1&{query}")).await;
        assert_eq!(answer.status, status, "{path} {query}: {}", answer.text());
        assert_eq!(parsed(&answer.body)["code"], code, "{path} {query}");
    }
}

#[tokio::test]
async fn transcoded_routes_take_calls_by_get_where_they_take_unannotated_ones() {
    let json = "%7B%22resourceId%22%3A%22a%22%7D";
    let backend = StreamBackend::start(echo).await;
    let options = (", unannotated: true", "");
    let gateway = transcoding("counter.CounterService", options, &backend).await;
    let mut client = Http1::connect(gateway.http()).await;
    let answer = client
        .get(&format!("{GET}?connect=v1&encoding=json&message={json}"))
        .await;
    assert_eq!(
        (answer.status, answer.text()),
        (200, "{\"resourceId\":\"a\"}".to_owned())
    );
    assert_eq!(client.get(&format!("{GET}?resourceId=a")).await.status, 405);
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_want_that() {
    let mesh = mesh("", echo).await;
    let long = [&[10, 0x88, 0x27][..], &[b'a'; 5000]].concat();
    let mut client = Http1::connect(mesh.gateway.http()).await;
    let headers = [
        ("content-type", "application/proto"),
        ("accept-encoding", "gzip"),
    ];
    let answer = client.request("POST", GET, &headers, Some(&long)).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.len() < 500, "{} bytes", answer.body.len());
    let kind = ("content-type", "application/connect+proto");
    let body = [envelope(0, &long), envelope(0, b"short")].concat();
    let path = "/library.v1.Library/Chat";
    for accept in ["gzip, br", "identity"] {
        let headers = [
            kind,
            ("connect-accept-encoding", accept),
            ("accept-encoding", "gzip"),
        ];
        let answer = client.request("POST", path, &headers, Some(&body)).await;
        let all = envelopes(&answer.body);
        let packed = accept != "identity";
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(
            answer.header("connect-content-encoding"),
            packed.then_some("br")
        );
        assert_eq!(
            all.iter().map(|(flags, _)| *flags).collect::<Vec<_>>(),
            [u8::from(packed), 0, 2]
        );
        assert_eq!(all[0].1.len() < 500, packed);
    }
}
