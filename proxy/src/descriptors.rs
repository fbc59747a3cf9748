//! Descriptors that are learnt while the gateway runs: each source is followed by a task of its own, which offers what it finds to
//! the configuration's reload and keeps on disk what came into force.
//!
//! A source that is away holds nothing up: routes that need it wait, everything else is served, and `/readyz`, `/descriptors`
//! and the log say what is waited for and why. Refused: forgetting a schema because its source is away, or says nonsense.
//!
//! Reflection: <https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>

mod cluster;
mod disk;
mod holders;
mod key;
mod reflection;
mod teller;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::{Consul, DescriptorSource};
use mesh_config::{Learnt, Origin, ReloadHandle, Snapshot};
use parking_lot::Mutex;
use serde_json::{Value, json};
use service_kit::Readiness;
use service_kit::consul::ConsulMetrics;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::disk::Disk;
pub(crate) use self::disk::kept;
use self::teller::Teller;
use crate::upstream::Upstreams;

/// How long a start waits for the first descriptors, if their sources are there.
const FIRST: Duration = Duration::from_secs(2);

/// What is learnt, and who takes it up.
#[derive(Debug, Clone)]
pub(crate) struct Learning {
    pub(crate) learnt: Learnt,
    pub(crate) reload: ReloadHandle,
}

/// All sources that are asked at run time.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// `None`: the configuration is fixed, so nothing can be learnt.
    learning: Option<Learning>,
    upstreams: Arc<Upstreams>,
    data: Option<PathBuf>,
    metrics: ConsulMetrics,
    readiness: Readiness,
    runtime: Handle,
    followed: Mutex<BTreeMap<Origin, Followed>>,
}

/// A source from outside.
#[derive(Debug)]
struct Followed {
    question: Question,
    teller: Arc<Teller>,
    settled: watch::Receiver<bool>,
    task: AbortHandle,
}

/// What is asked, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    Reflection {
        interval: Duration,
        /// Services that are left out unless a route names them.
        wanted: BTreeSet<String>,
    },
    Kv(Box<Consul>),
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Descriptors {
    /// Nothing is followed yet.
    pub(crate) fn new(
        learning: Option<Learning>,
        upstreams: &Arc<Upstreams>,
        data: Option<PathBuf>,
        (metrics, readiness): (&ConsulMetrics, &Readiness),
    ) -> Arc<Self> {
        Arc::new(Self {
            learning,
            upstreams: upstreams.clone(),
            data,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            runtime: Handle::current(),
            followed: Mutex::default(),
        })
    }

    /// Follows what a configuration says. A source whose question is the same goes on.
    pub(crate) fn apply(&self, snapshot: &Snapshot) {
        let Some(learning) = &self.learning else {
            return;
        };
        let mut followed = self.followed.lock();
        let mut before = std::mem::take(&mut *followed);
        for (origin, question) in questions(snapshot) {
            let known = before.remove(&origin);
            let known = known.filter(|known| known.question == question);
            let one = known.unwrap_or_else(|| self.follow(learning, &origin, question));
            followed.insert(origin, one);
        }
        for (origin, gone) in before {
            drop(gone);
            if let Origin::Kv(_) = &origin {
                self.metrics.remove(&measured(&origin));
            }
            learning.learnt.forget(&origin);
        }
    }

    /// Waits for a moment until every source has answered or failed once, and what was learnt is in force.
    pub(crate) async fn first(&self) {
        let settled: Vec<_> = self
            .followed
            .lock()
            .values()
            .map(|one| one.settled.clone())
            .collect();
        let all = async {
            for mut settled in settled {
                // A follower that is stopped meanwhile is no reason to wait.
                let _ = settled.wait_for(|settled| *settled).await;
            }
        };
        // Who is late is told of by readiness.
        let _ = timeout(FIRST, all).await;
    }

    /// Every source of a configuration and how it is doing.
    pub(crate) fn json(&self, snapshot: &Snapshot) -> Value {
        let followed = self.followed.lock();
        let shown = snapshot.descriptors.iter().map(|source| match source {
            DescriptorSource::Builtin => json!({ "source": "builtin", "state": "known" }),
            DescriptorSource::File(file) => {
                json!({ "source": file.path().display().to_string(), "state": "known", "bytes": file.content().len() })
            }
            DescriptorSource::ServiceConfig(config) => {
                json!({ "source": config.path().display().to_string(), "state": "known", "kind": "HTTP rules" })
            }
            DescriptorSource::Learnt(learnt) => match followed.get(&learnt.origin) {
                Some(one) => one.teller.json(),
                None => json!({ "source": learnt.origin.to_string(), "state": "waiting" }),
            },
        });
        shown.collect()
    }

    fn follow(&self, learning: &Learning, origin: &Origin, question: Question) -> Followed {
        let (settle, settled) = watch::channel(false);
        let disk = self.data.as_deref().map(|data| Disk::new(data, origin));
        let teller = Teller::new(
            origin.clone(),
            learning.clone(),
            disk,
            &self.readiness,
            settle,
        );
        let teller = Arc::new(teller);
        let judging = teller.clone().judging();
        let told = teller.clone();
        let task = match (origin, &question) {
            (Origin::Reflection(name), Question::Reflection { interval, wanted }) => {
                let asking = cluster::Asking {
                    upstreams: self.upstreams.clone(),
                    cluster: name.as_str().to_owned(),
                    interval: *interval,
                    wanted: wanted.clone(),
                };
                self.spawn(judging, asking.follow(told))
            }
            (Origin::Kv(key), Question::Kv(consul)) => match consul.client() {
                Some(client) => {
                    let watch = key::watch(client, key);
                    self.metrics.add(measured(origin), watch.status());
                    self.spawn(judging, key::follow(watch, told))
                }
                None => self.spawn(judging, std::future::pending()),
            },
            // `questions` pairs them.
            _ => self.spawn(judging, std::future::pending()),
        };
        Followed {
            question,
            teller,
            settled,
            task,
        }
    }

    fn spawn(
        &self,
        judging: impl Future<Output = ()> + Send + 'static,
        following: impl Future<Output = std::convert::Infallible> + Send + 'static,
    ) -> AbortHandle {
        let both = async move {
            tokio::select! {
                () = judging => {}
                never = following => match never {},
            }
        };
        self.runtime.spawn(both).abort_handle()
    }
}

fn measured(origin: &Origin) -> String {
    format!("descriptors {origin}")
}

/// What a configuration wants to know at run time.
fn questions(snapshot: &Snapshot) -> Vec<(Origin, Question)> {
    let transcoded = snapshot.routes.iter().filter_map(|route| route.transcode());
    let services = transcoded.flat_map(|transcode| &transcode.services);
    let wanted: BTreeSet<String> = services
        .map(|service| service.as_str().to_owned())
        .filter(|name| name.starts_with(reflection::INFRASTRUCTURE))
        .collect();
    let learnt = snapshot
        .descriptors
        .iter()
        .filter_map(DescriptorSource::learnt);
    let question = |origin: &Origin, interval| match origin {
        Origin::Reflection(_) => Some(Question::Reflection {
            interval,
            wanted: wanted.clone(),
        }),
        Origin::Kv(_) => snapshot
            .consul
            .clone()
            .map(|consul| Question::Kv(Box::new(consul))),
    };
    learnt
        .filter_map(|one| {
            Some((
                one.origin.clone(),
                question(&one.origin, one.interval.get())?,
            ))
        })
        .collect()
}
