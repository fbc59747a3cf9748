//! The program's settings: `--help`, and what flags, environment and file come to.
//!
//! Every flag has a variable and a key: `--drain-timeout`, `HIGHPRESS_DRAIN_TIMEOUT`, `drain_timeout`. What a later version
//! brings is refused by name rather than swallowed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use service_kit::Mistakes;
use service_kit::service::{self, CommandLine, Names};
use service_kit::settings as kit;

use crate::app::PROGRAM;
use crate::idempotency::{Term, Terms};
use crate::relay::KafkaTarget;
use crate::status::{SERVICE, VERSION};
use crate::store::redis::{Durable, Target};
use crate::tools::Tool;

const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50051);
const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8081);
const DEFAULT_STORE: &str = "data/counter";
/// Below the deadlines that callers usually set, so that they hear why.
const DEFAULT_REDIS_TIMEOUT: Duration = Duration::from_secs(1);

/// Some 600 MB in Redis: an hour of 2,700 increments a second.
const DEFAULT_OUTBOX_LIMIT: u64 = 10_000_000;

const AFTER_HELP: &str = "\
Every flag is also an environment variable and a key of the YAML file: --drain-timeout, HIGHPRESS_DRAIN_TIMEOUT,
drain_timeout. A flag beats the variable, the variable the key in Consul, and that the file. Logs go to standard error: HIGHPRESS_LOG=debug,
HIGHPRESS_LOG_FORMAT=json.

Try it:
  highpress-counter --store memory
  grpcurl -plaintext -d '{\"resource_id\": \"article_001\", \"counter_type\": \"like\"}' \\
      127.0.0.1:50051 counter.CounterService/IncrementCounter
  curl 127.0.0.1:8081/readyz

Exit status: 0 done or drained, 2 bad arguments or configuration, 1 anything else.
SIGTERM and SIGINT drain: no new calls, those in flight finish, a second signal ends at once. SIGHUP reads the settings again and
says which of them need a restart.";

/// The command line.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "highpress-counter",
    version,
    about = "Counts likes, views and follows, over gRPC.",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    subcommand_help_heading = "Tools"
)]
pub struct Arguments {
    #[command(subcommand)]
    tool: Option<Tool>,
    /// Where to serve gRPC; port 0 takes a free one [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where counts are kept: `memory` (gone at the end), `embedded:DIR` (on disk here, fsynced before it is
    /// acknowledged) or Redis: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]` (several HOST:PORT with commas between them: the
    /// primary among them), `redis+sentinel://HOST:PORT[,...]/NAME`, `redis+cluster://HOST:PORT[,...]`; `rediss` for TLS, with
    /// `?ca=FILE` for an authority of your own [default: embedded:data/counter]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Where increments are announced: `none`, or `kafka://HOST:PORT[,HOST:PORT]/TOPIC`. Each leaves an event in the store, in
    /// the same atomic step, that is sent from there: at least once, in order, however long Kafka is away [default: none]
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
    /// Events that may wait for Kafka; when so many do, increments are refused [default: 10000000]
    #[arg(long, value_name = "EVENTS")]
    outbox_limit: Option<String>,
    /// The longest that a command to Redis may take [default: 1s]
    #[arg(long, value_name = "DURATION")]
    redis_timeout: Option<String>,
    /// Acknowledge an increment when so many replicas of Redis have it, and say that its outcome is unknown if that takes
    /// longer, such as `1:200ms` [default: no waiting]
    #[arg(long, value_name = "REPLICAS:TIMEOUT")]
    redis_wait: Option<String>,
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
    /// Where counts are kept.
    pub store: StoreChoice,
    /// Where increments are announced.
    pub events: EventsChoice,
    /// Events that may wait for it.
    pub outbox_limit: u64,
    /// Whether replicas of Redis are waited for.
    pub redis_wait: Option<Durable>,
    /// How long idempotency keys are remembered, and their room.
    pub keys: Terms,
    /// The longest that a command to Redis may take.
    pub redis_timeout: Duration,
    /// What every service runs with.
    pub common: service::Settings,
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

/// Where increments are announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsChoice {
    /// Nowhere.
    None,
    /// In this topic.
    Kafka(KafkaTarget),
}

impl FromStr for EventsChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            _ if text.starts_with("kafka://") => text.parse().map(Self::Kafka),
            _ => Err("not an event stream: use none or kafka://HOST:PORT/TOPIC".to_owned()),
        }
    }
}

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            Some(("embedded", "")) => Err("name a directory: embedded:DIR".to_owned()),
            Some(("embedded", directory)) => Ok(Self::Embedded(directory.into())),
            Some((scheme, _)) if scheme.starts_with("redis") => text.parse().map(Self::Redis),
            _ => Err("not a store: use memory, embedded:DIR or redis://HOST:PORT".to_owned()),
        }
    }
}

impl Arguments {
    /// What to do instead of serving, if anything.
    pub fn tool(&self) -> Option<&Tool> {
        self.tool.as_ref()
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
}

impl CommandLine for Arguments {
    type Settings = Settings;

    const NAMES: Names = Names {
        program: PROGRAM,
        service: SERVICE,
        catalogue: "high-go-press-counter",
        version: VERSION,
    };

    fn common(&self) -> &service::Arguments {
        &self.common
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
            events: kit.value("events", self.events.as_deref(), EventsChoice::None),
            outbox_limit: kit.value_with(
                "outbox_limit",
                self.outbox_limit.as_deref(),
                DEFAULT_OUTBOX_LIMIT,
                positive_number,
            ),
            redis_wait: kit.optional("redis_wait", self.redis_wait.as_deref()),
            keys: self.keys(&mut kit),
            redis_timeout: kit.value_with(
                "redis_timeout",
                self.redis_timeout.as_deref(),
                DEFAULT_REDIS_TIMEOUT,
                positive_duration,
            ),
            common: self.common.read(&mut kit),
        };
        if matches!(settings.store, StoreChoice::Memory) && settings.events != EventsChoice::None {
            kit.mistake("events", "the memory store keeps no events: they would be gone at the end; use embedded:DIR or redis://");
        }
        if settings.redis_wait.is_some() && !matches!(settings.store, StoreChoice::Redis(_)) {
            kit.mistake("redis_wait", "is for a store in Redis");
        }
        kit.finish().map(|()| settings)
    }
}

impl AsRef<service::Settings> for Settings {
    fn as_ref(&self) -> &service::Settings {
        &self.common
    }
}

fn positive_number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("must be more than nothing".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{text:?} is not a whole number")),
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match kit::duration(text)? {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}
