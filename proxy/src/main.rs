//! `highpress-proxy`: arguments in, exit status out.

use std::process::ExitCode;

use clap::Parser;
use highpress_proxy::cli::Cli;
use highpress_proxy::commands;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
