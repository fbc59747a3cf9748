//! What stands around the gRPC port of every service, from its command line to its deregistration.
//!
//! ```text
//! run (check | settings, runtime) -> Frame::begin (signals, listener, metrics) -> follow (settings)
//!   -> stand (admin port) -> register -> ready -> asked -> close_door -> [calls in flight finish] -> end
//! ```
//!
//! A service puts its own parts between these steps. Refused: waiting for Consul at any of them.

mod arguments;
mod frame;

use std::future::Future;

use anyhow::Context as _;

pub use self::arguments::{Arguments, CommandLine, Settings};
pub use self::frame::{Frame, Live, Standing};
use crate::centre::{self, Begun, Origins};
use crate::telemetry;

/// What a service is called.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// The program: `highpress-counter`.
    pub program: &'static str,
    /// In metrics, `/status` and the key of its settings: `counter`.
    pub service: &'static str,
    /// In Consul's catalogue: `high-go-press-counter`.
    pub catalogue: &'static str,
    /// The program's version.
    pub version: &'static str,
}

/// Does what a command line says: checks a file, or serves until it is told to end and has drained.
///
/// # Errors
/// Every mistake in the settings, or why it could not serve.
pub fn run<C, F>(
    command_line: &C,
    serve: impl FnOnce(C::Settings, Origins<C::Settings>) -> F,
) -> anyhow::Result<()>
where
    C: CommandLine,
    F: Future<Output = anyhow::Result<()>>,
{
    let arguments = command_line.common();
    if let Some(file) = &arguments.check_config {
        centre::check(file, |kit| C::default().read(kit))?;
        println!("ok");
        return Ok(());
    }
    telemetry::init()?;
    let flags = command_line.clone();
    let service = C::NAMES.service;
    let config = arguments.config.as_deref();
    let begun = centre::begin(service, &arguments.consul, config, move |kit| {
        flags.read(kit)
    })?;
    let Begun { settings, origins } = begun;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = settings.as_ref().threads {
        runtime.worker_threads(threads.get());
    }
    let runtime = runtime.enable_all().thread_name(service).build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(serve(settings, origins))
}
