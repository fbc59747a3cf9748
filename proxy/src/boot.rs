//! What a gateway starts with: the key of Consul that holds its configuration, if there is one, and what is known of it.
//!
//! A gateway that has a file, or has kept what the key last held, does not wait for Consul. One that has neither serves only its
//! admin port, whose `/readyz` says what it waits for, until Consul gives it a configuration.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mesh_config::centre::{Centre, First, Found};
use mesh_config::{Begun, Place, Sources};
use service_kit::{Admin, Readiness};
use tokio::time::sleep;

use crate::app::SERVICE;

/// Between two looks at a key that a start waits for.
const LOOK: Duration = Duration::from_millis(250);

/// What is known of the key that the sources name; `None`: they name none.
///
/// # Errors
/// If the admin port cannot be bound.
pub(crate) async fn begin(
    sources: &Sources,
    data: Option<&Path>,
    admin: SocketAddr,
) -> io::Result<Option<Begun>> {
    let Some(place) = mesh_config::place(sources) else {
        return Ok(None);
    };
    let Some(centre) = Centre::new(&place, data) else {
        return Ok(None);
    };
    let centre = centre.keeping_absence();
    let mut first = centre.first().await;
    if !starts(&first, sources.file.is_some()) {
        first = wait(&centre, &place, admin, first).await?;
    }
    if let Some(why) = &first.away {
        let with = match &first.kept {
            Some(Found::Version(version)) => format!("version {} that was kept", version.index()),
            _ => "the file alone".to_owned(),
        };
        let Place { consul, key } = &place;
        let consul = &consul.address;
        tracing::warn!(%consul, %key, %why, with, "the configuration in Consul is not known: starting without it");
    }
    Ok(Some(Begun { centre, first }))
}

/// Whether there is anything to start with.
fn starts(first: &First, file: bool) -> bool {
    let kept = first.kept.as_ref().and_then(Found::version);
    file || first.found.version().is_some() || kept.is_some()
}

/// Serves the admin port until there is something to start with.
async fn wait(
    centre: &Centre,
    place: &Place,
    address: SocketAddr,
    mut first: First,
) -> io::Result<First> {
    let readiness = Readiness::new();
    let guard = readiness.guard(waiting(place, &first));
    let registry = service_kit::metrics::registry(SERVICE, env!("CARGO_PKG_VERSION"));
    let admin = Admin::new(SERVICE, env!("CARGO_PKG_VERSION"), registry, readiness);
    let admin = admin.bind(address).await?;
    let at = admin.local_address();
    tracing::warn!(admin = %at, "waiting for {}", waiting(place, &first));
    while first.found.version().is_none() {
        sleep(LOOK.mul_f64(0.5 + fastrand::f64())).await;
        first = centre.first().await;
        guard.rename(waiting(place, &first));
    }
    drop(guard);
    admin.stop().await;
    Ok(first)
}

fn waiting(Place { consul, key }: &Place, first: &First) -> String {
    let why = match &first.away {
        Some(why) => why.to_string(),
        None => "there is no such key: `highpress-proxy config set` makes it".to_owned(),
    };
    let consul = &consul.address;
    format!("the configuration, from the key {key} of Consul at {consul}: {why}")
}
