//! The program `highpress-counter`: a tool, or settings, runtime and then [`highpress_counter::app`].

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use highpress_counter::app::{self, PROGRAM};
use highpress_counter::settings::Arguments;
use highpress_counter::tools;
use service_kit::{program, service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    program::finish(PROGRAM, run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(tool) = arguments.tool() {
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        return runtime.block_on(tools::run(tool));
    }
    service::run(arguments, app::run)
}
