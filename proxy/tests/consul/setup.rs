//! Gateways, counters and what can be seen of them.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1, Metrics, Program, Running};

/// The service that the gateways of these tests follow.
pub(crate) const SERVICE: &str = "high-go-press-counter";

/// A gateway with its directory.
pub(crate) struct Gateway {
    pub(crate) program: Running,
    pub(crate) directory: TempDir,
}

pub(crate) fn config(consul: &Consul, token: &str, more: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\nthreads: 1\n\
         consul: {{ address: \"{}\", token: \"{token}\" }}\n\
         clusters:\n  - name: counter\n    protocol: grpc\n    endpoints: {{ consul: {{ service: {SERVICE}{more} }} }}\n\
         routes:\n  - name: counters\n    match: {{ path_prefix: /api/v1/counter/ }}\n    \
         transcode: {{ services: [counter.CounterService], profile: phase1 }}\n    to: counter\n    \
         retry: {{ on: [connect, reset, refused_stream, unavailable] }}\n",
        consul.url()
    )
}

impl Gateway {
    pub(crate) async fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::start_in(directory, config).await
    }

    /// In a directory where another one has been.
    pub(crate) async fn start_in(directory: TempDir, config: &str) -> Self {
        std::fs::write(directory.path().join("mesh.yaml"), config).expect("a file");
        let program = program(directory.path()).start().await;
        Self { program, directory }
    }

    /// With further flags.
    pub(crate) async fn start_with(config: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("mesh.yaml"), config).expect("a file");
        let program = program(directory.path()).args(flags.iter().copied());
        let program = program.start().await;
        Self { program, directory }
    }

    /// Gives it another configuration while it runs.
    pub(crate) fn reconfigure(&self, config: &str) {
        std::fs::write(self.directory.path().join("mesh.yaml"), config).expect("a file");
        self.program.reload();
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.program.address("http")
    }

    pub(crate) async fn read(&self) -> u16 {
        let mut connection = Http1::connect(self.http()).await;
        connection.get("/api/v1/counter/a/like").await.status
    }

    pub(crate) async fn ready(&self) -> (u16, String) {
        let mut admin = Http1::connect(self.program.address("admin")).await;
        let answer = admin.get("/readyz").await;
        (answer.status, answer.text())
    }

    /// What `/clusters` says.
    pub(crate) async fn clusters(&self) -> Value {
        let mut admin = Http1::connect(self.program.address("admin")).await;
        let json = [("accept", "application/json")];
        admin.request("GET", "/clusters", &json, None).await.json()
    }

    /// The endpoints of the cluster: address, whether it is usable, reasons.
    pub(crate) async fn endpoints(&self) -> Vec<(String, bool, String)> {
        let clusters = self.clusters().await;
        let endpoints = clusters[0]["endpoints"].as_array().cloned();
        let endpoint = |one: &Value| {
            let address = one["address"].as_str().unwrap_or_default().to_owned();
            (address, one["usable"] == true, one["reasons"].to_string())
        };
        endpoints.unwrap_or_default().iter().map(endpoint).collect()
    }

    /// Waits until exactly these are usable.
    pub(crate) async fn expect_usable(&self, expected: &[SocketAddr]) {
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        let what = format!("usable endpoints {expected:?}");
        eventually(&what, PATIENCE + PATIENCE, async || {
            let endpoints = self.endpoints().await;
            let usable = endpoints.iter().filter(|(_, usable, _)| *usable);
            let mut usable: Vec<String> = usable.map(|(address, ..)| address.clone()).collect();
            usable.sort();
            if usable == expected {
                Ok(())
            } else {
                Err(format!("{endpoints:?}"))
            }
        })
        .await;
    }

    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let metrics = Metrics::scrape(self.program.address("admin")).await;
        metrics.value(name, labels)
    }

    /// Waits until the metric says whether Consul answers.
    pub(crate) async fn expect_consul(&self, up: bool) {
        let what = format!("highpress_consul_up of the cluster to say {up}");
        let patience = PATIENCE + PATIENCE;
        eventually(&what, patience, async || {
            let said = self
                .metric("highpress_consul_up", &[("what", "cluster counter")])
                .await;
            if said == Some(f64::from(u8::from(up))) {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        })
        .await;
    }
}

fn program(directory: &Path) -> Program {
    Program::at(env!("CARGO_BIN_EXE_highpress-proxy"))
        .args(["run", "--config"])
        .arg(directory.join("mesh.yaml"))
}

/// A counter that nobody has registered.
pub(crate) async fn counter() -> Running {
    counter_program().start().await
}

pub(crate) fn counter_program() -> Program {
    Program::new("highpress-counter")
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--store", "memory"])
}

/// A counter that registers itself.
pub(crate) async fn registered(consul: &Consul) -> Running {
    counter_program()
        .args(["--consul", &consul.url()])
        .start()
        .await
}

pub(crate) fn grpc(counter: &Running) -> SocketAddr {
    counter.address("grpc")
}

/// How many reads a counter has answered, by its own count.
pub(crate) async fn reads(counter: &Running) -> u64 {
    let metrics = Metrics::scrape(counter.address("admin")).await;
    let labels = [("method", "GetCounter")];
    metrics.counter_value("highgopress_grpc_requests_total", &labels)
}

/// What a gateway says of a configuration that it does not take.
pub(crate) async fn refused(config: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("mesh.yaml"), config).expect("a file");
    let program = program(directory.path()).spawn();
    let status = program.exit_within(PATIENCE).await;
    assert_eq!(status.code(), Some(2), "{}", program.logs());
    program.logs()
}
