//! Where the gateway is, as its Consul agent says: the node's name, and `zone` in the node's metadata, for clusters that prefer
//! what is near and whose configuration does not say it.
//!
//! Asked until it is told, and then once a minute: an agent that is started again may say something else. While it is away, what
//! it said last is believed.

use std::sync::Arc;
use std::time::Duration;

use consul::Client;
use mesh_config::Snapshot;
use mesh_config::model::{Consul, Place};
use resilience::backoff::Backoff;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::upstream::Upstreams;

/// Between two answers.
const AGAIN: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(500), Duration::from_secs(2)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("a base above the maximum"),
};

/// Asks an agent where the gateway is until this is dropped.
#[derive(Debug)]
pub(super) struct Finder {
    asked: Consul,
    task: AbortHandle,
    /// True once it was asked, whatever it said.
    pub(super) tried: watch::Receiver<bool>,
}

impl Finder {
    /// The one that a configuration needs; the one before, if it asks the same agent.
    pub(super) fn for_snapshot(
        before: Option<Self>,
        snapshot: &Snapshot,
        upstreams: &Arc<Upstreams>,
        runtime: &Handle,
    ) -> Option<Self> {
        let wanted = snapshot.consul.as_ref().filter(|_| is_wanted(snapshot));
        let Some(asked) = wanted else {
            if before.is_some() {
                upstreams.place_found(Place::default());
            }
            return None;
        };
        if let Some(same) = before.filter(|before| before.asked == *asked) {
            return Some(same);
        }
        let (tell, tried) = watch::channel(false);
        let task = runtime.spawn(find(asked.client()?, upstreams.clone(), tell));
        Some(Self {
            asked: asked.clone(),
            task: task.abort_handle(),
            tried,
        })
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a cluster asks what the configuration does not say.
fn is_wanted(snapshot: &Snapshot) -> bool {
    let mut clusters = snapshot.clusters.iter();
    clusters.any(|cluster| !cluster.place.is_all_for(cluster.load_balancing.locality))
}

/// Never ends by itself.
async fn find(client: Client, upstreams: Arc<Upstreams>, tried: watch::Sender<bool>) {
    let mut known: Option<Place> = None;
    let mut waits = None;
    loop {
        let pause = match client.agent().await {
            Ok(agent) => {
                waits = None;
                let place = Place {
                    node: agent.node.map(Into::into),
                    zone: agent.zone.map(Into::into),
                };
                if known.as_ref() != Some(&place) {
                    tell(&client, &place);
                    upstreams.place_found(place.clone());
                    known = Some(place);
                }
                AGAIN
            }
            Err(why) => {
                if waits.is_none() {
                    let consul = client.address();
                    tracing::warn!(%consul, %why, ?known, "the agent does not say where the gateway is: what is known, by it or by `locality`, goes on being used");
                }
                let waits = waits.get_or_insert_with(|| BACKOFF.waits(fastrand::Rng::new()));
                waits.after_failure()
            }
        };
        tried.send_replace(true);
        sleep(pause).await;
    }
}

fn tell(client: &Client, place: &Place) {
    let consul = client.address();
    let node = place.node.as_deref().unwrap_or("unknown");
    match place.zone.as_deref() {
        Some(zone) => {
            tracing::info!(%consul, node, zone, "the agent says where the gateway is");
        }
        None => {
            tracing::warn!(%consul, node, "the agent's node has no `zone` in its metadata: no endpoint counts as one of the gateway's zone, unless `locality` names it");
        }
    }
}
