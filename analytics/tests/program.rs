//! The program `highpress-analytics` as a black box.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use proto::analytics::TopCountersRequest;
use proto::analytics::analytics_service_client::AnalyticsServiceClient;
use testkit::wait::eventually;
use testkit::{Consul, Http1, Program};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const PATIENCE: Duration = Duration::from_secs(20);

fn program(data: &tempfile::TempDir) -> Program {
    let data = data.path().join("analytics");
    Program::new("highpress-analytics")
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(data)
}

#[tokio::test]
async fn serves_health_reflection_and_empty_rankings_without_a_source() {
    let data = tempfile::tempdir().unwrap();
    let running = program(&data).start().await;
    let grpc = format!("http://{}", running.address("grpc"));

    let channel = Channel::from_shared(grpc).unwrap().connect().await.unwrap();
    let mut client = AnalyticsServiceClient::new(channel.clone());
    let request = TopCountersRequest {
        counter_type: "like".to_owned(),
        ..TopCountersRequest::default()
    };
    let top = client.get_top_counters(request).await.unwrap().into_inner();
    assert_eq!((top.total, top.period.as_str()), (0, "day"));

    let mut health = HealthClient::new(channel.clone());
    for service in ["", "analytics.AnalyticsService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        assert_eq!(
            health.check(request).await.unwrap().into_inner().status,
            1,
            "{service:?} is SERVING"
        );
    }

    let names = reflected(channel).await;
    assert!(
        names.contains(&"analytics.AnalyticsService".to_owned()),
        "{names:?}"
    );

    let mut admin = Http1::connect(running.address("admin")).await;
    assert_eq!(admin.get("/readyz").await.status, 200);
    let status = admin.get("/status").await.json();
    assert_eq!(status["service"], "analytics");
    assert_eq!(status["ready"], true);
    assert_eq!(status["lag"]["messages"], 0);
    assert_eq!(status["lag"]["seconds"], 0.0);
    let metrics = admin.get("/metrics").await.text();
    for line in [
        "highpress_consumer_lag_messages 0",
        r#"highgopress_grpc_requests_total{service="analytics.AnalyticsService",method="GetTopCounters",status_code="OK"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
    drop((client, health));
    assert_eq!(running.stop_within(PATIENCE).await.code(), Some(0));
}

/// The services that reflection lists.
async fn reflected(channel: Channel) -> Vec<String> {
    let mut reflection = ServerReflectionClient::new(channel);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::iter([list]))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a list of services");
    };
    list.service
        .into_iter()
        .map(|service| service.name)
        .collect()
}

#[tokio::test]
async fn sigint_drains_too() {
    let data = tempfile::tempdir().unwrap();
    let running = program(&data).start().await;
    running.interrupt();
    assert_eq!(running.exit_within(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn every_mistake_is_told_with_status_2() {
    let config = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(config.path(), "# analytics\nadmin: here\nsauce: kafka\n").unwrap();
    let ended = Program::new("highpress-analytics")
        .args([
            "--source",
            "127.0.0.1:9092/counter-events",
            "--consul",
            "ftp://127.0.0.1:8501",
            "--config",
        ])
        .arg(config.path())
        .env("HIGHPRESS_LISTEN", "50052")
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    let file = config.path().display();
    for told in [
        "HIGHPRESS_LISTEN: `50052`: ".to_owned(),
        format!("{file}:2: admin: `here`: "),
        "--source: `127.0.0.1:9092/counter-events`: not a topic: write it like kafka://".to_owned(),
        "--consul: `ftp://127.0.0.1:8501`: not an address of Consul".to_owned(),
        format!("{file}:3: sauce: unknown key"),
    ] {
        assert!(
            ended.output.contains(&told),
            "{told} is missing in:\n{}",
            ended.output
        );
    }
}

#[tokio::test]
async fn it_is_known_in_consul_while_it_serves_and_critical_when_it_drains() {
    for check in ["ttl", "grpc"] {
        let (consul, data) = (Consul::dev().await, tempfile::tempdir().unwrap());
        let running = program(&data)
            .args(["--consul", &consul.url(), "--check", check, "--tags", "eu"])
            .start()
            .await;
        let expect = async |expected: &[&str]| {
            eventually(&format!("{expected:?} in Consul"), PATIENCE, async || {
                let found = consul.instances("high-go-press-analytics").await;
                let found: Vec<&str> = found.iter().map(|(_, status)| status.as_str()).collect();
                if found == expected {
                    Ok(())
                } else {
                    Err(format!("{found:?}"))
                }
            })
            .await;
        };
        expect(&["passing"]).await;
        let path = "/v1/health/service/high-go-press-analytics";
        let service = consul.get(path).await[0]["Service"].clone();
        assert_eq!(service["Port"], running.address("grpc").port());
        assert_eq!(service["Tags"][0], "eu");
        let admin = running.address("admin").port().to_string();
        assert_eq!(service["Meta"]["admin_port"], admin);
        let checks = consul.get("/v1/agent/checks").await.to_string();
        assert!(
            checks.contains(&format!("\"Type\":\"{check}\"")),
            "{checks}"
        );
        let index = consul.index(path).await;
        running.terminate();
        let (seen, _) = consul.blocking(path, index).await;
        assert!(seen.to_string().contains("critical"), "{seen}");
        assert!(running.exit_within(PATIENCE).await.success());
        expect(&[]).await;
    }
}

#[tokio::test]
async fn a_directory_or_port_in_use_is_status_1_and_named() {
    let data = tempfile::tempdir().unwrap();
    let running = program(&data).start().await;
    let ended = program(&data).run().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(
        ended.output.contains("in use by another process"),
        "{}",
        ended.output
    );

    let taken = running.address("grpc").to_string();
    let ended = Program::new("highpress-analytics")
        .args(["--listen", &taken])
        .dir(data.path())
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(
        ended
            .output
            .contains(&format!("--listen: cannot listen on {taken}")),
        "{}",
        ended.output
    );
}
