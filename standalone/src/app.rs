//! The mesh from start to end: data and services first, then the gateway in front of them; the other way round at the end.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use service_kit::{program, shutdown};

use crate::backends::Backends;
use crate::cli::Settings;
use crate::gateway;
use crate::welcome;

/// The program's name.
pub(crate) const PROGRAM: &str = "highpress";

/// How long the ready line waits for the services; reading many rankings may take longer, and they answer when it is done.
const SERVICES_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the mesh until it is told to end and has drained.
pub(crate) async fn run(mut settings: Settings) -> anyhow::Result<()> {
    // First of all, so that a signal during start-up is not lost.
    let asked = shutdown::signal().context("cannot listen for signals")?;
    let mut hangups = shutdown::sighup().context("cannot listen for signals")?;
    if let Some(written) = gateway::written(&settings)? {
        settings = settings.over(&written);
        // Its clusters name the ports.
        settings.counter.movable = false;
        settings.analytics.movable = false;
    }
    let backends = Backends::start(&settings).await?;
    let gateway = gateway::start(&settings, &backends).await?;
    if tokio::time::timeout(SERVICES_PATIENCE, backends.ready())
        .await
        .is_err()
    {
        tracing::warn!("not everything is ready yet: see /readyz of the admin ports");
    }

    let http = gateway
        .listeners
        .first()
        .copied()
        .context("the configuration has no listener")?;
    let mut addresses = vec![("http", http), ("admin", gateway.admin)];
    addresses.extend(backends.addresses());
    program::ready(PROGRAM, &addresses);
    // A closed standard output is no reason to stop serving.
    let _ = writeln!(
        std::io::stdout().lock(),
        "{}",
        welcome::text(http, gateway.admin, &settings.data.value)
    );

    tokio::pin!(asked);
    let signal = loop {
        tokio::select! {
            signal = &mut asked => break signal,
            () = hangups.next() => gateway.reload(),
        }
    };
    tracing::info!(%signal, "draining");
    let cut = gateway.drain().await;
    if cut > 0 {
        tracing::warn!(
            connections = cut,
            "drain deadline passed: closed with requests in flight"
        );
    }
    backends.drain().await
}
