//! The program `highpress-analytics`: settings, runtime, then [`highpress_analytics::app`].

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use highpress_analytics::app::{self, PROGRAM};
use highpress_analytics::settings::Arguments;
use service_kit::{program, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    program::finish(PROGRAM, run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = arguments.settings()?;
    telemetry::init()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = settings.threads {
        runtime.worker_threads(threads.get());
    }
    let runtime = runtime
        .enable_all()
        .thread_name("analytics")
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(app::run(settings))
}
