//! Redis with replicas, behind Sentinels, as a cluster, over TLS: killed, failed over and resharded under load.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use testkit::topic::{read, sums};
use testkit::wait::{eventually, within};
use testkit::{Kafka, Program, Running};
use tokio::task::JoinSet;
use tonic::Code;

use super::events::{sent, start};
use super::setup::{Client, Key, add, add_once, batch, connect, get, on_free_ports, violations};

const LONG: Duration = Duration::from_secs(60);

/// A server of one's own, and how to start it again.
struct Server {
    port: u16,
    directory: TempDir,
    arguments: Vec<String>,
    running: Option<Running>,
}

impl Server {
    fn new(arguments: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            port: listener.local_addr().unwrap().port(),
            directory: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            running: None,
        }
    }

    async fn started(arguments: &[&str]) -> Self {
        let mut server = Self::new(arguments);
        server.start().await;
        server
    }

    async fn start(&mut self) {
        let port = self.port.to_string();
        let program = Program::at("redis-server").args(&self.arguments);
        let program = program
            .args(["--bind", "127.0.0.1", "--port", &port, "--dir"])
            .arg(self.directory.path());
        self.running = Some(program.spawn());
        eventually("Redis to listen", LONG, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .map(|_| ())
        })
        .await;
    }

    async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill().await;
        }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// What `redis-cli` says.
async fn cli(port: u16, words: &[&str]) -> String {
    let ended = Program::at("redis-cli")
        .args(["-p", &port.to_string()])
        .args(words)
        .run()
        .await;
    ended.output
}

const DATA: [&str; 6] = [
    "--appendonly",
    "yes",
    "--save",
    "",
    "--repl-diskless-sync-delay",
    "0",
];

async fn replica_of(primary: &Server) -> Server {
    let port = primary.port.to_string();
    let server = Server::started(&[&DATA[..], &["--replicaof", "127.0.0.1", &port]].concat()).await;
    linked(server.port).await;
    server
}

async fn linked(port: u16) {
    eventually("the replica to be linked", LONG, async || {
        let told = cli(port, &["INFO", "replication"]).await;
        if told.contains("master_link_status:up") {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
}

/// Increments under keys of their own, each repeated until it is answered.
struct Load {
    tasks: JoinSet<()>,
    expected: HashMap<String, u64>,
    calls: usize,
}

impl Load {
    fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
            expected: HashMap::new(),
            calls: 0,
        }
    }

    fn add(&mut self, client: &Client, calls: usize) {
        for _ in 0..calls {
            self.calls += 1;
            let (client, key) = (client.clone(), format!("k{}", self.calls));
            let name = format!("r{}", self.calls % 40);
            *self.expected.entry(format!("{name}:like")).or_default() += 1;
            self.tasks.spawn(async move {
                eventually(
                    &format!("an answer to {key}"),
                    LONG,
                    async || match add_once(&client, &name, "like", 1, Key::client(&key)).await {
                        Ok(_) => Ok(()),
                        Err(error) if error.code() == Code::Unavailable => {
                            Err(error.message().to_owned())
                        }
                        Err(error) => panic!("{error:?}"),
                    },
                )
                .await;
            });
        }
    }

    async fn some(&mut self, calls: usize) {
        for _ in 0..calls {
            self.tasks.join_next().await.unwrap().unwrap();
        }
    }

    /// Counts and events are what was acknowledged, no more and no less.
    async fn check(mut self, counter: &Running, kafka: &Kafka, topic: &str) {
        while let Some(done) =
            within("every call to be answered", LONG, self.tasks.join_next()).await
        {
            done.unwrap();
        }
        sent(counter).await;
        let (client, sums) = (connect(counter).await, sums(&read(kafka, topic).await));
        for (name, count) in &self.expected {
            let resource = name.strip_suffix(":like").unwrap();
            let counted = get(&client, resource, "like").await.unwrap();
            assert_eq!(counted.unsigned_abs(), *count, "{name}");
            assert_eq!(
                (sums[name].events, sums[name].last),
                (*count, counted),
                "{name}"
            );
        }
        assert_eq!(sums.len(), self.expected.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_the_next_primary() {
    let kafka = Kafka::start().await;
    let mut primary = Server::started(&DATA).await;
    let replica = replica_of(&primary).await;
    let configuration = format!(
        "sentinel monitor main 127.0.0.1 {} 2\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n",
        primary.port
    );
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        let mut sentinel = Server::new(&[]);
        let file = sentinel.directory.path().join("sentinel.conf");
        std::fs::write(&file, &configuration).unwrap();
        sentinel.arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        sentinel.start().await;
        sentinels.push(sentinel);
    }
    for sentinel in &sentinels {
        eventually("the Sentinels to know each other", LONG, async || {
            let told = cli(sentinel.port, &["SENTINEL", "MASTER", "main"]).await;
            let lines: Vec<&str> = told.lines().collect();
            let field = |name: &str| {
                lines
                    .windows(2)
                    .find(|pair| pair[0] == name)
                    .map(|pair| pair[1])
            };
            let known = (field("num-other-sentinels"), field("num-slaves"));
            if known == (Some("2"), Some("1")) {
                Ok(())
            } else {
                Err(told)
            }
        })
        .await;
    }
    let nodes: Vec<String> = sentinels.iter().map(Server::address).collect();
    let url = format!("redis+sentinel://127.0.0.1:1,{}/main", nodes.join(","));
    let counter = start(&url, &kafka, "events", &["--redis-wait", "1:500ms"]).await;
    let client = connect(&counter).await;
    let mut load = Load::new();
    load.add(&client, 300);
    load.some(100).await;
    primary.kill().await;
    load.add(&client, 300);
    eventually("another primary", LONG, async || {
        let told = cli(replica.port, &["ROLE"]).await;
        if told.starts_with("master") {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
    // Acknowledgements wait for a replica, which this one becomes.
    primary.start().await;
    load.check(&counter, &kafka, "events").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_found_among_several() {
    let kafka = Kafka::start().await;
    let mut primary = Server::started(&DATA).await;
    let replica = replica_of(&primary).await;
    let url = format!("redis://{},{}", replica.address(), primary.address());
    let counter = start(&url, &kafka, "events", &[]).await;
    let client = connect(&counter).await;
    let mut load = Load::new();
    load.add(&client, 100);
    load.some(100).await;
    // The roles change hands while both are there: what was acknowledged is on both.
    linked(replica.port).await;
    cli(primary.port, &["FAILOVER"]).await;
    load.add(&client, 100);
    load.some(100).await;
    eventually("the primary to be a replica", LONG, async || {
        let told = cli(primary.port, &["ROLE"]).await;
        if told.starts_with("slave") {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
    primary.kill().await;
    load.add(&client, 10);
    load.check(&counter, &kafka, "events").await;
}

async fn cluster() -> Vec<Server> {
    let mut nodes = Vec::new();
    for _ in 0..6 {
        let bus = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let bus = bus.to_string();
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "1000",
            "--cluster-port",
            &bus,
        ];
        nodes.push(Server::started(&[&DATA[..], &arguments].concat()).await);
    }
    let addresses: Vec<String> = nodes.iter().map(Server::address).collect();
    let ended = Program::at("redis-cli")
        .args(["--cluster", "create"])
        .args(&addresses)
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .run()
        .await;
    assert!(
        ended.output.contains("All 16384 slots covered"),
        "{}",
        ended.output
    );
    for node in &nodes {
        eventually("the cluster to be whole", LONG, async || {
            let told = cli(node.port, &["CLUSTER", "INFO"]).await;
            let replication = cli(node.port, &["INFO", "replication"]).await;
            let linked = replication.contains("role:master")
                && replication.contains("connected_slaves:1")
                || replication.contains("master_link_status:up");
            if told.contains("cluster_state:ok") && linked {
                Ok(())
            } else {
                Err(told + &replication)
            }
        })
        .await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_counts_through_failover_and_resharding() {
    let kafka = Kafka::start().await;
    let mut nodes = cluster().await;
    let url = format!(
        "redis+cluster://{},{}",
        nodes[1].address(),
        nodes[2].address()
    );
    let counter = start(&url, &kafka, "events", &["--redis-wait", "1:500ms"]).await;
    let client = connect(&counter).await;
    let error = add(&client, "a{b}", "like", 1).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(violations(&error).len(), 1);
    let mut load = Load::new();
    load.add(&client, 300);
    load.some(300).await;
    let names: Vec<String> = (0..40).map(|n| format!("r{n}")).collect();
    let items: Vec<_> = names.iter().map(|name| (name.as_str(), "like")).collect();
    let counts = batch(&client, &items).await.unwrap();
    assert_eq!(counts.iter().sum::<i64>(), 300);
    // Slots of a third of the counters move while they are counted.
    let id = |told: String| told.lines().next().unwrap().to_owned();
    let (from, to) = (
        id(cli(nodes[0].port, &["CLUSTER", "MYID"]).await),
        id(cli(nodes[1].port, &["CLUSTER", "MYID"]).await),
    );
    load.add(&client, 300);
    let resharded = Program::at("redis-cli")
        .args([
            "--cluster",
            "reshard",
            &nodes[0].address(),
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
        ])
        .args(["--cluster-slots", "300", "--cluster-yes"])
        .run()
        .await;
    assert_eq!(resharded.status.code(), Some(0), "{}", resharded.output);
    load.some(300).await;
    load.add(&client, 200);
    load.some(50).await;
    nodes[1].kill().await;
    load.add(&client, 200);
    tokio::time::sleep(Duration::from_secs(4)).await;
    nodes[1].start().await;
    load.check(&counter, &kafka, "events").await;
}

/// A certificate for 127.0.0.1 that vouches for itself.
async fn certificate(directory: &Path) {
    let ended = Program::at("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=redis",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
        ])
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("cert.pem"))
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
}

#[tokio::test]
async fn tls_wants_a_certificate_that_somebody_vouches_for() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path()).await;
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let tls = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let _server = Server::started(&[
        "--tls-port",
        &tls.to_string(),
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "p@ss",
        "--save",
        "",
    ])
    .await;
    let url = format!("rediss://:p%40ss@127.0.0.1:{tls}");
    let trusting = on_free_ports()
        .args(["--store", &format!("{url}?ca={cert}")])
        .start()
        .await;
    let client = connect(&trusting).await;
    assert_eq!(add(&client, "a", "like", 2).await.unwrap().current_value, 2);
    let doubting = on_free_ports().args(["--store", &url]).start().await;
    let error = add(&connect(&doubting).await, "a", "like", 2)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(!error.message().contains("p@ss"), "{error:?}");
}
