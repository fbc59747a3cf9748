//! The program `highpress-counter`: settings, runtime, then [`highpress_counter::app`].

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use highpress_counter::app::{self, PROGRAM};
use highpress_counter::settings::Arguments;
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
        .thread_name("counter")
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(app::run(settings))
}
