//! The mesh's programs, started the way a test needs them: on free ports, with data of their own.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::program::{Program, Running};

/// A counter service with a store, `memory`, `embedded:DIR` or `redis://...`.
pub async fn counter(store: &str) -> Running {
    Program::new("highpress-counter")
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--store",
            store,
        ])
        .start()
        .await
}

/// A running gateway and its configuration file.
#[derive(Debug)]
pub struct Gateway {
    /// The program.
    pub program: Running,
    dir: TempDir,
}

impl Gateway {
    /// Starts one with the text of a `mesh.yaml`, which says port 0 for its addresses.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(mesh_yaml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("mesh.yaml");
        std::fs::write(&config, mesh_yaml).expect("the temporary directory takes a file");
        let program = Program::new("highpress-proxy")
            .args(["run", "--config"])
            .arg(config);
        Self {
            program: program.dir(dir.path()).start().await,
            dir,
        }
    }

    /// Starts it once more, after it has ended, with the configuration and data that there are; its addresses
    /// are others then.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn restart(&mut self) {
        let program = Program::new("highpress-proxy").args(["run", "--config"]);
        let program = program.arg(self.config()).dir(self.dir.path());
        self.program = program.start().await;
    }

    /// Where clients connect.
    pub fn http(&self) -> SocketAddr {
        self.program.address("http")
    }

    /// Its admin port.
    pub fn admin(&self) -> SocketAddr {
        self.program.address("admin")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("mesh.yaml")
    }

    /// Replaces the configuration file in one step, as editors and deployments do; the gateway notices by itself.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn configure(&self, mesh_yaml: &str) {
        let new = self.dir.path().join("mesh.yaml.new");
        std::fs::write(&new, mesh_yaml).expect("the temporary directory takes a file");
        std::fs::rename(new, self.config()).expect("a file can replace another");
    }
}

/// A `mesh.yaml` that answers the Phase 1 paths from these two services.
pub fn phase1(counter: SocketAddr, analytics: SocketAddr) -> String {
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 2
descriptors: [builtin]
clusters:
  - {{ name: counter, protocol: grpc, endpoints: {{ static: ["{counter}"] }} }}
  - {{ name: analytics, protocol: grpc, endpoints: {{ static: ["{analytics}"] }} }}
routes:
  - name: counters
    transcode: {{ services: [counter.CounterService], profile: phase1 }}
    to: counter
    timeout: 2s
  - name: analytics
    transcode: {{ services: [analytics.AnalyticsService], profile: phase1 }}
    to: analytics
    timeout: 2s
"#
    )
}
