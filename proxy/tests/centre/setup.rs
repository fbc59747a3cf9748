//! Gateways that take their configuration from Consul, and what can be seen of them.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1, Program, Running};

pub(crate) const KEY: &str = "high-go-press/config/prod/gateway";
pub(crate) const HISTORY: &str = "high-go-press/config-history/prod/gateway/";

/// A gateway with its directory.
pub(crate) struct Gateway {
    pub(crate) program: Running,
    pub(crate) directory: TempDir,
}

/// What every gateway of these tests has in its file: free ports, and where Consul is.
pub(crate) fn file(consul: &Consul, token: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\nthreads: 1\n\
         consul: {{ address: \"{}\", token: \"{token}\", kv: {KEY} }}\n{}",
        consul.url(),
        sends_to("file")
    )
}

/// A mesh that sends everybody to `http://NAME/`.
pub(crate) fn sends_to(name: &str) -> String {
    format!(
        "clusters:\n  - {{ name: none, protocol: http1, endpoints: {{ static: [\"127.0.0.1:1\"] }} }}\n\
         routes:\n  - name: all\n    match: {{ path_prefix: / }}\n    redirect: {{ host: {name} }}\n"
    )
}

impl Gateway {
    pub(crate) async fn start(file: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), file).await
    }

    /// In a directory where another one has been.
    pub(crate) async fn start_in(directory: TempDir, file: &str) -> Self {
        std::fs::write(directory.path().join("mesh.yaml"), file).expect("a file");
        let program = proxy()
            .args(["run", "--config"])
            .arg(directory.path().join("mesh.yaml"));
        let program = program.start().await;
        Self { program, directory }
    }

    /// With nothing but a key.
    pub(crate) fn without_file(consul: &Consul, directory: &Path) -> Program {
        proxy()
            .args(["run", "--consul", &consul.url(), "--consul-kv", KEY])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--threads", "1", "--data"])
            .arg(directory)
    }

    /// Where it sends everybody.
    pub(crate) async fn host(&self) -> String {
        let mut connection = Http1::connect(self.program.address("http")).await;
        let answer = connection.get("/").await;
        let location = answer.header("location").unwrap_or_default();
        let host = location.trim_start_matches("http://");
        host.trim_end_matches('/').to_owned()
    }

    /// Waits until it sends everybody there.
    pub(crate) async fn expect_host(&self, host: &str) {
        eventually(&format!("requests to go to {host}"), PATIENCE, async || {
            let now = self.host().await;
            if now == host { Ok(()) } else { Err(now) }
        })
        .await;
    }

    /// The page `/config`.
    pub(crate) async fn config(&self) -> Value {
        self.admin("/config").await
    }

    /// The page `/config` once it shows this: requests see a version a moment before it is told of.
    pub(crate) async fn config_with(&self, what: &str, shows: impl Fn(&Value) -> bool) -> Value {
        eventually(what, PATIENCE, async || {
            let config = self.config().await;
            if shows(&config) {
                Ok(config)
            } else {
                Err(config)
            }
        })
        .await
    }

    /// The page once it is that of another version than this one.
    pub(crate) async fn config_after(&self, before: &Value) -> Value {
        let other = |now: &Value| now["version"] != before["version"];
        self.config_with("another version", other).await
    }

    pub(crate) async fn admin(&self, path: &str) -> Value {
        let mut admin = Http1::connect(self.program.address("admin")).await;
        let json = [("accept", "application/json")];
        admin.request("GET", path, &json, None).await.json()
    }

    pub(crate) async fn ready(&self) -> (u16, String) {
        let mut admin = Http1::connect(self.program.address("admin")).await;
        let answer = admin.get("/readyz").await;
        (answer.status, answer.text())
    }

    /// Waits until a version is refused, and gives its problems.
    pub(crate) async fn expect_rejected(&self, source: &str) -> String {
        eventually("a version to be refused", PATIENCE, async || {
            let config = self.config().await;
            let rejected = &config["rejected"];
            if rejected["source"] == source {
                Ok(rejected["problems"].to_string())
            } else {
                Err(config.to_string())
            }
        })
        .await
    }
}

pub(crate) fn proxy() -> Program {
    Program::at(env!("CARGO_BIN_EXE_highpress-proxy"))
}

/// The entries of the history, the oldest first.
pub(crate) async fn entries(consul: &Consul) -> Vec<Value> {
    let mut entries = Vec::new();
    for key in consul.keys(HISTORY).await {
        // The oldest ones are forgotten while they are read.
        if let Some(text) = consul.key(&key).await {
            entries.push(serde_json::from_str(&text).expect("an entry is JSON"));
        }
    }
    entries
}

/// Waits for so many entries, and that there are not more.
pub(crate) async fn expect_entries(consul: &Consul, count: usize) -> Vec<Value> {
    let what = format!("{count} entries in the history");
    let counted = async || {
        let entries = entries(consul).await;
        if entries.len() == count {
            Ok(entries)
        } else {
            Err(format!("{entries:#?}"))
        }
    };
    eventually(&what, PATIENCE, counted).await;
    // Whoever would write one more has seen the same change by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    counted().await.expect("no more entries")
}
