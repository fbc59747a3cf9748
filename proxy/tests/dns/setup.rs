//! Gateways that follow names, and counters that they find.

use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Metrics, Program, Running};

/// A gateway with its directory.
pub(crate) struct Gateway {
    pub(crate) program: Running,
    pub(crate) directory: TempDir,
}

/// A gateway whose one cluster takes its endpoints from `dns`.
pub(crate) fn config(dns: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\nthreads: 1\n\
         clusters:\n  - name: counter\n    protocol: grpc\n    endpoints: {{ dns: {dns} }}\n\
         routes:\n  - name: counters\n    match: {{ path_prefix: /api/v1/counter/ }}\n    \
         transcode: {{ services: [counter.CounterService], profile: phase1 }}\n    to: counter\n"
    )
}

impl Gateway {
    pub(crate) async fn start(dns: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::start_in(directory, dns).await
    }

    /// In a directory where another one has been.
    pub(crate) async fn start_in(directory: TempDir, dns: &str) -> Self {
        std::fs::write(directory.path().join("mesh.yaml"), config(dns)).expect("a file");
        let program = Program::at(env!("CARGO_BIN_EXE_highpress-proxy"))
            .args(["run", "--config"])
            .arg(directory.path().join("mesh.yaml"));
        let program = program.start().await;
        Self { program, directory }
    }

    pub(crate) async fn read(&self) -> u16 {
        let mut connection = Http1::connect(self.program.address("http")).await;
        connection.get("/api/v1/counter/a/like").await.status
    }

    pub(crate) async fn endpoints(&self) -> Vec<Value> {
        let mut admin = Http1::connect(self.program.address("admin")).await;
        let json = [("accept", "application/json")];
        let clusters = admin.request("GET", "/clusters", &json, None).await.json();
        clusters[0]["endpoints"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until exactly these are known.
    pub(crate) async fn expect_known(&self, expected: &[SocketAddr]) {
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        eventually(
            &format!("endpoints {expected:?}"),
            PATIENCE + PATIENCE,
            async || {
                let endpoints = self.endpoints().await;
                let addresses = endpoints.iter().filter_map(|one| one["address"].as_str());
                let mut known: Vec<String> = addresses.map(str::to_owned).collect();
                known.sort();
                if known == expected {
                    Ok(())
                } else {
                    Err(format!("{endpoints:?}"))
                }
            },
        )
        .await;
    }

    /// Waits until the metric says whether DNS answers.
    pub(crate) async fn expect_dns(&self, up: bool) {
        eventually(
            &format!("highpress_dns_up to say {up}"),
            PATIENCE + PATIENCE,
            async || {
                let said = self.metric("highpress_dns_up").await;
                if said == Some(f64::from(u8::from(up))) {
                    Ok(())
                } else {
                    Err(format!("{said:?}"))
                }
            },
        )
        .await;
    }

    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = Metrics::scrape(self.program.address("admin")).await;
        metrics.value(name, &[("cluster", "counter")])
    }
}

/// A counter at an address of this machine.
pub(crate) async fn counter_at(address: &str) -> Running {
    Program::new("highpress-counter")
        .args([
            "--listen",
            address,
            "--admin",
            "127.0.0.1:0",
            "--store",
            "memory",
        ])
        .start()
        .await
}

pub(crate) fn grpc(counter: &Running) -> SocketAddr {
    counter.address("grpc")
}
