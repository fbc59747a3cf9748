//! The Phase 1 contract against the real gateway and the real counter service, each test with a mesh of its own.
//!
//! Analytics is a scripted backend here: what it ranks is its own tests' business, what becomes of its answers is ours.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage, Value as Field};
use serde_json::{Value, json};
use testkit::contract::{Client, Expected, batch, get, health, increment, outage, paths};
use testkit::echo::{Echo, Failure, Received};
use testkit::h2c::H2c;
use testkit::mesh::{self, Gateway};
use testkit::{Http1, Metrics, Running, eventually};

struct Mesh {
    counter: Running,
    gateway: Gateway,
    analytics: Echo,
}

impl Mesh {
    async fn start() -> Self {
        let counter = mesh::counter("memory").await;
        let analytics = Echo::with(proto::DESCRIPTOR_SET, rank).await;
        let gateway =
            Gateway::start(&mesh::phase1(counter.address("grpc"), analytics.address)).await;
        Self {
            counter,
            gateway,
            analytics,
        }
    }

    fn http(&self) -> SocketAddr {
        self.gateway.http()
    }
}

/// Analytics that ranks one counter: the limit that it was asked for, under the type's name. A type that is a number is
/// the code of the error to answer instead.
fn rank(method: &MethodDescriptor, request: &Received) -> Result<DynamicMessage, Failure> {
    let field = |name| {
        request
            .message
            .get_field_by_name(name)
            .unwrap()
            .into_owned()
    };
    let text = |name| field(name).as_str().unwrap_or_default().to_owned();
    let kind = text("counter_type");
    if let Ok(code) = kind.parse() {
        return Err(Failure {
            code,
            message: format!("code {code}"),
            details: None,
        });
    }
    let mut answer = DynamicMessage::new(method.output());
    let ranked = answer
        .descriptor()
        .get_field_by_name("counters")
        .unwrap()
        .kind()
        .as_message()
        .unwrap()
        .clone();
    let mut row = DynamicMessage::new(ranked);
    row.set_field_by_name("rank", Field::I32(1));
    row.set_field_by_name("resource_id", Field::String("a".to_owned()));
    row.set_field_by_name("counter_type", Field::String(kind.clone()));
    row.set_field_by_name("value", Field::I64(field("limit").as_i32().unwrap().into()));
    row.set_field_by_name("error_bound", Field::I64(7));
    answer.set_field_by_name("counter_type", Field::String(kind));
    answer.set_field_by_name("period", Field::String(text("period")));
    answer.set_field_by_name("counters", Field::List(vec![Field::Message(row)]));
    answer.set_field_by_name("total", Field::I32(1));
    answer.set_field_by_name("as_of", Field::I64(1));
    Ok(answer)
}

/// A test for each check of the suite.
macro_rules! contract {
    ($($name:ident: $check:path,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let mesh = Mesh::start().await;
            $check(mesh.http()).await;
        }
    )*};
}

contract! {
    increments_count: increment::counts,
    increments_are_read_in_every_spelling: increment::spellings,
    ids_are_held_to_their_limits: increment::ids,
    increments_that_are_no_document_are_refused: increment::documents,
    increments_of_wrong_types_are_refused: increment::types,
    an_int64_never_overflows: increment::overflow,
    increments_are_counted_once_by_their_key: increment::idempotency,
    every_counter_can_be_read: get::reads,
    bad_ids_in_paths_are_refused: get::refusals,
    batches_are_answered_in_order: batch::reads,
    batches_have_limits: batch::limits,
    bad_batches_are_refused: batch::refusals,
    unknown_paths_are_404: paths::unknown,
    wrong_methods_are_405: paths::methods,
    large_bodies_are_413: paths::too_large,
    the_gateway_is_healthy: health::healthy,
    operators_have_their_views: health::views,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hot_list_is_asked_of_analytics() {
    let mesh = Mesh::start().await;
    let mut client = Client::new(mesh.http());
    let list = |period: &str, value: i64| {
        let row = json!({ "rank": 1, "resource_id": "a", "counter_type": "like", "value": value });
        Expected::Data(
            json!({ "counter_type": "like", "period": period, "counters": [row], "total": 1 }),
        )
    };
    client
        .get(
            "/api/v1/counter/hot/like?limit=1000&period=week",
            &list("week", 1000),
        )
        .await;
    client
        .get(
            "/api/v1/counter/hot/like?period=all&limit=1&unknown=1",
            &list("all", 1),
        )
        .await;
    for limit in ["abc", "1.5", "1e1", "99999999999"] {
        client
            .get(
                &format!("/api/v1/counter/hot/like?limit={limit}"),
                &Expected::Invalid,
            )
            .await;
    }
    client.done();
    let paths: Vec<String> = mesh
        .analytics
        .received()
        .into_iter()
        .map(|call| call.path)
        .collect();
    assert_eq!(paths, ["/analytics.AnalyticsService/GetTopCounters"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_errors_become_the_contracts_errors() {
    let mesh = Mesh::start().await;
    let mut client = Client::new(mesh.http());
    for code in 1..=16 {
        let path = format!("/api/v1/counter/hot/{code}");
        let answer = Http1::connect(mesh.http()).await.get(&path).await;
        match code {
            3 => client.get(&path, &Expected::Invalid).await,
            4 | 8 | 14 => {
                client
                    .get(
                        &path,
                        &Expected::Error(503, "Analytics service unavailable"),
                    )
                    .await
            }
            _ if answer.status == 500 && answer.json()["status"] == "error" => {}
            _ => client.note(&path, "expected 500", &answer),
        }
    }
    client.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_backends_there_is_503() {
    let mesh = Mesh::start().await;
    increment::counts(mesh.http()).await;
    mesh.counter.kill().await;
    outage::counter(mesh.http()).await;
    let what = "the gateway to say that it is unhealthy";
    eventually(what, Duration::from_secs(10), || {
        outage::unhealthy(mesh.http())
    })
    .await;
    let http = mesh.http();
    let Mesh {
        gateway: _gateway,
        analytics,
        ..
    } = mesh;
    drop(analytics);
    outage::analytics(http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_answer_is_503_in_time() {
    let mesh = Mesh::start().await;
    increment::counts(mesh.http()).await;
    mesh.counter.freeze().await;
    let started = tokio::time::Instant::now();
    let path = "/api/v1/counter/a/like";
    let mut client = Client::new(mesh.http());
    client
        .get(path, &Expected::Error(503, "Counter service unavailable"))
        .await;
    client.done();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the route's timeout is 2s: {:?}",
        started.elapsed()
    );
    mesh.counter.thaw();
    eventually(
        "the counter to answer again",
        Duration::from_secs(10),
        || async {
            let answer = Http1::connect(mesh.http()).await.get(path).await;
            if answer.status == 200 {
                Ok(())
            } else {
                Err(answer.text())
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_get_the_same_answers() {
    let mesh = Mesh::start().await;
    let client = H2c::connect(mesh.http()).await;
    let body = br#"{"resource_id":"h2","counter_type":"like","delta":3}"#;
    let headers = [("content-type", "application/json")];
    let answer = client
        .request("POST", "/api/v1/counter/increment", &headers, body)
        .await;
    assert_eq!(
        (answer.status, &answer.json()["data"]["current_value"]),
        (200, &json!(3))
    );
    let answer = client
        .request("GET", "/api/v1/counter/h2/like", &[], b"")
        .await;
    assert_eq!(
        (answer.status, &answer.json()["data"]["current_value"]),
        (200, &json!(3))
    );
    let answer = client.request("GET", "/nothing", &[], b"").await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (404, &json!("Not found"))
    );
    let answer = client
        .request("DELETE", "/api/v1/counter/batch", &[], b"")
        .await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_health_names_the_instances() {
    let mesh = Mesh::start().await;
    health::instances(mesh.http(), mesh.counter.address("grpc")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_by_pattern() {
    let mesh = Mesh::start().await;
    let mut client = Http1::connect(mesh.http()).await;
    for id in 0..3 {
        client.get(&format!("/api/v1/counter/m{id}/like")).await;
    }
    client
        .post_json(
            "/api/v1/counter/increment",
            &json!({"resource_id": "m", "counter_type": "like"}),
        )
        .await;
    client
        .post_json("/api/v1/counter/increment", &Value::Null)
        .await;

    let metrics = Metrics::scrape(mesh.gateway.admin()).await;
    let requests = |method, endpoint, status| {
        let labels = [
            ("method", method),
            ("endpoint", endpoint),
            ("status_code", status),
        ];
        metrics.counter_value("highgopress_http_requests_total", &labels)
    };
    assert_eq!(
        requests("GET", "/api/v1/counter/{resource_id}/{counter_type}", "200"),
        3
    );
    assert_eq!(requests("POST", "/api/v1/counter/increment", "200"), 1);
    assert_eq!(requests("POST", "/api/v1/counter/increment", "400"), 1);
    let timed = metrics.counter_value("highgopress_http_request_duration_seconds_count", &[]);
    assert_eq!(timed, 5, "each request was timed");

    let metrics = Metrics::scrape(mesh.counter.address("admin")).await;
    assert_eq!(
        metrics.counter_value("highgopress_grpc_requests_total", &[]),
        4
    );
}
