//! The program's settings: `--help`, and what flags, environment and file come to.
//!
//! Every flag has a variable and a key: `--drain-timeout`, `HIGHPRESS_DRAIN_TIMEOUT`, `drain_timeout`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use service_kit::Mistakes;
use service_kit::service::{self, CommandLine, Names};
use service_kit::settings as kit;

use crate::app::PROGRAM;
use crate::kafka::{Address, KafkaSettings, Topic};
use crate::status::{SERVICE, VERSION};

/// The service's name in Consul.
pub(crate) const CATALOGUE: &str = "high-go-press-analytics";

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 50052);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 8082);
const DEFAULT_DATA: &str = "data/analytics";
/// The memory for counters and sums, if nothing else was said.
pub const DEFAULT_MEMORY: u64 = 1 << 30;
const DEFAULT_SNAPSHOT_INTERVAL: Duration = Duration::from_secs(300);
const DEFAULT_GROUP: &str = "highpress-analytics";

const AFTER_HELP: &str = "\
Every flag is also an environment variable and a key of the YAML file: --drain-timeout, HIGHPRESS_DRAIN_TIMEOUT,
drain_timeout. A flag beats the variable, the variable the key in Consul, and that the file. Logs go to standard error: HIGHPRESS_LOG=debug,
HIGHPRESS_LOG_FORMAT=json.

Try it:
  highpress-analytics --source kafka://127.0.0.1:9092/counter-events --data /tmp/analytics
  grpcurl -plaintext -d '{\"counter_type\": \"like\", \"period\": \"hour\"}' \\
      127.0.0.1:50052 analytics.AnalyticsService/GetTopCounters
  curl 127.0.0.1:8082/status

Without a source it serves what it has stored and counts nothing new; the program `highpress` feeds it from its
embedded counter instead.

Exit status: 0 done or drained, 2 bad arguments or configuration, 1 anything else.
SIGTERM and SIGINT drain: no new calls, those in flight finish, a second signal ends at once. SIGHUP reads the settings again and
says which of them need a restart.";

/// The command line.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "highpress-analytics",
    version,
    about = "Ranks counters and tells how they moved, over gRPC.",
    after_help = AFTER_HELP
)]
pub struct Arguments {
    /// Where to serve gRPC; port 0 takes a free one [default: 127.0.0.1:50052]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where events come from: `kafka://HOST:PORT[,HOST:PORT...]/TOPIC` [default: nowhere]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// The consumer group: instances of the same one share the partitions [default: highpress-analytics]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// The topic for messages that are no events [default: counter-events-dead-letter]
    #[arg(long, value_name = "TOPIC")]
    dead_letters: Option<String>,
    /// Where rankings are kept [default: data/analytics]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where to serve /livez, /readyz, /health, /metrics and /status [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The topic for snapshots, from which a new instance starts where the log has been cut; `none` for none
    /// [default: counter-analytics-snapshots]
    #[arg(long, value_name = "TOPIC")]
    snapshots: Option<String>,
    /// How often snapshots are written [default: 5m]
    #[arg(long, value_name = "DURATION")]
    snapshot_interval: Option<String>,
    /// The memory that counters and their sums may take, about; beyond it the smaller ones are estimated, and answers say by
    /// how much they may be wrong [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Other instances, `HOST:PORT,HOST:PORT...`, to ask for their shares of every answer; those in Consul are found
    #[arg(long, value_name = "ADDRESSES")]
    peers: Option<String>,
    #[command(flatten)]
    common: service::Arguments,
}

/// What the program runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to serve gRPC.
    pub listen: SocketAddr,
    /// Where to serve the admin port.
    pub admin: SocketAddr,
    /// Where rankings are kept.
    pub data: PathBuf,
    /// Where events come from, if anywhere.
    pub source: Option<KafkaSettings>,
    /// The bytes that counters and their sums may take.
    pub memory: u64,
    /// Other instances, beside those in Consul.
    pub peers: Vec<String>,
    /// What every service runs with.
    pub common: service::Settings,
}

impl Arguments {
    fn source(&self, kit: &mut kit::Settings) -> Option<KafkaSettings> {
        let address = kit.optional::<Address>("source", self.source.as_deref());
        let group = kit.value_with("group", self.group.as_deref(), DEFAULT_GROUP.into(), group);
        let letters = self.dead_letters.as_deref();
        let dead_letters = kit.optional::<Topic>("dead_letters", letters);
        let dead_letters = dead_letters.unwrap_or_else(Topic::dead_letters);
        if address
            .as_ref()
            .is_some_and(|address| address.topic() == dead_letters.name())
        {
            kit.mistake("dead_letters", "is the topic that events are read from");
        }
        let snapshots = kit.value_with(
            "snapshots",
            self.snapshots.as_deref(),
            Some(Topic::snapshots()),
            snapshots,
        );
        let snapshot_interval = kit.value_with(
            "snapshot_interval",
            self.snapshot_interval.as_deref(),
            DEFAULT_SNAPSHOT_INTERVAL,
            kit::duration,
        );
        Some(KafkaSettings {
            address: address?,
            group,
            dead_letters,
            snapshots,
            snapshot_interval: snapshot_interval.max(Duration::from_millis(100)),
        })
    }
}

impl CommandLine for Arguments {
    type Settings = Settings;

    const NAMES: Names = Names {
        program: PROGRAM,
        service: SERVICE,
        catalogue: CATALOGUE,
        version: VERSION,
    };

    fn common(&self) -> &service::Arguments {
        &self.common
    }

    fn read(&self, mut kit: kit::Settings) -> Result<Settings, Mistakes> {
        let settings = Settings {
            listen: kit.value("listen", self.listen.as_deref(), DEFAULT_LISTEN),
            admin: kit.value("admin", self.admin.as_deref(), DEFAULT_ADMIN),
            data: kit.value("data", self.data.as_deref(), DEFAULT_DATA.into()),
            source: self.source(&mut kit),
            memory: kit.value_with("memory", self.memory.as_deref(), DEFAULT_MEMORY, memory),
            peers: kit.value_with("peers", self.peers.as_deref(), Vec::new(), peers),
            common: self.common.read(&mut kit),
        };
        kit.finish().map(|()| settings)
    }
}

impl AsRef<service::Settings> for Settings {
    fn as_ref(&self) -> &service::Settings {
        &self.common
    }
}

fn snapshots(text: &str) -> Result<Option<Topic>, String> {
    if text == "none" {
        Ok(None)
    } else {
        text.parse().map(Some)
    }
}

fn memory(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 1 << 20;
    let memory = kit::size(text)?;
    if memory < LEAST {
        return Err("less than 1MiB is no memory to count in".to_owned());
    }
    Ok(memory)
}

fn peers(text: &str) -> Result<Vec<String>, String> {
    let peer = |text: &str| {
        let (host, port) = text.trim().rsplit_once(':')?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| format!("{host}:{port}"))
    };
    let peers = text.split(',').map(peer).collect::<Option<Vec<_>>>();
    peers.ok_or_else(|| "write them as HOST:PORT,HOST:PORT".to_owned())
}

fn group(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    let group = fits.then(|| text.to_owned());
    group.ok_or_else(|| "not a name of 1 to 255 characters".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read(arguments: &[&str]) -> Result<Settings, Mistakes> {
        let arguments = [&["highpress-analytics"], arguments].concat();
        Arguments::try_parse_from(arguments)
            .unwrap()
            .read(kit::Settings::open_in(None, |_| None))
    }

    #[test]
    fn defaults_are_the_contracts_ports() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:50052");
        assert_eq!(settings.admin.to_string(), "127.0.0.1:8082");
        assert_eq!(settings.data, PathBuf::from("data/analytics"));
    }

    #[test]
    fn events_come_from_a_topic() {
        let settings = read(&["--source", "kafka://127.0.0.1:9092/counter-events"]).unwrap();
        let source = settings.source.unwrap();
        assert_eq!(source.address.topic(), "counter-events");
        assert_eq!(source.group, "highpress-analytics");
        assert_eq!(source.dead_letters.name(), "counter-events-dead-letter");
        assert!(read(&["--source", "kafka://a:1/x", "--dead-letters", "x"]).is_err());
        assert!(read(&[]).unwrap().source.is_none());
    }

    #[test]
    fn all_mistakes_are_told_together() {
        let mistakes = read(&[
            "--source",
            "redis://127.0.0.1:9092/counter-events",
            "--consul",
            "ftp://127.0.0.1:8501",
            "--listen",
            "x",
        ])
        .unwrap_err();
        let named: Vec<&str> = mistakes
            .lines()
            .iter()
            .filter_map(|line| line.split(':').next())
            .collect();
        assert_eq!(named, ["--listen", "--source", "--consul"]);
        assert!(mistakes.lines()[1].contains("kafka://"), "{mistakes}");
    }
}
