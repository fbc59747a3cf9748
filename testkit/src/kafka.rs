//! A real Kafka broker of one's own: KRaft, one node, on free ports, in a directory that goes away.
//!
//! It can be killed, frozen and started again on the same port with the same log. The jars are in `.tools/kafka` of the
//! checkout (`make setup` puts them there). A start costs some seconds of CPU, so tests share one broker where they can and
//! take a topic each.

mod wire;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use self::wire::{Connection, Failed};
use crate::program::{Program, Running};
use crate::wait::{PATIENCE, eventually};

/// Small, quick to come back after a kill (`broker.session.timeout.ms`), and nothing is made that was not asked for.
const PROPERTIES: &str = "\
process.roles=broker,controller
node.id=1
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
auto.create.topics.enable=false
num.partitions=4
num.network.threads=2
num.io.threads=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.check.interval.ms=500
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=500
";

const LOGGING: &str = "\
status=warn
appender.console.type=Console
appender.console.name=STDOUT
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRefs=stdout
rootLogger.appenderRef.stdout.ref=STDOUT
";

/// For many small processes on few cores: one collector thread, no second compiler.
const JVM: [&str; 4] = [
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
];

/// A Kafka broker. Killed when dropped.
#[derive(Debug)]
pub struct Kafka {
    address: SocketAddr,
    doors: Vec<SocketAddr>,
    directory: TempDir,
    broker: Option<Running>,
}

impl Kafka {
    /// An address and a directory, but no broker yet: only to [`restart`](Self::restart) it later.
    ///
    /// # Panics
    /// When the machine has no port or no disk.
    pub fn stopped() -> Self {
        Self::behind(&[])
    }

    /// The same with a [door](Self::doors) for each of these addresses: who comes in there is told that the broker is at that
    /// address, so that something may stand between.
    ///
    /// # Panics
    /// When the machine has no port or no disk.
    pub fn behind(fronts: &[SocketAddr]) -> Self {
        // Held all at once so that they differ.
        let held: Vec<TcpListener> = (0..2 + fronts.len())
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"))
            .collect();
        let at = |held: &TcpListener| held.local_addr().expect("a bound socket has an address");
        let (address, controller) = (at(&held[0]), at(&held[1]));
        let doors: Vec<SocketAddr> = held[2..].iter().map(at).collect();
        let list = |addresses: &[SocketAddr]| -> String {
            let named = addresses.iter().enumerate();
            named
                .map(|(n, address)| format!(",DOOR{n}://{address}"))
                .collect()
        };
        let directory = tempfile::tempdir().expect("a directory");
        let properties = format!(
            "{}listeners=PLAINTEXT://{address},CONTROLLER://{controller}{}\n\
             advertised.listeners=PLAINTEXT://{address}{}\ncontroller.quorum.voters=1@{controller}\n\
             log.dirs={}\n",
            protocols(doors.len()),
            list(&doors),
            list(fronts),
            directory.path().join("log").display()
        );
        let write = |name, text: &str| std::fs::write(directory.path().join(name), text);
        write("server.properties", &properties).expect("a file");
        write("log4j2.properties", LOGGING).expect("a file");
        Self {
            address,
            doors,
            directory,
            broker: None,
        }
    }

    /// A broker that answers.
    pub async fn start() -> Self {
        let mut kafka = Self::stopped();
        kafka.restart().await;
        kafka
    }

    /// Starts the broker, again or for the first time, and waits until it takes part in its cluster.
    ///
    /// # Panics
    /// When it does not.
    pub async fn restart(&mut self) {
        if !self.directory.path().join("log/meta.properties").is_file() {
            self.format().await;
        }
        self.spawn();
        let known = async || {
            let broker = self.broker.as_ref().expect("it was started");
            assert!(!broker.has_ended(), "Kafka ended: {}", broker.logs());
            match self.connect().await?.brokers().await? {
                0 => Err(Failed::from("no broker is registered")),
                _ => Ok(()),
            }
        };
        eventually("Kafka to be registered", PATIENCE * 3, known).await;
    }

    /// Starts the broker without waiting for it; it must have run before.
    pub fn spawn(&mut self) {
        let program = self.java("kafka.Kafka").arg(self.properties());
        self.broker = Some(program.spawn());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for those who come by another address, in the order of those.
    pub fn doors(&self) -> &[SocketAddr] {
        &self.doors
    }

    /// `kafka://127.0.0.1:PORT/TOPIC`.
    pub fn url(&self, topic: &str) -> String {
        format!("kafka://{}/{topic}", self.address)
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.kill().await;
        }
    }

    /// `kill -9`, and everything that it had is gone: topics, messages, groups.
    ///
    /// # Panics
    /// When its log cannot be removed.
    pub async fn lose_everything(&mut self) {
        self.kill().await;
        let log = self.directory.path().join("log");
        std::fs::remove_dir_all(log).expect("its log can be removed");
    }

    /// SIGTERM, and waits until it has ended.
    pub async fn stop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop_within(PATIENCE).await;
        }
    }

    /// Stops it where it stands; it keeps its connections and answers nothing.
    pub async fn freeze(&self) {
        self.running().freeze().await;
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.running().thaw();
    }

    /// What it has logged since it was started last.
    pub fn logs(&self) -> String {
        self.running().logs()
    }

    /// Makes a topic with this configuration (`cleanup.policy`, `retention.ms`, …), and waits until it can be written.
    ///
    /// # Panics
    /// When it is there, or cannot be made.
    pub async fn create_topic(&self, name: &str, partitions: u32, config: &[(&str, &str)]) {
        let made = async || {
            let mut connection = self.connect().await?;
            match connection.create_topic(name, partitions, config).await {
                // Made by a try whose answer was lost.
                Err(Failed::Code { code: 36, .. }) => Ok(()),
                other => other,
            }
        };
        eventually(&format!("Kafka to make {name}"), PATIENCE, made).await;
        let led = async || {
            let leaders = self.connect().await?.leaders(name).await?;
            if leaders.len() == partitions as usize && leaders.iter().all(|leader| *leader >= 0) {
                Ok(())
            } else {
                Err(Failed::from(format!("leaders {leaders:?}").as_str()))
            }
        };
        eventually(&format!("{name} to have leaders"), PATIENCE, led).await;
    }

    /// Cuts the log of a partition: what stands before `offset` is gone.
    pub async fn delete_before(&self, topic: &str, partition: u32, offset: u64) {
        let cut = async || {
            let mut connection = self.connect().await?;
            connection.delete_before(topic, partition, offset).await
        };
        eventually("Kafka to cut a log", PATIENCE, cut).await;
    }

    /// What each partition of a topic holds, from its oldest record to after its newest.
    pub async fn offsets(&self, topic: &str) -> Vec<Range<u64>> {
        let ask = async || {
            let mut connection = self.connect().await?;
            let partitions = connection.leaders(topic).await?.len();
            let oldest = connection.offsets(topic, partitions, -2).await?;
            let newest = connection.offsets(topic, partitions, -1).await?;
            let ranges = oldest.into_iter().zip(newest);
            Ok::<_, Failed>(ranges.map(|(oldest, newest)| oldest..newest).collect())
        };
        eventually(&format!("the offsets of {topic}"), PATIENCE, ask).await
    }

    async fn format(&self) {
        let ended = self
            .java("kafka.tools.StorageTool")
            .args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg(self.properties())
            .run()
            .await;
        assert!(
            ended.status.success(),
            "Kafka's log cannot be made: {}",
            ended.output
        );
    }

    fn java(&self, class: &str) -> Program {
        let logging = self.directory.path().join("log4j2.properties");
        let mut jars = jars().into_os_string();
        jars.push("/*");
        Program::at("java")
            .args(JVM)
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg("-cp")
            .arg(jars)
            .arg(class)
            .dir(self.directory.path())
    }

    fn properties(&self) -> PathBuf {
        self.directory.path().join("server.properties")
    }

    fn running(&self) -> &Running {
        self.broker.as_ref().expect("the broker was started")
    }

    async fn connect(&self) -> Result<Connection, Failed> {
        Connection::open(self.address).await
    }
}

/// All settings that do not depend on ports but on how many doors there are.
fn protocols(doors: usize) -> String {
    const PLAIN: &str = "listener.security.protocol.map=PLAINTEXT:PLAINTEXT";
    let doors: String = (0..doors).map(|n| format!(",DOOR{n}:PLAINTEXT")).collect();
    PROPERTIES.replace(PLAIN, &format!("{PLAIN}{doors}"))
}

fn jars() -> PathBuf {
    let jars = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/kafka/libs"));
    assert!(
        jars.is_dir(),
        "no Kafka in {}: `make setup` puts it there",
        jars.display()
    );
    jars.to_owned()
}
