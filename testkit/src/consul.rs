//! A real Consul of one's own, on free ports: a server that forgets everything when it ends (`-dev`), one with a data
//! directory, one with ACLs, one that is reached over TLS, one in a datacenter of its own, and client agents that join it.
//!
//! It can be killed, frozen and started again on the same ports. `consul` is taken from `.tools/bin` of the checkout
//! (`make setup` builds it there) or else from the path.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http1::{Http1, Response};
use crate::program::{Program, Running};
use crate::wait::{PATIENCE, eventually};

/// The token that may do everything, where there are ACLs.
pub const MANAGEMENT: &str = "11111111-2222-3333-4444-555555555555";

/// Faster elections than a wide network wants, and quick checks.
const CONFIG: &str = r#"{
  "performance": { "raft_multiplier": 1 }, "disable_update_check": true, "leave_on_terminate": false,
  "ports": { "grpc": -1, "grpc_tls": -1 },
  "limits": { "http_max_conns_per_client": 1000 }
}"#;

const ACLS: &str = r#"{ "acl": { "enabled": true, "default_policy": "deny",
  "policy_ttl": "200ms", "token_ttl": "200ms", "role_ttl": "200ms", "tokens": {
  "initial_management": "11111111-2222-3333-4444-555555555555", "agent": "11111111-2222-3333-4444-555555555555" } } }"#;

/// Certificates as `consul tls` makes them; who asks over TLS has to show one too, if `MUTUAL` says so.
const TLS: &str = r#"{ "tls": {
  "defaults": { "ca_file": "consul-agent-ca.pem", "cert_file": "dc1-server-consul-0.pem", "key_file": "dc1-server-consul-0-key.pem" },
  "https": { "verify_incoming": MUTUAL }, "internal_rpc": { "verify_incoming": false } } }"#;

/// A Consul agent. Killed when dropped.
#[derive(Debug)]
pub struct Consul {
    ports: Ports,
    directory: TempDir,
    args: Vec<String>,
    token: Option<&'static str>,
    agent: Option<Running>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    http: u16,
    server: u16,
    serf: u16,
    dns: u16,
    /// Only for servers of several datacenters.
    wan: u16,
    /// Only where there are certificates.
    https: u16,
}

impl Consul {
    /// A server in memory: a restart forgets everything.
    pub async fn dev() -> Self {
        Self::started(&["-dev"], None).await
    }

    /// A server with a data directory: a restart remembers everything.
    pub async fn server() -> Self {
        Self::started(
            &["-server", "-bootstrap-expect", "1", "-node", "server"],
            None,
        )
        .await
    }

    /// A server that refuses everything to who has no token; [`MANAGEMENT`] may do everything.
    pub async fn with_acls() -> Self {
        let args = ["-server", "-bootstrap-expect", "1", "-node", "server"];
        Self::started(&args, Some(MANAGEMENT)).await
    }

    /// A server of a datacenter of its own, that others can [join](Self::join_wan).
    pub async fn datacenter(name: &str) -> Self {
        let args = [
            "-server",
            "-bootstrap-expect",
            "1",
            "-node",
            "server",
            "-datacenter",
            name,
        ];
        Self::started(&args, None).await
    }

    /// Makes the servers of two datacenters know each other.
    ///
    /// # Panics
    /// When they do not.
    pub async fn join_wan(&self, other: &Self) {
        let path = format!("/v1/agent/join/127.0.0.1:{}?wan=true", other.ports.wan);
        self.api("PUT", &path, &Value::Null).await;
        for one in [self, other] {
            eventually("both datacenters to be known", PATIENCE, async || {
                let known = one.get("/v1/catalog/datacenters").await;
                let routed = known.as_array().is_some_and(|known| known.len() == 2);
                if routed { Ok(()) } else { Err(known) }
            })
            .await;
        }
    }

    /// A server that is reached over TLS at [`https_url`](Self::https_url), with certificates as `consul tls` makes them:
    /// [`file`](Self::file) has them as `consul-agent-ca.pem`, `dc1-client-consul-0.pem` and `dc1-client-consul-0-key.pem`.
    /// `mutual`: clients have to show theirs.
    ///
    /// # Panics
    /// When there are none.
    pub async fn with_tls(mutual: bool) -> Self {
        let args = ["-server", "-bootstrap-expect", "1", "-node", "server"];
        let mut consul = Self::stopped(&args, None);
        for what in [
            &["ca", "create"][..],
            &["cert", "create", "-server", "-dc", "dc1"],
            &["cert", "create", "-client", "-dc", "dc1"],
        ] {
            let mut command = std::process::Command::new(binary());
            command
                .arg("tls")
                .args(what)
                .current_dir(consul.directory.path());
            let output = command.output().expect("consul runs");
            assert!(output.status.success(), "consul tls {what:?}: {output:?}");
        }
        let config = TLS.replace("MUTUAL", if mutual { "true" } else { "false" });
        let quoted = |name: &str| format!("\"{}\"", consul.file(name).display());
        let config = [
            "consul-agent-ca.pem",
            "dc1-server-consul-0.pem",
            "dc1-server-consul-0-key.pem",
        ]
        .iter()
        .fold(config, |config, name| {
            config.replace(&format!("\"{name}\""), &quoted(name))
        });
        std::fs::write(consul.file("tls.json"), config).expect("a file");
        consul.args.push("-https-port".to_owned());
        consul.args.push(consul.ports.https.to_string());
        consul.restart().await;
        consul
    }

    /// A file in the directory of the agent.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `https://127.0.0.1:PORT`, where there are certificates.
    pub fn https_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.https)
    }

    /// Where it answers DNS, by UDP and TCP.
    pub fn dns(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.dns))
    }

    /// A client agent with a data directory of its own that joins this server.
    pub async fn client(&self, node: &str) -> Self {
        self.joined(node, &[]).await
    }

    /// The same on a node whose metadata says in which zone it is.
    pub async fn client_in(&self, node: &str, zone: &str) -> Self {
        let meta = format!("zone:{zone}");
        self.joined(node, &["-node-meta", &meta]).await
    }

    async fn joined(&self, node: &str, more: &[&str]) -> Self {
        let join = format!("127.0.0.1:{}", self.ports.serf);
        let args = [&["-node", node, "-retry-join", &join], more].concat();
        Self::started(&args, self.token).await
    }

    async fn started(args: &[&str], token: Option<&'static str>) -> Self {
        let mut consul = Self::stopped(args, token);
        consul.restart().await;
        consul
    }

    /// Ports and a directory, but no agent yet; only to [`restart`](Self::restart) it later, as a `-dev` server.
    pub fn absent() -> Self {
        Self::stopped(&["-dev"], None)
    }

    fn stopped(args: &[&str], token: Option<&'static str>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("config.json"), CONFIG).expect("a file");
        if token.is_some() {
            std::fs::write(directory.path().join("acls.json"), ACLS).expect("a file");
        }
        Self {
            ports: Ports::free(),
            directory,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            token,
            agent: None,
        }
    }

    /// Starts the agent, again or for the first time, and waits until it answers and knows a leader.
    ///
    /// # Panics
    /// When it does not.
    pub async fn restart(&mut self) {
        self.spawn();
        let known = async || {
            let agent = self.agent.as_ref().expect("it was started");
            assert!(!agent.has_ended(), "Consul ended: {}", agent.logs());
            let answer = self
                .call("GET", "/v1/health/service/consul?passing", "")
                .await?;
            match serde_json::from_slice(&answer.body) {
                Ok(Value::Array(servers)) if !servers.is_empty() => Ok(()),
                _ => Err(format!("{}: {}", answer.status, answer.text())),
            }
        };
        eventually("Consul to have a leader", PATIENCE, known).await;
    }

    /// Starts the agent without waiting for it.
    pub fn spawn(&mut self) {
        let port = |port: u16| port.to_string();
        let mut program = Program::at(binary())
            .args(["agent", "-log-level", "warn", "-bind", "127.0.0.1"])
            .args(["-http-port", &port(self.ports.http)])
            .args(["-server-port", &port(self.ports.server)])
            .args(["-serf-lan-port", &port(self.ports.serf)])
            .args(["-dns-port", &port(self.ports.dns)])
            .args(["-serf-wan-port", &self.wan_port()])
            .arg("-config-dir")
            .arg(self.directory.path())
            .args(&self.args);
        if !self.args.iter().any(|arg| arg == "-dev") {
            program = program
                .arg("-data-dir")
                .arg(self.directory.path().join("data"));
        }
        self.agent = Some(program.spawn());
    }

    /// A gossip of servers over datacenters, only for those who are to have it.
    fn wan_port(&self) -> String {
        if self.args.iter().any(|arg| arg == "-datacenter") {
            self.ports.wan.to_string()
        } else {
            "-1".to_owned()
        }
    }

    /// Where its HTTP API is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.http))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill().await;
        }
    }

    /// Stops it where it stands; it keeps its connections and answers nothing.
    pub async fn freeze(&self) {
        self.agent.as_ref().expect("it was started").freeze().await;
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.agent.as_ref().expect("it was started").thaw();
    }

    /// A call of its API with every right.
    ///
    /// # Panics
    /// When it is not answered with 200.
    pub async fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self
            .call(method, path, &body)
            .await
            .expect("Consul answers");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    }

    /// `GET path` with every right.
    pub async fn get(&self, path: &str) -> Value {
        self.api("GET", path, &Value::Null).await
    }

    /// The index of an answer, to wait for the next one with.
    ///
    /// # Panics
    /// When there is none.
    pub async fn index(&self, path: &str) -> u64 {
        let answer = self.call("GET", path, "").await.expect("Consul answers");
        let index = answer.header("x-consul-index").map(str::parse);
        index.expect("an index").expect("a number")
    }

    /// Waits for an answer that is newer than `index`.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn blocking(&self, path: &str, index: u64) -> (Value, u64) {
        let path = format!("{path}?index={index}&wait=15s");
        let answer = self.call("GET", &path, "").await.expect("Consul answers");
        let newer = answer
            .header("x-consul-index")
            .and_then(|text| text.parse().ok());
        let newer = newer.filter(|newer| *newer != index);
        (answer.json(), newer.expect("something changed"))
    }

    /// Registers an instance whose health is what [`set_health`](Self::set_health) says, passing at first; `more` is added to
    /// the definition.
    pub async fn register(&self, name: &str, id: &str, address: SocketAddr, more: Value) {
        let mut service = json!({
            "ID": id, "Name": name, "Address": address.ip().to_string(), "Port": address.port(),
            "Check": { "CheckID": format!("service:{id}"), "TTL": "10m", "Status": "passing" },
        });
        if let (Value::Object(service), Value::Object(more)) = (&mut service, more) {
            service.extend(more);
        }
        self.api("PUT", "/v1/agent/service/register", &service)
            .await;
    }

    /// Deregisters an instance.
    pub async fn deregister(&self, id: &str) {
        self.api(
            "PUT",
            &format!("/v1/agent/service/deregister/{id}"),
            &Value::Null,
        )
        .await;
    }

    /// Makes the check of an instance `passing`, `warning` or `critical`.
    pub async fn set_health(&self, id: &str, status: &str) {
        let body = json!({ "Status": status, "Output": format!("{status} by the test") });
        self.api(
            "PUT",
            &format!("/v1/agent/check/update/service:{id}"),
            &body,
        )
        .await;
    }

    /// The instances of a service as `id` and the worst status of its checks, by id.
    pub async fn instances(&self, name: &str) -> Vec<(String, String)> {
        let found = self.get(&format!("/v1/health/service/{name}")).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let worst = |entry: &Value| {
            let statuses: Vec<String> = entry["Checks"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|check| text(&check["Status"]))
                .collect();
            let worst = ["critical", "warning"]
                .into_iter()
                .find(|bad| statuses.iter().any(|status| status == bad));
            worst.unwrap_or("passing").to_owned()
        };
        let mut found: Vec<_> = found
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| (text(&entry["Service"]["ID"]), worst(entry)))
            .collect();
        found.sort();
        found
    }

    /// A new token with these rules, in Consul's language.
    pub async fn token(&self, rules: &str) -> String {
        static POLICIES: AtomicU32 = AtomicU32::new(0);
        let name = format!("policy-{}", POLICIES.fetch_add(1, Relaxed));
        let policy = json!({ "Name": name, "Rules": rules });
        self.api("PUT", "/v1/acl/policy", &policy).await;
        let token = json!({ "Policies": [{ "Name": name }] });
        let made = self.api("PUT", "/v1/acl/token", &token).await;
        made["SecretID"].as_str().expect("a secret").to_owned()
    }

    /// Writes a key.
    ///
    /// # Panics
    /// When Consul does not take it.
    pub async fn put_key(&self, key: &str, text: &str) {
        let answer = self.call("PUT", &format!("/v1/kv/{key}"), text).await;
        let answer = answer.expect("Consul answers");
        assert_eq!(answer.text().trim(), "true", "PUT {key}");
    }

    /// Writes a key whose value is no text.
    ///
    /// # Panics
    /// When Consul does not take it.
    pub async fn put_bytes(&self, key: &str, value: &[u8]) {
        let mut client = Http1::connect(self.address()).await;
        let answer = client
            .request("PUT", &format!("/v1/kv/{key}"), &[], Some(value))
            .await;
        assert_eq!(answer.text().trim(), "true", "PUT {key}");
    }

    /// What is under a key.
    ///
    /// # Panics
    /// When Consul does not answer.
    pub async fn key(&self, key: &str) -> Option<String> {
        let answer = self.call("GET", &format!("/v1/kv/{key}?raw"), "").await;
        let answer = answer.expect("Consul answers");
        (answer.status == 200).then(|| answer.text())
    }

    /// The keys that begin so, in order.
    ///
    /// # Panics
    /// When Consul does not answer.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let answer = self.call("GET", &format!("/v1/kv/{prefix}?keys"), "").await;
        let answer = answer.expect("Consul answers");
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Deletes a key.
    pub async fn delete_key(&self, key: &str) {
        self.api("DELETE", &format!("/v1/kv/{key}"), &Value::Null)
            .await;
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Result<Response, String> {
        let headers: Vec<(&str, &str)> = self
            .token
            .map(|token| ("x-consul-token", token))
            .into_iter()
            .chain([("connection", "close")])
            .collect();
        // Not yet listening is no panic.
        let probe = tokio::net::TcpStream::connect(self.address()).await;
        probe.map_err(|error| error.to_string())?;
        let mut connection = Http1::connect(self.address()).await;
        Ok(connection
            .request(method, path, &headers, Some(body.as_bytes()))
            .await)
    }
}

impl Ports {
    /// Ports that are free for TCP and UDP, held all at once so that they differ.
    fn free() -> Self {
        let mut held = Vec::new();
        let mut port = || loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let address = tcp.local_addr().expect("a bound socket has an address");
            if let Ok(udp) = UdpSocket::bind(address) {
                held.push((tcp, udp));
                return address.port();
            }
        };
        Self {
            http: port(),
            server: port(),
            serf: port(),
            dns: port(),
            wan: port(),
            https: port(),
        }
    }
}

fn binary() -> PathBuf {
    let ours = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/bin/consul"));
    if ours.is_file() {
        ours.to_owned()
    } else {
        "consul".into()
    }
}
