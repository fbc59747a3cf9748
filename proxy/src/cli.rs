//! The command line of `highpress-proxy`: what it takes, and what each command is for.
//!
//! Every flag has an environment variable; a flag beats it, and it beats the configuration file. Parsing
//! refuses with exit status 2, as every mistake in arguments or configuration does.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
  highpress-proxy check mesh.yaml
  highpress-proxy switch counters monolith
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
    Check {
        /// The files to validate
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
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
    /// Send all requests of a route of a running gateway to one cluster, at once and until it is undone
    Switch(SwitchArgs),
    /// Print a response profile in the language of `profiles:`
    Profile {
        /// The profile's name: standard or phase1
        name: String,
    },
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The configuration file (mesh.yaml)
    #[arg(short, long, env = "HIGHPRESS_CONFIG")]
    pub config: PathBuf,
    /// Where the gateway keeps its last good state [default: `data` beside the configuration file]
    #[arg(long, env = "HIGHPRESS_DATA")]
    pub data: Option<PathBuf>,
    /// The admin address, instead of the file's `admin.address`; port 0 takes a free one
    #[arg(long, env = "HIGHPRESS_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// Where clients reach this gateway, `HOST` or `HOST:PORT`, as Consul is told, instead of the first listener's address
    #[arg(long, env = "HIGHPRESS_ADVERTISE")]
    pub advertise: Option<service_kit::consul::Advertise>,
    /// Worker threads, instead of the file's `threads`
    #[arg(long, env = "HIGHPRESS_THREADS")]
    pub threads: Option<usize>,
    /// How long requests in flight may go on when draining, in seconds
    #[arg(long, env = "HIGHPRESS_DRAIN_SECONDS", default_value_t = 30)]
    pub drain_seconds: u64,
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
    pub admin: Option<String>,
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
    pub admin: String,
}
