//! The program `highpress-analytics`: settings, runtime, then [`highpress_analytics::app`].

use std::process::ExitCode;

use clap::Parser as _;
use highpress_analytics::app::{self, PROGRAM};
use highpress_analytics::settings::Arguments;
use service_kit::{program, service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    program::finish(PROGRAM, service::run(&Arguments::parse(), app::run))
}
