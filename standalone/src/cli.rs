//! The command line of `highpress`, and what flags, environment and configuration come to.
//!
//! `highpress` alone is `highpress up`. The configuration file is a mesh.yaml: flags and variables beat what it says of listeners,
//! admin, threads, data, drain and services. Addresses that nobody chose may move to a free port; chosen ones are kept or refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mesh_config::Snapshot;
use service_kit::settings::{self as kit, Mistakes};

const DEFAULT_DATA: &str = "data";
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

const AFTER_HELP: &str = "\
Every flag is also an environment variable: --drain-timeout is HIGHPRESS_DRAIN_TIMEOUT; a flag beats the variable,
the variable beats the configuration: listeners, admin, threads, data, drain_timeout, services. Logs go to standard error: HIGHPRESS_LOG=debug, HIGHPRESS_LOG_FORMAT=json.

Examples:
  highpress
  highpress up --listen 0.0.0.0:8080 --data /var/lib/highpress
  highpress config > mesh.yaml

Exit status: 0 done or drained, 2 bad arguments or configuration, 1 anything else.
SIGTERM and SIGINT drain: no new requests, those in flight finish, a second signal ends at once.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "highpress",
    version,
    about = "The whole mesh in one process: gateway, counter and analytics. Nothing else is needed.",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) up: Up,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the mesh (what `highpress` alone does)
    Up(Box<Up>),
    /// Print the built-in mesh.yaml
    Config,
}

/// Arguments of `up`.
#[derive(Debug, Default, Args)]
pub(crate) struct Up {
    /// Where clients connect; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where counts and rankings are kept [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The gateway's admin page, health and metrics [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The counter's gRPC [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    counter_listen: Option<String>,
    /// The counter's health and metrics [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    counter_admin: Option<String>,
    /// Analytics' gRPC [default: 127.0.0.1:50052]
    #[arg(long, value_name = "ADDRESS")]
    analytics_listen: Option<String>,
    /// Analytics' health and metrics [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDRESS")]
    analytics_admin: Option<String>,
    /// Worker threads of the gateway [default: as many as the process may run on]
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// How long requests in flight may take to finish at the end [default: 20s]
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// A mesh.yaml instead of the built-in one; it is watched, and read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The address.
    pub(crate) address: SocketAddr,
    /// Nobody asked for this one: if it is taken, a free port of the same host does as well.
    pub(crate) movable: bool,
    /// The flag that sets it.
    pub(crate) flag: &'static str,
}

impl Wanted {
    /// The address that the configuration says, if it does and nobody has chosen another one.
    fn or(self, written: Option<SocketAddr>) -> Self {
        let written = written.filter(|_| self.movable);
        written.map_or(self, |address| Self {
            address,
            movable: false,
            ..self
        })
    }
}

/// What the mesh is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Instead of the configuration's first listener.
    pub(crate) listen: Option<SocketAddr>,
    /// Instead of the configuration's admin address.
    pub(crate) admin: Option<SocketAddr>,
    /// Where counts and rankings are kept.
    pub(crate) data: Choice<PathBuf>,
    pub(crate) counter: Wanted,
    pub(crate) counter_admin: Wanted,
    pub(crate) analytics: Wanted,
    pub(crate) analytics_admin: Wanted,
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) drain_timeout: Choice<Duration>,
    pub(crate) config: Option<PathBuf>,
}

/// A value, and whether somebody has chosen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice<T> {
    pub(crate) value: T,
    pub(crate) chosen: bool,
}

impl<T> Choice<T> {
    fn of(given: Option<T>, default: T) -> Self {
        Self {
            chosen: given.is_some(),
            value: given.unwrap_or(default),
        }
    }

    /// What the configuration says, if it does and nobody has chosen another one.
    fn or(self, written: Option<T>) -> Self {
        let value = if self.chosen { None } else { written };
        value.map_or(self, |value| Self {
            value,
            chosen: false,
        })
    }
}

impl Settings {
    /// The same with what a configuration says and neither flags nor environment do.
    pub(crate) fn over(self, written: &Snapshot) -> Self {
        let services = &written.services;
        Self {
            data: self.data.or(written.data.clone()),
            drain_timeout: self
                .drain_timeout
                .or(written.drain_timeout.map(|timeout| timeout.get())),
            counter: self.counter.or(services.counter.listen),
            counter_admin: self.counter_admin.or(services.counter.admin),
            analytics: self.analytics.or(services.analytics.listen),
            analytics_admin: self.analytics_admin.or(services.analytics.admin),
            ..self
        }
    }
}

impl Up {
    /// Reads the environment, and checks everything.
    pub(crate) fn settings(&self) -> Result<Settings, Mistakes> {
        self.read(kit::Settings::without_file(|name| std::env::var(name).ok()))
    }

    fn read(&self, mut kit: kit::Settings) -> Result<Settings, Mistakes> {
        let settings = Settings {
            listen: kit.optional("listen", self.listen.as_deref()),
            admin: kit.optional("admin", self.admin.as_deref()),
            data: Choice::of(
                kit.optional("data", self.data.as_deref()),
                DEFAULT_DATA.into(),
            ),
            counter: wanted(
                &mut kit,
                "counter_listen",
                "--counter-listen",
                self.counter_listen.as_deref(),
                50051,
            ),
            counter_admin: wanted(
                &mut kit,
                "counter_admin",
                "--counter-admin",
                self.counter_admin.as_deref(),
                8081,
            ),
            analytics: wanted(
                &mut kit,
                "analytics_listen",
                "--analytics-listen",
                self.analytics_listen.as_deref(),
                50052,
            ),
            analytics_admin: wanted(
                &mut kit,
                "analytics_admin",
                "--analytics-admin",
                self.analytics_admin.as_deref(),
                8082,
            ),
            threads: kit.optional("threads", self.threads.as_deref()),
            drain_timeout: Choice::of(
                kit.optional_with(
                    "drain_timeout",
                    self.drain_timeout.as_deref(),
                    kit::duration,
                ),
                DEFAULT_DRAIN_TIMEOUT,
            ),
            config: kit.optional("config", self.config.as_deref()),
        };
        kit.finish().map(|()| settings)
    }
}

fn wanted(
    kit: &mut kit::Settings,
    name: &str,
    flag: &'static str,
    given: Option<&str>,
    port: u16,
) -> Wanted {
    let chosen = kit.optional(name, given);
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    Wanted {
        address: chosen.unwrap_or(default),
        movable: chosen.is_none(),
        flag,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read(arguments: &[&str]) -> Result<Settings, Mistakes> {
        let cli = Cli::try_parse_from([&["highpress"], arguments].concat()).unwrap();
        let up = match cli.command {
            Some(Command::Up(up)) => *up,
            _ => cli.up,
        };
        up.read(kit::Settings::without_file(|_| None))
    }

    #[test]
    fn up_may_be_left_out() {
        let arguments = ["--listen", "127.0.0.1:0", "--data", "/tmp/x"];
        let with = [&["up"], arguments.as_slice()].concat();
        assert_eq!(read(&arguments).unwrap(), read(&with).unwrap());
    }

    #[test]
    fn only_default_addresses_may_move() {
        let settings = read(&["--counter-listen", "127.0.0.1:50051"]).unwrap();
        assert!(!settings.counter.movable);
        assert!(settings.analytics.movable);
        assert_eq!(settings.analytics.address.port(), 50052);
    }

    #[test]
    fn every_mistake_is_told() {
        let mistakes = read(&[
            "--listen",
            "8080",
            "--threads",
            "0",
            "--drain-timeout",
            "soon",
        ])
        .unwrap_err();
        assert_eq!(mistakes.lines().len(), 3, "{mistakes}");
    }
}
