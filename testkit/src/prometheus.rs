//! A real Prometheus (Debian's package) that scrapes what a test gives it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http1::Http1;
use crate::program::{Program, Running};
use crate::wait::{PATIENCE, eventually};

/// A running Prometheus and its data.
#[derive(Debug)]
pub struct Prometheus {
    program: Running,
    address: SocketAddr,
    // After the program, so that it is removed when that has ended.
    _data: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes each `(job, admin address)` once a second.
    ///
    /// # Panics
    /// When it is not installed (`make setup`) or does not become ready.
    pub async fn start(targets: &[(&str, SocketAddr)]) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let config = data.path().join("prometheus.yml");
        std::fs::write(&config, configuration(targets))
            .expect("the temporary directory takes a file");
        // It says which port it got only in a form that differs between versions: the listening sockets are the truth.
        let program = Program::at("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                data.path().join("tsdb").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .spawn();
        let address = listening(&program).await;
        eventually("Prometheus to be ready", PATIENCE, || async {
            let answer = Http1::connect(address).await.get("/-/ready").await;
            if answer.status == 200 {
                Ok(())
            } else {
                Err(answer.text())
            }
        })
        .await;
        Self {
            program,
            address,
            _data: data,
        }
    }

    /// The samples of an instant query: `[{"metric": {..}, "value": [time, "1"]}]`.
    ///
    /// # Panics
    /// When the query is wrong.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", percent_encode(query));
        let answer = Http1::connect(self.address).await.get(&path).await;
        let mut body = answer.json();
        assert_eq!(
            answer.status,
            200,
            "{query}: {body}\n{}",
            self.program.logs()
        );
        match body.pointer_mut("/data/result").map(Value::take) {
            Some(Value::Array(samples)) => samples,
            other => panic!("{query}: {other:?}"),
        }
    }

    /// Waits until the sum of a query's samples is `expected`.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn expect(&self, query: &str, expected: f64) {
        let what = format!("{query} = {expected} in Prometheus");
        eventually(&what, Duration::from_secs(40), || async {
            let samples = self.query(query).await;
            let values = samples
                .iter()
                .filter_map(|sample| sample.pointer("/value/1")?.as_str()?.parse::<f64>().ok());
            let sum: f64 = values.sum();
            let equal = !samples.is_empty() && (sum - expected).abs() < 1e-9;
            if equal {
                Ok(())
            } else {
                Err(format!("{sum} of {} samples", samples.len()))
            }
        })
        .await;
    }
}

fn configuration(targets: &[(&str, SocketAddr)]) -> String {
    let mut text =
        "global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n".to_owned();
    for (job, address) in targets {
        text +=
            &format!("  - job_name: {job}\n    static_configs: [{{ targets: [\"{address}\"] }}]\n");
    }
    text
}

/// Everything but what needs no quoting in a query.
fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

async fn listening(program: &Running) -> SocketAddr {
    eventually("Prometheus to listen", PATIENCE, || async {
        assert!(!program.has_ended(), "Prometheus ended: {}", program.logs());
        listening_port(program.pid())
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .ok_or("no listening socket")
    })
    .await
}

/// The port of the process's listening IPv4 socket, from `/proc`.
fn listening_port(pid: u32) -> Option<u16> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = open
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok());
    let sockets: Vec<String> = links
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let ours = *state == "0A" && sockets.contains(&format!("socket:[{inode}]"));
        ours.then(|| u16::from_str_radix(local.split_once(':')?.1, 16).ok())
            .flatten()
    })
}
