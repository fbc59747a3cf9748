//! The flags that every service has, and what they come to.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Names;
use crate::consul::{self, ConsulSettings};
use crate::settings::{self as kit, Mistakes};

const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// The command line of a service.
pub trait CommandLine: Clone + Default + Send + 'static {
    /// What it comes to.
    type Settings: AsRef<Settings> + 'static;

    /// What the service is called.
    const NAMES: Names;

    /// The flags that every service has.
    fn common(&self) -> &Arguments;

    /// Reads every setting, and checks them.
    ///
    /// # Errors
    /// Every mistake in them.
    fn read(&self, kit: kit::Settings) -> Result<Self::Settings, Mistakes>;
}

/// The flags that every service has.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) consul: consul::Arguments,
    /// How long calls in flight may take to finish at the end [default: 20s]
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// Worker threads [default: as many as the process may run on]
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// A YAML file with any of these keys; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Say `ok`, or what is wrong with a YAML file (`-`: standard input) with any of these keys, and end
    #[arg(long, value_name = "FILE")]
    pub(super) check_config: Option<PathBuf>,
}

/// What every service runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long calls in flight may take to finish.
    pub drain_timeout: Duration,
    /// Worker threads; as many as the process may run on if not given.
    pub threads: Option<NonZeroUsize>,
    /// Where to register, if anywhere.
    pub consul: Option<ConsulSettings>,
}

impl Arguments {
    /// Reads them with environment, key and file.
    pub fn read(&self, kit: &mut kit::Settings) -> Settings {
        Settings {
            drain_timeout: kit.value_with(
                "drain_timeout",
                self.drain_timeout.as_deref(),
                DEFAULT_DRAIN_TIMEOUT,
                kit::duration,
            ),
            threads: kit.optional("threads", self.threads.as_deref()),
            consul: self.consul.read(kit),
        }
    }
}
