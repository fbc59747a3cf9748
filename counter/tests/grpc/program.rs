//! The program around the service: settings, exit statuses, admin port, health, reflection, drain.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message as _;
use serde_json::Value;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Metrics, Redis, Running};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::setup::{Store, add, connect, get, on_free_ports, program, start};

async fn channel(counter: &Running) -> Channel {
    let uri = format!("http://{}", counter.address("grpc"));
    Channel::from_shared(uri).unwrap().connect().await.unwrap()
}

async fn page(counter: &Running, path: &str) -> (u16, String) {
    let page = Http1::connect(counter.address("admin"))
        .await
        .get(path)
        .await;
    (page.status, page.text())
}

#[tokio::test]
async fn every_mistake_is_listed_and_the_status_is_2() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("counter.yaml");
    std::fs::write(&file, "listen: nowhere\nstroe: memory\nredis_timeout: 0s\n").unwrap();
    let ended = program()
        .args([
            "--store",
            "papyrus",
            "--events",
            "kafka://127.0.0.1:9092",
            "--config",
        ])
        .arg(&file)
        .env("HIGHPRESS_ADMIN", "somewhere")
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    let file = file.display();
    for expected in [
        format!("{file}:1: listen: `nowhere`"),
        format!("{file}:2: stroe: unknown key"),
        format!("{file}:3: redis_timeout: "),
        "--store: `papyrus`: not a store".to_owned(),
        "--events: ".to_owned(),
        "HIGHPRESS_ADMIN: `somewhere`".to_owned(),
    ] {
        assert!(
            ended.output.lines().any(|line| line.starts_with(&expected)),
            "{expected} in:\n{}",
            ended.output
        );
    }
    let ended = program().arg("--lissten").run().await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    let ended = program()
        .args(["--store", "redis://user:secret@/"])
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    assert!(!ended.output.contains("secret"), "{}", ended.output);
}

#[tokio::test]
async fn a_flag_beats_the_environment_and_that_beats_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("counter.yaml");
    std::fs::write(
        &file,
        "listen: 127.0.0.1:1\nadmin: 127.0.0.1:0\nstore: papyrus\n",
    )
    .unwrap();
    let counter = program()
        .args(["--store", "memory"])
        .env("HIGHPRESS_LISTEN", "127.0.0.1:0")
        .env("HIGHPRESS_CONFIG", &file)
        .start()
        .await;
    assert_eq!(
        add(&connect(&counter).await, "a", "like", 1)
            .await
            .unwrap()
            .current_value,
        1
    );
}

#[tokio::test]
async fn a_taken_address_or_directory_is_status_1_and_says_so() {
    let store = Store::embedded();
    let counter = start(&store).await;
    let taken = counter.address("grpc").to_string();
    let ended = program()
        .args([
            "--admin",
            "127.0.0.1:0",
            "--store",
            "memory",
            "--listen",
            &taken,
        ])
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(ended.output.contains(&taken), "{}", ended.output);
    let ended = on_free_ports().args(["--store", &store.flag()]).run().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(
        ended.output.contains("in use by another process"),
        "{}",
        ended.output
    );
}

#[tokio::test]
async fn metrics_are_true() {
    let counter = start(&Store::embedded()).await;
    let client = connect(&counter).await;
    for n in 1..=3 {
        assert_eq!(add(&client, "a", "like", 1).await.unwrap().current_value, n);
    }
    add(&client, "", "like", 1).await.unwrap_err();
    add(&client, "b", "like", i64::MAX).await.unwrap();
    add(&client, "b", "like", 1).await.unwrap_err();
    get(&client, "a", "like").await.unwrap();
    let metrics = Metrics::scrape(counter.address("admin")).await;
    let calls = |method, code| {
        let labels = [
            ("service", "counter.CounterService"),
            ("method", method),
            ("status_code", code),
        ];
        metrics.counter_value("highgopress_grpc_requests_total", &labels)
    };
    assert_eq!(calls("IncrementCounter", "OK"), 4);
    assert_eq!(calls("IncrementCounter", "INVALID_ARGUMENT"), 1);
    assert_eq!(calls("IncrementCounter", "OUT_OF_RANGE"), 1);
    assert_eq!(calls("GetCounter", "OK"), 1);
    let durations = "highgopress_grpc_request_duration_seconds_count";
    assert_eq!(
        metrics.counter_value(durations, &[("method", "IncrementCounter")]),
        6
    );
    assert_eq!(
        metrics.counter_value(
            "highpress_store_duration_seconds_count",
            &[("operation", "increment")]
        ),
        5
    );
    let overflows = [("operation", "increment"), ("reason", "overflow")];
    assert_eq!(
        metrics.counter_value("highpress_store_errors_total", &overflows),
        1
    );
}

#[tokio::test]
async fn the_admin_port_and_the_status_call_tell_the_same() {
    let counter = start(&Store::embedded()).await;
    let client = connect(&counter).await;
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(page(&counter, path).await.0, 200, "{path}");
    }
    let status: Value = serde_json::from_str(&page(&counter, "/status").await.1).unwrap();
    assert_eq!(status["service"], "counter");
    assert_eq!(status["store"], "embedded");
    assert_eq!(status["ready"], true);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        status["outbox"],
        serde_json::json!({"unsent": 0, "oldest_seconds": 0})
    );
    let rpc = client
        .clone()
        .get_status(proto::counter::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (rpc.service.as_str(), rpc.store.as_str(), rpc.ready),
        ("counter", "embedded", true)
    );
}

#[tokio::test]
async fn health_follows_the_store() {
    let mut redis = Redis::start().await;
    let counter = on_free_ports()
        .args(["--store", &redis.url()])
        .start()
        .await;
    let health = HealthClient::new(channel(&counter).await);
    let status_is = async |service: &str, expected: i32| {
        eventually(
            &format!("health of {service:?} to be {expected}"),
            PATIENCE,
            async || {
                let request = HealthCheckRequest {
                    service: service.to_owned(),
                };
                match health.clone().check(request).await {
                    Ok(answer) if answer.get_ref().status == expected => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            },
        )
        .await;
    };
    status_is("", 1).await;
    status_is("counter.CounterService", 1).await;
    redis.kill().await;
    status_is("counter.CounterService", 2).await;
    status_is("", 2).await;
    let unknown = HealthCheckRequest {
        service: "nobody.Service".to_owned(),
    };
    assert_eq!(
        health.clone().check(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn reflection_gives_the_descriptors_with_their_annotations() {
    let counter = start(&Store::Memory).await;
    let mut client = ServerReflectionClient::new(channel(&counter).await);
    let ask = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("counter.CounterService".to_owned()),
        MessageRequest::FileByFilename("google/api/annotations.proto".to_owned()),
    ];
    let asked = ask.map(|ask| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(ask),
    });
    let mut answers = client
        .server_reflection_info(tokio_stream::iter(asked))
        .await
        .unwrap()
        .into_inner();
    let mut next = async || {
        answers
            .next()
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = next().await else {
        panic!("a list of services")
    };
    let services: BTreeSet<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(
        services,
        BTreeSet::from(["counter.CounterService", "grpc.health.v1.Health"])
    );
    let MessageResponse::FileDescriptorResponse(file) = next().await else {
        panic!("a file")
    };
    let path = b"/api/v1/counter/increment";
    let bytes = &file.file_descriptor_proto[0];
    assert!(
        bytes.windows(path.len()).any(|window| window == path),
        "annotations are kept"
    );
    let MessageResponse::FileDescriptorResponse(file) = next().await else {
        panic!("a file")
    };
    let file =
        prost_types::FileDescriptorProto::decode(file.file_descriptor_proto[0].as_slice()).unwrap();
    assert_eq!(file.package(), "google.api");
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let counter = start(&Store::Memory).await;
    let analytics = proto::analytics::analytics_service_client::AnalyticsServiceClient::new(
        channel(&counter).await,
    );
    let error = analytics
        .clone()
        .get_top_counters(proto::analytics::TopCountersRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

/// SIGTERM and SIGINT: what is in flight is answered, new callers are refused, the status is 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_what_is_in_flight() {
    for interrupt in [false, true] {
        let redis = Redis::start().await;
        let counter = on_free_ports()
            .args(["--store", &redis.url(), "--redis-timeout", "10s"])
            .start()
            .await;
        let client = connect(&counter).await;
        add(&client, "a", "like", 1).await.unwrap();
        redis.freeze().await;
        let waiting = tokio::spawn(async move { add(&client, "a", "like", 1).await });
        let in_flight = [("operation", "increment")];
        eventually("the increment to be on its way", PATIENCE, async || {
            // It has left for Redis when the connection has unread bytes; from outside, when the time passes without an answer.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let metrics = Metrics::scrape(counter.address("admin")).await;
            let done = metrics.counter_value("highpress_store_duration_seconds_count", &in_flight);
            if done == 1 { Ok(()) } else { Err(done) }
        })
        .await;
        if interrupt {
            counter.interrupt()
        } else {
            counter.terminate()
        }
        eventually(
            "the port to be closed",
            PATIENCE,
            async || match tokio::net::TcpStream::connect(counter.address("grpc")).await {
                Err(_) => Ok(()),
                Ok(_) => Err("still open"),
            },
        )
        .await;
        let (status, text) = page(&counter, "/readyz").await;
        assert!(status == 503 && text.contains("drain"), "{status} {text}");
        assert!(!waiting.is_finished());
        redis.thaw();
        assert_eq!(waiting.await.unwrap().unwrap().current_value, 2);
        assert_eq!(counter.exit_within(PATIENCE).await.code(), Some(0));
    }
}

/// The drain has a deadline: an idle connection does not hold it up, a call that hangs does so only until then.
#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let redis = Redis::start().await;
    let counter = on_free_ports()
        .args([
            "--store",
            &redis.url(),
            "--redis-timeout",
            "60s",
            "--drain-timeout",
            "500ms",
        ])
        .start()
        .await;
    let client = connect(&counter).await;
    add(&client, "a", "like", 1).await.unwrap();
    redis.freeze().await;
    let waiting = tokio::spawn(async move { add(&client, "a", "like", 1).await });
    tokio::task::yield_now().await;
    let status = counter.stop_within(Duration::from_secs(10)).await;
    assert_eq!(
        status.code(),
        Some(0),
        "drained, if not all of it: {}",
        counter.logs()
    );
    waiting.await.unwrap().unwrap_err();
}
