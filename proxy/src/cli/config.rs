//! The command line of `highpress-proxy config`: a configuration in Consul, read and written by people.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mesh_config::KvKey;

/// Arguments of `config`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Where Consul and the key are is taken from --consul and --kv, else from --file, else Consul is at CONSUL_HTTP_ADDR or
http://127.0.0.1:8500, and the key is high-go-press/config/ENV/SERVICE. The token needs key:read and key:write on it, and
key:write on high-go-press/config-history/ENV/SERVICE/.

Examples:
  highpress-proxy config set mesh.yaml                     validate, show the difference, write if nobody was faster
  highpress-proxy config get > mesh.yaml                   what is there now
  highpress-proxy config history                           who changed what when, and what was refused
  highpress-proxy config diff                              what the last change was
  highpress-proxy config rollback                          back to the version before
  highpress-proxy config set counter.yaml --service counter --env staging

Exit status: 0 done, 2 bad arguments or configuration, 1 anything else, such as a writer who was faster.")]
pub struct ConfigArgs {
    /// Where the configuration is.
    #[command(flatten)]
    pub at: At,
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// Where a configuration is.
#[derive(Args, Clone, Debug)]
pub struct At {
    /// Where Consul is, `http://HOST:PORT`
    #[arg(long, env = "HIGHPRESS_CONSUL", value_name = "URL", global = true)]
    pub consul: Option<consul::Address>,
    /// The ACL token [default: CONSUL_HTTP_TOKEN, which other users of the machine do not see]
    #[arg(
        long,
        env = "HIGHPRESS_CONSUL_TOKEN",
        hide_env_values = true,
        global = true
    )]
    pub token: Option<String>,
    /// The key, instead of the one that --env and --service name
    #[arg(long, env = "HIGHPRESS_CONSUL_KV", value_name = "KEY", global = true)]
    pub kv: Option<KvKey>,
    /// The environment whose configuration it is [default: prod]
    #[arg(long, env = "HIGHPRESS_ENV", value_name = "ENV", global = true)]
    pub env: Option<String>,
    /// The service whose configuration it is: gateway, counter or analytics [default: gateway]
    #[arg(long, value_name = "SERVICE", global = true)]
    pub service: Option<String>,
    /// The gateway's mesh.yaml: it says where Consul and the key are, and a value that replaces only some of its keys is
    /// validated with the others
    #[arg(long, env = "HIGHPRESS_CONFIG", global = true)]
    pub file: Option<PathBuf>,
}

/// The commands of `highpress-proxy config`.
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigCommand {
    /// Print the value
    #[command(disable_version_flag = true)]
    Get {
        /// A version of the history instead of the one that is there now
        #[arg(long, value_name = "N")]
        version: Option<u64>,
        /// As JSON, with key and version
        #[arg(long)]
        json: bool,
    },
    /// Validate a file as the program that reads it would, show what it changes, and write it unless somebody was faster
    Set {
        /// The file, or `-` for standard input
        #[arg(value_name = "FILE")]
        value: PathBuf,
        /// The version that the change is made on top of: refused if it is not there any more [default: the one that is there now]
        #[arg(long, value_name = "N")]
        base: Option<u64>,
        /// Validate and show the difference, but write nothing
        #[arg(long)]
        dry_run: bool,
        /// Why, for the history
        #[arg(long, default_value = "")]
        note: String,
    },
    /// List the versions that were: number, time, author, what became of it, and why it was refused
    History {
        /// As JSON, with the differences
        #[arg(long)]
        json: bool,
    },
    /// Show the difference of two versions; without numbers, of the one before and the one that is there now
    Diff {
        /// The older version
        old: Option<u64>,
        /// The newer version [default: the one that is there now]
        new: Option<u64>,
    },
    /// Write an earlier version again, as a new one
    #[command(disable_version_flag = true)]
    Rollback {
        /// Which [default: the last one before that was not refused]
        version: Option<u64>,
        /// Show the difference, but write nothing
        #[arg(long)]
        dry_run: bool,
        /// Why, for the history
        #[arg(long, default_value = "")]
        note: String,
    },
}
