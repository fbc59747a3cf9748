//! `highpress`: the whole mesh in one process.
//!
//! ```text
//! client -> gateway -> counter   (embedded store under data/counter)
//!                  \-> analytics (rankings under data/analytics) <- the store's events
//! ```
//! The same libraries as the separate programs, the same ports; nothing else has to be installed.

mod app;
mod backends;
mod cli;
mod counter_events;
mod gateway;
mod ports;
mod welcome;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use service_kit::{program, telemetry};

use crate::app::PROGRAM;
use crate::cli::{Cli, Command, Up};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { command, up } = Cli::parse();
    program::finish(
        PROGRAM,
        match command {
            None => start(&up),
            Some(Command::Up(up)) => start(&up),
            Some(Command::Config) => print_config(),
        },
    )
}

fn start(up: &Up) -> anyhow::Result<()> {
    let settings = up.settings()?;
    telemetry::init()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("highpress")
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(app::run(settings))
}

fn print_config() -> anyhow::Result<()> {
    std::io::stdout()
        .lock()
        .write_all(gateway::MESH_YAML.as_bytes())
        .context("cannot print")
}
