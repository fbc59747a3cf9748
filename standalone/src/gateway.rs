//! The gateway of this process: its configuration, which is built in unless a file is given, with the addresses that the
//! services really have.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use highpress_proxy::announce::Announce;
use highpress_proxy::app::{App, DrainTime, Options, Source, StartError};
use mesh_config::Snapshot;
use service_kit::Mistakes;

use crate::backends::Backends;
use crate::cli::Settings;
use crate::ports;

/// The mesh.yaml of this program.
pub(crate) const MESH_YAML: &str = include_str!("../mesh.yaml");
const MESH_YAML_NAME: &str = "mesh.yaml (built in)";

/// What the file that the settings name says, if they name one; every mistake in it is the caller's.
pub(crate) fn written(settings: &Settings) -> anyhow::Result<Option<Snapshot>> {
    let read = |path: &PathBuf| mesh_config::load(path).map_err(|problems| mistakes(&problems));
    Ok(settings.config.as_ref().map(read).transpose()?)
}

/// Starts the gateway in front of the services.
pub(crate) async fn start(settings: &Settings, backends: &Backends) -> anyhow::Result<App> {
    let (config, admin) = match &settings.config {
        Some(path) => (Source::file(path.clone()), settings.admin),
        None => {
            let snapshot = built_in(backends.counter(), backends.analytics())?;
            let admin = match settings.admin {
                Some(chosen) => chosen,
                None => ports::free("the gateway's admin port", snapshot.admin.address).await,
            };
            (Source::Fixed(Arc::new(snapshot)), Some(admin))
        }
    };
    let drain = &settings.drain_timeout;
    let options = Options {
        config,
        data: Some(settings.data.value.join("gateway")),
        listen: settings.listen.into_iter().collect(),
        admin,
        threads: settings.threads.map(Into::into),
        announce: Announce::default(),
        drain: DrainTime::new(drain.chosen.then_some(drain.value), drain.value),
    };
    App::start(options).await.map_err(|error| match error {
        StartError::Config(problems) => mistakes(&problems).into(),
        StartError::Bind { .. } => anyhow::Error::from(error)
            .context("choose another address with --listen or --admin; port 0 takes a free one"),
        other => other.into(),
    })
}

/// The built-in text with the services' real addresses for its variables.
fn built_in(counter: SocketAddr, analytics: SocketAddr) -> anyhow::Result<Snapshot> {
    let variables = |name: &str| match name {
        "HIGHPRESS_COUNTER_LISTEN" => Some(counter.to_string()),
        "HIGHPRESS_ANALYTICS_LISTEN" => Some(analytics.to_string()),
        _ => None,
    };
    mesh_config::parse_with(MESH_YAML, Path::new("."), MESH_YAML_NAME, &variables)
        .map_err(|problems| mistakes(&problems))
        .context("the built-in configuration is wrong")
}

fn mistakes(problems: &mesh_config::Problems) -> Mistakes {
    Mistakes::from(
        mesh_config::problems_text(problems)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_built_in_configuration_is_valid_and_follows_the_services() {
        let counter = SocketAddr::from(([127, 0, 0, 1], 4001));
        let analytics = SocketAddr::from(([127, 0, 0, 1], 4002));
        let snapshot = built_in(counter, analytics).unwrap();
        let shown = format!("{:?}", snapshot.clusters);
        assert!(shown.contains("4001") && shown.contains("4002"), "{shown}");
        assert_eq!(snapshot.routes.len(), 2);
    }
}
