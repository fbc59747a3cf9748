//! A name server as a source: the addresses of a name, or its SRV records, looked up again when their time to live is over.
//!
//! An answer lives for as long as it says, within the bounds that the configuration sets. A server that cannot be asked changes a
//! state, a metric and a log line, never an endpoint. A name that is suddenly not there, or has nothing, is an unexplained empty
//! list: the follower holds it back. Several addresses are several endpoints.

mod lookup;
mod names;
mod status;

use std::time::Duration;

use mesh_config::model::DnsEndpoints;
use resilience::backoff::Backoff;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use self::lookup::{Looked, Lookup};
pub(crate) use self::status::DnsMetrics;
pub(super) use self::status::Measured;
use self::status::{Status, Turn};
use super::holding::List;
use super::source::{Source, Tell};

/// A lookup that takes longer has failed, whatever servers there are.
const PATIENCE: Duration = Duration::from_secs(6);
/// Between lookups of a name that is not there: at most so long, as it is missed.
const MISSED: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(500), Duration::from_secs(5)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("a base above the maximum"),
};

/// Starts to look up what a cluster asks for.
pub(super) fn watch(
    cluster: &str,
    asked: &DnsEndpoints,
    metrics: &DnsMetrics,
    runtime: &Handle,
) -> (Source, Measured) {
    let mut source = Source::new("DNS");
    let (status, measured) = metrics.measure(cluster);
    let follow = Follow {
        cluster: cluster.into(),
        asked: asked.clone(),
        status,
        before: None,
    };
    source.add(runtime, |tell| follow.run(tell));
    (source, measured)
}

struct Follow {
    cluster: Box<str>,
    asked: DnsEndpoints,
    status: Status,
    /// What was told last.
    before: Option<List>,
}

impl Follow {
    /// Looks up and tells, until nobody listens or nothing can change any more.
    async fn run(mut self, tell: Tell) {
        let mut lookup = Lookup::new(&self.asked);
        let mut waits = BACKOFF.waits(fastrand::Rng::new());
        loop {
            let looked = timeout(PATIENCE, lookup.look())
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            let pause = match looked {
                Ok(looked) => {
                    waits = BACKOFF.waits(fastrand::Rng::new());
                    self.answered(&looked);
                    let Looked { list, lives, .. } = looked;
                    let empty = list.is_empty();
                    if self.before.as_ref() != Some(&list) {
                        self.before = Some(list.clone());
                        if !tell.update(list, true).await {
                            return;
                        }
                    }
                    let Some(lives) = lives else {
                        // It is an address, not a name.
                        return;
                    };
                    self.pause(lives, empty)
                }
                Err(why) => {
                    self.failed(&why);
                    waits.after_failure().max(self.asked.min_ttl.min(MISSED))
                }
            };
            sleep(pause).await;
        }
    }

    /// Within the bounds, and up to a tenth longer, so that not all ask at once.
    fn pause(&self, lives: Duration, empty: bool) -> Duration {
        let (min, max) = (self.asked.min_ttl, self.asked.max_ttl);
        let most = if empty { max.min(MISSED.max(min)) } else { max };
        lives.clamp(min, most).mul_f64(1.0 + 0.1 * fastrand::f64())
    }

    fn answered(&self, looked: &Looked) {
        let (cluster, name) = (&*self.cluster, &self.asked.name);
        if let Turn::Back { after } = self.status.answered() {
            tracing::info!(cluster, %name, away_for = ?after, "DNS answers again");
        }
        let news = self.before.as_ref().is_none_or(|before| !before.is_empty());
        if let Some(why) = looked.nothing.as_deref().filter(|_| news) {
            tracing::warn!(cluster, %name, why, "DNS knows nobody by this name");
        }
    }

    fn failed(&self, why: &str) {
        if let Turn::Worse = self.status.failed(why) {
            let (cluster, name) = (&*self.cluster, &self.asked.name);
            tracing::warn!(cluster, %name, why, "DNS gives no answer to go by: what is known goes on being used");
        }
    }
}
