//! Keeps and records what became of versions, one after the other, without holding up whoever says so. While Consul is away it
//! tries again; more than a few dozen that wait are not recorded, and the log says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::history::{History, Outcome};
use super::kept::Kept;
use super::{Found, Version};

const WAITING: usize = 64;
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// What became of a version.
#[derive(Debug)]
pub(super) enum Told {
    Applied(Found),
    Rejected(Arc<Version>, Vec<String>),
}

#[derive(Debug)]
pub(super) struct Recorder(mpsc::Sender<Told>);

impl Recorder {
    pub(super) fn tell(&self, told: Told) {
        if self.0.try_send(told).is_err() {
            tracing::warn!(
                "too many versions wait for Consul: one is neither kept nor in the history"
            );
        }
    }
}

/// A recorder, and its work.
pub(super) fn start(
    history: History,
    kept: Option<Kept>,
    mut saved: Option<Found>,
) -> (Recorder, impl Future<Output = ()> + Send) {
    let (sender, mut told) = mpsc::channel(WAITING);
    let work = async move {
        // The latest version that was seen: if there is none any more, it was deleted after it.
        let mut latest = None;
        while let Some(told) = told.recv().await {
            if let (Told::Applied(found), Some(kept)) = (&told, &kept)
                && saved.as_ref() != Some(found)
            {
                saved = Some(found.clone());
                let (kept, found) = (kept.clone(), found.clone());
                // The write cannot panic.
                let _ = tokio::task::spawn_blocking(move || kept.save(&found)).await;
            }
            let outcome = match told {
                Told::Applied(Found::Version(version)) => {
                    latest = Some(version.index());
                    Outcome::applied(version.index(), text(&version))
                }
                Told::Applied(_) => match latest.take() {
                    Some(latest) => Outcome::deleted(latest),
                    None => continue,
                },
                Told::Rejected(version, problems) => {
                    latest = Some(version.index());
                    Outcome::rejected(version.index(), text(&version), problems)
                }
            };
            record(&history, outcome).await;
        }
    };
    (Recorder(sender), work)
}

/// What is no text has no place in a history for people.
fn text(version: &Version) -> String {
    version.text().unwrap_or_default().to_owned()
}

async fn record(history: &History, outcome: Outcome) {
    let mut told = false;
    loop {
        match history.record(outcome.clone()).await {
            Ok(()) => return,
            Err(why) if why.is_final() => {
                let version = outcome.version();
                tracing::warn!(version, %why, "a version of the configuration is not in the history");
                return;
            }
            Err(why) if !told => {
                tracing::warn!(%why, "the history of the configuration waits for Consul");
                told = true;
            }
            Err(_) => {}
        }
        sleep(TRY_AGAIN.mul_f64(0.5 + fastrand::f64())).await;
    }
}
