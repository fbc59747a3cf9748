//! Between a source and the reload: offers what is learnt, says what became of it, and keeps it.

use std::sync::Arc;
use std::time::SystemTime;

use mesh_config::{Origin, rfc3339};
use parking_lot::Mutex;
use serde_json::{Value, json};
use service_kit::Readiness;
use service_kit::readiness::ReadinessGuard;
use tokio::sync::watch;

use super::Learning;
use super::disk::Disk;

/// What is told of one source.
#[derive(Debug)]
pub(super) struct Teller {
    origin: Origin,
    learning: Learning,
    disk: Option<Disk>,
    settle: watch::Sender<bool>,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    /// Taken as long as nothing is known.
    guard: Option<ReadinessGuard>,
    /// Why the latest question came to nothing.
    failure: Option<String>,
    /// Who the latest set is from, and since when.
    learnt: Option<(String, SystemTime)>,
    /// What is in force and on disk.
    kept: Option<Arc<[u8]>>,
}

impl Teller {
    pub(super) fn new(
        origin: Origin,
        learning: Learning,
        disk: Option<Disk>,
        readiness: &Readiness,
        settle: watch::Sender<bool>,
    ) -> Self {
        let known = learning.learnt.good().get(&origin).cloned();
        let guard = known
            .is_none()
            .then(|| readiness.guard(waiting(&origin, "nobody has been asked yet")));
        let told = Told {
            guard,
            failure: None,
            learnt: None,
            kept: known,
        };
        Self {
            origin,
            learning,
            disk,
            settle,
            told: Mutex::new(told),
        }
    }

    /// A source has given a set. `from`: which endpoint or version.
    pub(super) fn learnt(&self, set: Arc<[u8]>, from: String) {
        let news = {
            let mut told = self.told.lock();
            if let Some(failure) = told.failure.take() {
                tracing::info!(source = %self.origin, %from, %failure, "descriptors can be read again");
            }
            let bytes = set.len();
            let news = self.learning.learnt.offer(&self.origin, set);
            if news {
                tracing::info!(source = %self.origin, %from, bytes, "descriptors learnt");
                told.learnt = Some((from, SystemTime::now()));
            }
            news
        };
        if news {
            self.learning.reload.reload();
        } else {
            self.settle.send_replace(true);
        }
    }

    /// A question came to nothing. Told once for each cause.
    pub(super) fn failed(&self, why: String) {
        let mut told = self.told.lock();
        if told.failure.as_ref() != Some(&why) {
            match &told.guard {
                Some(guard) => {
                    guard.rename(waiting(&self.origin, &why));
                    tracing::warn!(source = %self.origin, %why, "waiting for descriptors");
                }
                None => {
                    tracing::warn!(source = %self.origin, %why, "descriptors cannot be read: the last good ones stay");
                }
            }
            told.failure = Some(why);
        }
        drop(told);
        self.settle.send_replace(true);
    }

    /// Follows what reloads make of what is offered.
    pub(super) async fn judging(self: Arc<Self>) {
        let mut judged = self.learning.learnt.judged();
        loop {
            self.judge();
            if judged.changed().await.is_err() {
                return;
            }
        }
    }

    fn judge(&self) {
        let learnt = &self.learning.learnt;
        let good = learnt.good().remove(&self.origin);
        let refused = learnt.refused(&self.origin);
        let mut told = self.told.lock();
        if let (Some(guard), Some(why)) = (&told.guard, &refused) {
            guard.rename(waiting(
                &self.origin,
                &format!("what it said was refused: {}", why.join("; ")),
            ));
        }
        if refused.is_some() {
            self.settle.send_replace(true);
        }
        let Some(good) = good else { return };
        told.guard = None;
        if told.kept.as_ref() != Some(&good) {
            if let Some(disk) = &self.disk {
                disk.save(&good);
            }
            told.kept = Some(good);
            self.settle.send_replace(true);
        }
    }

    pub(super) fn json(&self) -> Value {
        let told = self.told.lock();
        let refused = self.learning.learnt.refused(&self.origin);
        let state = match (&told.kept, &refused) {
            (Some(_), _) => "known",
            (None, Some(_)) => "refused",
            (None, None) => "waiting",
        };
        let (from, since) = told.learnt.as_ref().map_or((None, None), |(from, since)| {
            (Some(from.as_str()), Some(rfc3339(*since)))
        });
        json!({
            "source": self.origin.to_string(), "state": state, "bytes": told.kept.as_ref().map(|set| set.len()),
            "from": from, "since": since, "failure": told.failure, "refused": refused,
        })
    }
}

fn waiting(origin: &Origin, why: &str) -> String {
    match origin {
        Origin::Reflection(cluster) => {
            format!("the descriptors of cluster {cluster}, by reflection: {why}")
        }
        Origin::Kv(key) => format!("the descriptors in Consul's key {key}: {why}"),
    }
}
