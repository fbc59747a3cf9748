//! One reload: the configuration with all descriptors that have been learnt; if that is refused, with those of them that are
//! not to blame. So neither a mistake in the file nor a backend's nonsense holds up the other.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Fingerprint, Reloader, Status, lines};
use crate::centre::{Following, Found};
use crate::learnt::{Offer, Sets};
use crate::load::Reading;
use crate::model::Snapshot;
use crate::problem::Problems;

/// What came of trying a version.
struct Outcome {
    fingerprint: Fingerprint,
    status: Result<Status, Problems>,
}

impl<C> Reloader<C>
where
    C: FnMut(&Arc<Snapshot>) -> Result<(), Problems> + Send,
{
    pub(super) async fn reload(&mut self) {
        let found = self.key.as_ref().map_or(Found::Nothing, Following::now);
        let learnt = self.sources.learnt.clone();
        let offers = learnt.offers();
        let Some(mut outcome) = self.attempt(&found, learnt.over_good(&offers)).await else {
            return;
        };
        let mut refused = Vec::new();
        match &outcome.status {
            Ok(_) => learnt.accept(&offers),
            Err(problems) if !offers.is_empty() => {
                let whole = problems.clone();
                let Some(parted) = self
                    .without_the_bad(&found, &offers, whole, &mut refused)
                    .await
                else {
                    return;
                };
                outcome = parted;
            }
            Err(_) => {}
        }
        self.conclude(outcome, found, &refused);
    }

    /// Tries the offers one after the other over what is good, and what is good alone if none of them is.
    async fn without_the_bad(
        &mut self,
        found: &Found,
        offers: &[Offer],
        whole: Problems,
        refused: &mut Vec<(Offer, Problems)>,
    ) -> Option<Outcome> {
        let learnt = self.sources.learnt.clone();
        let mut best = None;
        for offer in offers {
            if offers.len() == 1 {
                refused.push((offer.clone(), whole.clone()));
                continue;
            }
            let one = std::slice::from_ref(offer);
            let outcome = self.attempt(found, learnt.over_good(one)).await?;
            match outcome.status {
                Ok(status) => {
                    learnt.accept(one);
                    // The next one is compared with this one.
                    self.status.publish(Arc::new(status.clone()));
                    best = Some(Outcome {
                        status: Ok(status),
                        ..outcome
                    });
                }
                Err(problems) => refused.push((offer.clone(), problems)),
            }
        }
        match best {
            Some(best) => Some(best),
            None => self.attempt(found, learnt.good()).await,
        }
    }

    /// Reads everything and makes it live if it is good and new.
    async fn attempt(&mut self, found: &Found, learnt: Sets) -> Option<Outcome> {
        let sources = self.sources.clone();
        let version = found.version().cloned();
        let began = Instant::now();
        let reading =
            tokio::task::spawn_blocking(move || Reading::of(&sources, version.as_deref(), &learnt));
        // The read cannot panic, and the runtime is not asked to wait for it when it ends.
        let reading = reading.await.ok()?;
        let read_ms = began.elapsed().as_secs_f64() * 1000.0;
        tracing::debug!(read_ms, "read and checked");
        self.read = reading.fingerprint.clone();
        let live = self.status.load();
        let status = match reading.snapshot.map(Arc::new) {
            Ok(snapshot) if snapshot.version == live.snapshot.version => {
                Ok(live.unchanged(&snapshot))
            }
            Ok(snapshot) => (self.compile)(&snapshot).map(|()| {
                let mut restart = snapshot.boot_changes(&self.started_with.snapshot);
                if reading.place != self.started_with.place {
                    restart.push("consul.kv");
                }
                live.applied(&snapshot, restart, SystemTime::now())
            }),
            Err(problems) => Err(problems),
        };
        Some(Outcome {
            fingerprint: reading.fingerprint,
            status,
        })
    }

    /// Publishes how it ended.
    fn conclude(&mut self, outcome: Outcome, found: Found, refused: &[(Offer, Problems)]) {
        let now = SystemTime::now();
        let good = outcome.status.is_ok();
        let mut status = outcome.status.unwrap_or_else(|problems| {
            let tried = self.changed_sources(&outcome.fingerprint, &found);
            self.status.load().rejected(&tried, &problems, now)
        });
        self.tell_key(&status, &found);
        if good {
            status.kv_index = found.version().map(|version| version.index());
            self.applied = (outcome.fingerprint, found);
        }
        // Where nothing is good, nobody knows whether they are bad.
        for (offer, problems) in refused.iter().filter(|_| good) {
            self.sources.learnt.refuse(offer, lines(problems));
            status = status.rejected(&offer.0.to_string(), problems, now);
        }
        status.log();
        self.status.publish(Arc::new(status));
    }
}
