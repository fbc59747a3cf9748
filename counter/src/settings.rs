//! The program's settings: `--help`, and what flags, environment and file come to.
//!
//! Every flag has a variable and a key: `--drain-timeout`, `HIGHPRESS_DRAIN_TIMEOUT`, `drain_timeout`. What a later version
//! brings is refused by name rather than swallowed.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use service_kit::Mistakes;
use service_kit::consul::{self as kit_consul, ConsulSettings};
use service_kit::settings as kit;

use crate::idempotency::{Term, Terms};
use crate::store::redis::Target;

const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50051);
const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8081);
const DEFAULT_STORE: &str = "data/counter";
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Below the deadlines that callers usually set, so that they hear why.
const DEFAULT_REDIS_TIMEOUT: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
Every flag is also an environment variable and a key of the YAML file: --drain-timeout, HIGHPRESS_DRAIN_TIMEOUT,
drain_timeout. A flag beats the variable, the variable beats the file. Logs go to standard error: HIGHPRESS_LOG=debug,
HIGHPRESS_LOG_FORMAT=json.

Try it:
  highpress-counter --store memory
  grpcurl -plaintext -d '{\"resource_id\": \"article_001\", \"counter_type\": \"like\"}' \\
      127.0.0.1:50051 counter.CounterService/IncrementCounter
  curl 127.0.0.1:8081/readyz

Exit status: 0 done or drained, 2 bad arguments or configuration, 1 anything else.
SIGTERM and SIGINT drain: no new calls, those in flight finish, a second signal ends at once.";

/// The command line.
#[derive(Debug, Default, Parser)]
#[command(
    name = "highpress-counter",
    version,
    about = "Counts likes, views and follows, over gRPC.",
    after_help = AFTER_HELP
)]
pub struct Arguments {
    /// Where to serve gRPC; port 0 takes a free one [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where counts are kept: `memory` (gone at the end), `embedded:DIR` (on disk here, fsynced before it is
    /// acknowledged) or `redis://[USER:PASSWORD@]HOST[:PORT][/DB]` [default: embedded:data/counter]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Where increments are announced: `none`; `kafka://HOST:PORT/TOPIC` is not in this version [default: none]
    #[arg(long, value_name = "EVENTS")]
    events: Option<String>,
    /// Where to serve /livez, /readyz, /health, /metrics and /status [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// How long a client's idempotency key is remembered [default: 1h]
    #[arg(long, value_name = "DURATION")]
    idempotency_retention: Option<String>,
    /// Room for clients' idempotency keys; when it is full, increments with a new one are refused [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    idempotency_memory: Option<String>,
    /// How long a key is remembered that a gateway made for its own retries [default: 2m]
    #[arg(long, value_name = "DURATION")]
    idempotency_gateway_retention: Option<String>,
    /// Room for gateways' idempotency keys, likewise [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    idempotency_gateway_memory: Option<String>,
    #[command(flatten)]
    consul: kit_consul::Arguments,
    /// The longest that a command to Redis may take [default: 1s]
    #[arg(long, value_name = "DURATION")]
    redis_timeout: Option<String>,
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
    /// Where counts are kept.
    pub store: StoreChoice,
    /// How long idempotency keys are remembered, and their room.
    pub keys: Terms,
    /// The longest that a command to Redis may take.
    pub redis_timeout: Duration,
    /// How long calls in flight may take to finish.
    pub drain_timeout: Duration,
    /// Worker threads; as many as the process may run on if not given.
    pub threads: Option<NonZeroUsize>,
    /// Where to register, if anywhere.
    pub consul: Option<ConsulSettings>,
}

/// Where counts are kept.
#[derive(Debug, Clone)]
pub enum StoreChoice {
    /// In memory.
    Memory,
    /// In this directory.
    Embedded(PathBuf),
    /// In this Redis.
    Redis(Target),
}

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            Some(("embedded", "")) => Err("name a directory: embedded:DIR".to_owned()),
            Some(("embedded", directory)) => Ok(Self::Embedded(directory.into())),
            Some(("redis" | "rediss", _)) => text.parse().map(Self::Redis),
            _ => Err("not a store: use memory, embedded:DIR or redis://HOST:PORT".to_owned()),
        }
    }
}

impl Arguments {
    /// Reads the file and the environment, and checks everything.
    pub fn settings(&self) -> Result<Settings, Mistakes> {
        self.read(kit::Settings::open(self.config.as_deref()))
    }

    fn keys(&self, kit: &mut kit::Settings) -> Terms {
        let Terms { client, gateway } = Terms::default();
        let mut term = |name: &str, flags: [&Option<String>; 2], default: Term| Term {
            retention: kit.value_with(
                &format!("{name}_retention"),
                flags[0].as_deref(),
                default.retention,
                positive_duration,
            ),
            memory: kit.value_with(
                &format!("{name}_memory"),
                flags[1].as_deref(),
                default.memory,
                kit::size,
            ),
        };
        Terms {
            client: term(
                "idempotency",
                [&self.idempotency_retention, &self.idempotency_memory],
                client,
            ),
            gateway: term(
                "idempotency_gateway",
                [
                    &self.idempotency_gateway_retention,
                    &self.idempotency_gateway_memory,
                ],
                gateway,
            ),
        }
    }

    fn read(&self, mut kit: kit::Settings) -> Result<Settings, Mistakes> {
        let settings = Settings {
            listen: kit.value("listen", self.listen.as_deref(), DEFAULT_LISTEN),
            admin: kit.value("admin", self.admin.as_deref(), DEFAULT_ADMIN),
            store: kit.value(
                "store",
                self.store.as_deref(),
                StoreChoice::Embedded(DEFAULT_STORE.into()),
            ),
            keys: self.keys(&mut kit),
            drain_timeout: kit.value_with(
                "drain_timeout",
                self.drain_timeout.as_deref(),
                DEFAULT_DRAIN_TIMEOUT,
                kit::duration,
            ),
            redis_timeout: kit.value_with(
                "redis_timeout",
                self.redis_timeout.as_deref(),
                DEFAULT_REDIS_TIMEOUT,
                positive_duration,
            ),
            threads: kit.optional("threads", self.threads.as_deref()),
            consul: self.consul.read(&mut kit),
        };
        kit.value_with("events", self.events.as_deref(), (), events);
        kit.finish().map(|()| settings)
    }
}

fn events(text: &str) -> Result<(), String> {
    match text {
        "none" => Ok(()),
        _ if text.starts_with("kafka://") => {
            Err("events to Kafka are not in this version; use none".to_owned())
        }
        _ => Err("not an event stream: use none".to_owned()),
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match kit::duration(text)? {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}
