//! The program's settings: `--help`, and what flags, environment and file come to.
//!
//! Every flag has a variable and a key: `--drain-timeout`, `HIGHPRESS_DRAIN_TIMEOUT`, `drain_timeout`. What a later version
//! brings is refused by name rather than swallowed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use service_kit::Mistakes;
use service_kit::consul::{self as kit_consul, ConsulSettings};
use service_kit::settings as kit;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 50052);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 8082);
const DEFAULT_DATA: &str = "data/analytics";
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

const AFTER_HELP: &str = "\
Every flag is also an environment variable and a key of the YAML file: --drain-timeout, HIGHPRESS_DRAIN_TIMEOUT,
drain_timeout. A flag beats the variable, the variable beats the file. Logs go to standard error: HIGHPRESS_LOG=debug,
HIGHPRESS_LOG_FORMAT=json.

Try it:
  highpress-analytics --data /tmp/analytics
  grpcurl -plaintext -d '{\"counter_type\": \"like\", \"period\": \"hour\"}' \\
      127.0.0.1:50052 analytics.AnalyticsService/GetTopCounters
  curl 127.0.0.1:8082/status

Without a source it serves what it has stored and counts nothing new: the program `highpress` feeds it from its
embedded counter.

Exit status: 0 done or drained, 2 bad arguments or configuration, 1 anything else.
SIGTERM and SIGINT drain: no new calls, those in flight finish, a second signal ends at once.";

/// The command line.
#[derive(Debug, Default, Parser)]
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
    /// Where events come from: `kafka://HOST:PORT/TOPIC` is not in this version [default: nowhere]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Where rankings are kept [default: data/analytics]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where to serve /livez, /readyz, /health, /metrics and /status [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    #[command(flatten)]
    consul: kit_consul::Arguments,
    /// How long calls in flight may take to finish at the end [default: 20s]
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// Worker threads [default: as many as the process may run on]
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// A YAML file with any of these keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// How long calls in flight may take to finish.
    pub drain_timeout: Duration,
    /// Worker threads; as many as the process may run on if not given.
    pub threads: Option<NonZeroUsize>,
    /// Where to register, if anywhere.
    pub consul: Option<ConsulSettings>,
}

impl Arguments {
    /// Reads the file and the environment, and checks everything.
    pub fn settings(&self) -> Result<Settings, Mistakes> {
        self.read(kit::Settings::open(self.config.as_deref()))
    }

    fn read(&self, mut kit: kit::Settings) -> Result<Settings, Mistakes> {
        let settings = Settings {
            listen: kit.value("listen", self.listen.as_deref(), DEFAULT_LISTEN),
            admin: kit.value("admin", self.admin.as_deref(), DEFAULT_ADMIN),
            data: kit.value("data", self.data.as_deref(), DEFAULT_DATA.into()),
            drain_timeout: kit.value_with(
                "drain_timeout",
                self.drain_timeout.as_deref(),
                DEFAULT_DRAIN_TIMEOUT,
                kit::duration,
            ),
            threads: kit.optional("threads", self.threads.as_deref()),
            consul: self.consul.read(&mut kit),
        };
        kit.value_with("source", self.source.as_deref(), (), source);
        kit.finish().map(|()| settings)
    }
}

fn source(text: &str) -> Result<(), String> {
    Err(if text.starts_with("kafka://") {
        "events from Kafka are not in this version; leave it out, or use `highpress`, which has events of its own"
    } else {
        "not a source of events; leave it out"
    }
    .to_owned())
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
    fn what_is_not_in_this_version_is_refused_by_name_together_with_all_else() {
        let mistakes = read(&[
            "--source",
            "kafka://127.0.0.1:9092/counter-events",
            "--consul",
            "https://127.0.0.1:8501",
            "--listen",
            "x",
        ])
        .unwrap_err();
        let named: Vec<&str> = mistakes
            .lines()
            .iter()
            .filter_map(|line| line.split(':').next())
            .collect();
        assert_eq!(named, ["--listen", "--consul", "--source"]);
        assert!(
            mistakes.lines()[2].contains("not in this version"),
            "{mistakes}"
        );
    }
}
