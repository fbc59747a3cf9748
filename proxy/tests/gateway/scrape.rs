//! A real Prometheus scrapes the three programs, and the metrics that the contract names are true.

use testkit::mesh::{self, Gateway};
use testkit::prometheus::Prometheus;
use testkit::{Http1, Program};

#[tokio::test]
async fn prometheus_sees_true_values_of_all_three_programs() {
    let counter = mesh::counter("memory").await;
    let data = tempfile::tempdir().unwrap();
    let analytics = Program::new("highpress-analytics")
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(data.path())
        .start()
        .await;
    let gateway = Gateway::start(&mesh::phase1(
        counter.address("grpc"),
        analytics.address("grpc"),
    ))
    .await;
    let mut client = Http1::connect(gateway.http()).await;
    let body = serde_json::json!({ "resource_id": "r", "counter_type": "like" });
    for _ in 0..7 {
        assert_eq!(
            client
                .post_json("/api/v1/counter/increment", &body)
                .await
                .status,
            200
        );
    }
    assert_eq!(client.get("/api/v1/counter/hot/like").await.status, 200);
    assert_eq!(client.get("/nowhere").await.status, 404);
    let targets = [
        ("gateway", gateway.admin()),
        ("counter", counter.address("admin")),
        ("analytics", analytics.address("admin")),
    ];
    let prometheus = Prometheus::start(&targets).await;
    for (job, _) in targets {
        prometheus
            .expect(&format!("up{{job=\"{job}\"}}"), 1.0)
            .await;
    }
    for (query, value) in expected() {
        prometheus.expect(&query, value).await;
    }
}

/// What the seven increments, the ranking and the unknown path must have come to.
fn expected() -> Vec<(String, f64)> {
    let increments = "method=\"POST\",endpoint=\"/api/v1/counter/increment\"";
    vec![
        (format!("highgopress_http_requests_total{{{increments},status_code=\"200\",service=\"gateway\"}}"), 7.0),
        (format!("highgopress_http_request_duration_seconds_count{{{increments}}}"), 7.0),
        ("highgopress_http_requests_total{endpoint=\"unmatched\",status_code=\"404\"}".to_owned(), 1.0),
        ("highgopress_grpc_requests_total{job=\"gateway\",method=\"IncrementCounter\",status_code=\"OK\"}".to_owned(), 7.0),
        ("highgopress_grpc_requests_total{job=\"counter\",method=\"IncrementCounter\"}".to_owned(), 7.0),
        ("highgopress_grpc_request_duration_seconds_count{job=\"counter\",method=\"IncrementCounter\"}".to_owned(), 7.0),
        ("highgopress_grpc_requests_total{job=\"analytics\",method=\"GetTopCounters\"}".to_owned(), 1.0),
        ("highpress_upstream_attempts_total{cluster=\"counter\",outcome=\"ok\"}".to_owned(), 7.0),
        ("sum(highpress_upstream_retries_total)".to_owned(), 0.0),
        ("highpress_endpoints{cluster=\"counter\",state=\"usable\"}".to_owned(), 1.0),
        ("highpress_breaker_state{cluster=\"counter\"}".to_owned(), 0.0),
        ("highpress_consumer_lag_messages{job=\"analytics\"}".to_owned(), 0.0),
        ("highpress_outbox_unsent{job=\"counter\"}".to_owned(), 0.0),
        ("highpress_config_last_applied_timestamp_seconds > bool 1.7e9".to_owned(), 1.0),
    ]
}
