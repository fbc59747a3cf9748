//! The command line of `highpress-proxy`: what it takes, and what each command is for.
//!
//! Every flag of a running gateway has an environment variable and a key; a flag beats it, and it beats the configuration. Parsing
//! refuses with exit status 2, as every mistake in arguments or configuration does.

mod config;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use consul::TlsFiles;
use mesh_config::model::ConsulToken;
use mesh_config::{Given, KvKey, Sources};
use service_kit::consul::Advertise;

use crate::app::DrainTime;

pub use config::{At, ConfigArgs, ConfigCommand};

/// The gateway of the mesh: HTTP/JSON at the door, gRPC inside.
#[derive(Debug, Parser)]
#[command(
    name = "highpress-proxy",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "\
Examples:
  highpress-proxy run --config mesh.yaml
  highpress-proxy run --consul http://127.0.0.1:8500 --consul-kv high-go-press/config/prod/gateway
  highpress-proxy check mesh.yaml
  highpress-proxy switch counters monolith
  highpress-proxy config set mesh.yaml
  highpress-proxy explain mesh.yaml POST /api/v1/counter/increment -d '{\"resource_id\":\"a\",\"counter_type\":\"like\"}'

Exit status: 0 done or drained, 2 bad arguments or configuration, 1 anything else.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `highpress-proxy`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve traffic until SIGTERM or SIGINT, then drain; SIGHUP reloads the configuration
    Run(RunArgs),
    /// Validate configuration files as `run` would: prints `ok` or every problem with its line
    Check(CheckArgs),
    /// Print the compiled routing table of a configuration file, with the switches by hand
    Routes {
        /// The configuration file
        file: PathBuf,
        /// Where the gateway keeps its state [default: `data` beside the configuration file]
        #[arg(long, env = "HIGHPRESS_DATA")]
        data: Option<PathBuf>,
    },
    /// Say what would happen to a request: its route and why, the gRPC request it becomes, the cluster
    Explain(ExplainArgs),
    /// Print the OpenAPI 3.1 document of every transcoded route
    Openapi {
        /// The configuration file
        file: PathBuf,
        /// Where the gateway keeps its state [default: `data` beside the configuration file]
        #[arg(long, env = "HIGHPRESS_DATA")]
        data: Option<PathBuf>,
    },
    /// Send all requests of a route of a running gateway to one cluster, at once and until it is undone
    Switch(SwitchArgs),
    /// Read, change and take back a configuration in Consul's KV store
    Config(ConfigArgs),
    /// Print a response profile in the language of `profiles:`
    Profile {
        /// The profile's name: standard or phase1
        name: String,
    },
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The configuration file (mesh.yaml); it may be left out where --consul and --consul-kv are given
    #[arg(short, long, env = "HIGHPRESS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where Consul is, `http://HOST:PORT`, instead of `consul.address`; its token is read from HIGHPRESS_CONSUL_TOKEN,
    /// `consul.token` or CONSUL_HTTP_TOKEN, never from a flag
    #[arg(long, env = "HIGHPRESS_CONSUL", value_name = "URL")]
    pub consul: Option<consul::Address>,
    /// The key of Consul's KV store whose top-level keys replace the file's, instead of `consul.kv`
    #[arg(long, env = "HIGHPRESS_CONSUL_KV", value_name = "KEY")]
    pub consul_kv: Option<KvKey>,
    /// Where the gateway keeps its last good state, instead of the file's `data` [default: `data` beside the configuration file]
    #[arg(long, env = "HIGHPRESS_DATA")]
    pub data: Option<PathBuf>,
    /// Addresses of the listeners, one for each and separated by commas, instead of the configuration's; port 0 takes a free one
    #[arg(long, env = "HIGHPRESS_LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// The admin address, instead of the file's `admin.address`; port 0 takes a free one
    #[arg(long, env = "HIGHPRESS_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// Where clients reach this gateway, `HOST` or `HOST:PORT`, as Consul is told, instead of `consul.advertise` or the first listener's address
    #[arg(long, env = "HIGHPRESS_ADVERTISE")]
    pub advertise: Option<Advertise>,
    /// Tags to register with in Consul, separated by commas, instead of the configuration's `consul.tags`
    #[arg(long, env = "HIGHPRESS_TAGS", value_delimiter = ',', value_parser = tag)]
    pub tags: Option<Vec<String>>,
    /// The share of the traffic to register with in Consul, relative to other gateways, instead of `consul.weight`
    #[arg(long, env = "HIGHPRESS_WEIGHT")]
    pub weight: Option<NonZeroU16>,
    /// Worker threads, instead of the file's `threads`
    #[arg(long, env = "HIGHPRESS_THREADS")]
    pub threads: Option<usize>,
    /// How long requests in flight may go on when draining, in seconds, instead of the configuration's `drain_timeout` [default: 30]
    #[arg(long, env = "HIGHPRESS_DRAIN_SECONDS", value_name = "SECONDS")]
    pub drain_seconds: Option<u64>,
}

/// Where nobody says how long a drain may take.
const DRAIN: Duration = Duration::from_secs(30);

fn tag(text: &str) -> Result<String, &'static str> {
    let tag = text.trim();
    (!tag.is_empty())
        .then(|| tag.to_owned())
        .ok_or("an empty tag: write them as one,two")
}

/// What Consul's own tools make TLS of.
pub(crate) fn tls_of_environment() -> TlsFiles {
    let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    TlsFiles {
        ca: text("CONSUL_CACERT").map(PathBuf::from),
        cert: text("CONSUL_CLIENT_CERT").map(PathBuf::from),
        key: text("CONSUL_CLIENT_KEY").map(PathBuf::from),
        server_name: text("CONSUL_TLS_SERVER_NAME"),
    }
}

impl RunArgs {
    /// How long a drain may take.
    pub(crate) fn drain(&self) -> DrainTime {
        DrainTime::new(self.drain_seconds.map(Duration::from_secs), DRAIN)
    }

    /// Where the configuration comes from; `None`: nobody has said it.
    pub(crate) fn sources(&self) -> Option<Sources> {
        let token = |name: &str| {
            let text = std::env::var(name).ok();
            text.and_then(|text| ConsulToken::new(text.trim()))
        };
        let known = self.config.is_some() || self.consul.is_some() && self.consul_kv.is_some();
        known.then(|| Sources {
            file: self.config.clone(),
            given: Given {
                consul: self.consul.clone(),
                token: token("HIGHPRESS_CONSUL_TOKEN"),
                fallback_token: token("CONSUL_HTTP_TOKEN"),
                tls: tls_of_environment(),
                key: self.consul_kv.clone(),
            },
            ..Sources::default()
        })
    }
}

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The files to validate
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print what the (one) file breaks for callers of this older configuration, or of this `FileDescriptorSet`
    #[arg(long, value_name = "OLD")]
    pub against: Option<PathBuf>,
}

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The configuration file; with --admin it is left out
    #[arg(required_unless_present = "admin")]
    pub words: Vec<String>,
    /// A request header, `name: value`; may be given several times
    #[arg(short = 'H', long = "header")]
    pub headers: Vec<String>,
    /// The request body
    #[arg(short = 'd', long = "data", default_value = "")]
    pub body: String,
    /// Where the gateway keeps its state [default: `data` beside the configuration file]
    #[arg(long = "data-dir", env = "HIGHPRESS_DATA")]
    pub data: Option<PathBuf>,
    /// Ask a running gateway by its admin address, e.g. http://127.0.0.1:9901
    #[arg(long)]
    pub admin: Option<AdminUrl>,
}

/// Arguments of `switch`.
#[derive(Args, Clone, Debug)]
pub struct SwitchArgs {
    /// The route; without it, the switches that there are are listed
    pub route: Option<String>,
    /// The cluster that gets all of its requests
    #[arg(conflicts_with = "back")]
    pub cluster: Option<String>,
    /// Undo the switch; a canary of the route that was taken back has another chance
    #[arg(long, requires = "route")]
    pub back: bool,
    /// The admin address of the running gateway
    #[arg(long, env = "HIGHPRESS_ADMIN", default_value = "http://127.0.0.1:9901")]
    pub admin: AdminUrl,
}

/// Where a running gateway is asked: `http://HOST:PORT`, or `HOST:PORT` alone.
#[derive(Clone, Debug)]
pub struct AdminUrl {
    text: String,
    authority: http::uri::Authority,
}

/// What cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("write http://HOST:PORT, such as http://127.0.0.1:9901")]
pub struct NoAdminUrl;

impl AdminUrl {
    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }
}

impl FromStr for AdminUrl {
    type Err = NoAdminUrl;

    fn from_str(text: &str) -> Result<Self, NoAdminUrl> {
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let authority: http::uri::Authority = authority.parse().map_err(|_| NoAdminUrl)?;
        let whole = !authority.host().is_empty() && !authority.as_str().contains('@');
        authority
            .port_u16()
            .filter(|port| whole && *port > 0)
            .ok_or(NoAdminUrl)?;
        let text = text.to_owned();
        Ok(Self { text, authority })
    }
}

/// As it was given.
impl std::fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
