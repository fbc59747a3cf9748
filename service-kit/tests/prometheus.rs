//! A real Prometheus (Debian package `prometheus`) scrapes the admin port and finds the values.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use service_kit::metrics::GrpcMetrics;
use service_kit::{Admin, Readiness, metrics};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_reads_every_kind_of_metric() {
    let mut registry = metrics::registry("counter", "1.2.3");
    let grpc = GrpcMetrics::register(&mut registry);
    grpc.begin("counter.CounterService", "GetCounter").end(0);
    let admin = Admin::new("counter", "1.2.3", registry, Readiness::new())
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let (_prometheus, api) = start_prometheus(&data, admin.local_address());

    for (query, value) in [
        (r#"up{job="mesh"}"#, "1"),
        (
            r#"highpress_build_info{service="counter",version="1.2.3"}"#,
            "1",
        ),
        (
            r#"highgopress_grpc_requests_total{service="counter.CounterService",method="GetCounter",status_code="OK"}"#,
            "1",
        ),
        (
            r#"highgopress_grpc_request_duration_seconds_count{method="GetCounter"}"#,
            "1",
        ),
        (
            r#"highgopress_grpc_request_duration_seconds_bucket{method="GetCounter",le="10.0"}"#,
            "1",
        ),
        ("process_start_time_seconds > bool 1000000000", "1"),
        ("process_cpu_seconds_total > bool 0", "1"),
    ] {
        expect(api, query, value).await;
    }
}

fn start_prometheus(data: &tempfile::TempDir, target: SocketAddr) -> (Child, SocketAddr) {
    let config = data.path().join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
         scrape_configs:\n  - job_name: mesh\n    static_configs: [{{ targets: [\"{target}\"] }}]\n"
    );
    std::fs::write(&config, text).unwrap();
    // Prometheus cannot tell which port it bound: take a free one and leave it to it.
    let api = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            data.path().join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={api}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("start `prometheus`: install the Debian package");
    (child, api)
}

/// Asks until the query has exactly one result with the value.
async fn expect(api: SocketAddr, query: &str, value: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let wanted = format!(",\"{value}\"]}}]}}}}");
    let mut last = String::from("no answer");
    while Instant::now() < deadline {
        if let Ok(answer) = ask(api, query).await {
            if answer.ends_with(&wanted) {
                return;
            }
            last = answer;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{query} was not {value} within 60 s: {last}");
}

async fn ask(api: SocketAddr, query: &str) -> std::io::Result<String> {
    let mut encoded = String::new();
    for byte in query.bytes() {
        encoded.push_str(&format!("%{byte:02X}"));
    }
    let mut stream = TcpStream::connect(api).await?;
    let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
