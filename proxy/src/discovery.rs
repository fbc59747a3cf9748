//! Discovery: the clusters whose endpoints Consul knows, each followed by a task of its own.
//!
//! A change of the configuration starts, stops or leaves alone; a follower whose question is the same goes on, so that nothing
//! that is known is lost. Refused: a cluster without endpoints because Consul is away.

mod disk;
mod follower;
mod holding;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::Snapshot;
use mesh_config::model::{Cluster, Consul, ConsulEndpoints, Endpoints};
use parking_lot::Mutex;
use service_kit::Readiness;
use service_kit::consul::ConsulMetrics;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::disk::Disk;
use self::follower::Follower;
use crate::upstream::Upstreams;

/// How long a start waits for the first endpoints, if Consul is there.
const FIRST_ENDPOINTS: Duration = Duration::from_secs(2);

/// All followers.
#[derive(Debug)]
pub(crate) struct Discovery {
    upstreams: Arc<Upstreams>,
    /// Where last good endpoints are kept.
    data: Option<PathBuf>,
    metrics: ConsulMetrics,
    readiness: Readiness,
    runtime: Handle,
    /// By cluster.
    followed: Mutex<BTreeMap<String, Followed>>,
}

/// A follower from outside.
#[derive(Debug)]
struct Followed {
    question: Question,
    task: AbortHandle,
    /// True once the cluster has endpoints to go by.
    known: watch::Receiver<bool>,
    again: Arc<tokio::sync::Notify>,
}

/// What is asked, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    consul: Consul,
    endpoints: ConsulEndpoints,
}

impl Discovery {
    /// Nothing is followed yet.
    pub(crate) fn new(
        upstreams: &Arc<Upstreams>,
        data: Option<PathBuf>,
        metrics: &ConsulMetrics,
        readiness: &Readiness,
    ) -> Self {
        Self {
            upstreams: upstreams.clone(),
            data,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            runtime: Handle::current(),
            followed: Mutex::default(),
        }
    }

    /// Follows what a configuration says, after its clusters have been applied.
    pub(crate) fn apply(&self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut *self.followed.lock());
        let mut after = BTreeMap::new();
        for (cluster, question) in questions(snapshot) {
            let name = cluster.name.as_str().to_owned();
            let followed = match before.remove(&name) {
                Some(known) if known.question == question => {
                    // Protocol or limits may have changed: its endpoints are applied again.
                    known.again.notify_one();
                    Some(known)
                }
                other => {
                    drop(other);
                    self.follow(cluster, question)
                }
            };
            after.extend(followed.map(|followed| (name, followed)));
        }
        for name in before.keys() {
            self.metrics.remove(&metric(name));
        }
        *self.followed.lock() = after;
    }

    /// Waits until every cluster has endpoints to go by, for a moment at most.
    pub(crate) async fn first_endpoints(&self) {
        let all: Vec<_> = {
            let followed = self.followed.lock();
            followed.values().map(|one| one.known.clone()).collect()
        };
        let known = async {
            for mut one in all {
                // The sender lives in a task that does not end.
                let _ = one.wait_for(|known| *known).await;
            }
        };
        let _ = tokio::time::timeout(FIRST_ENDPOINTS, known).await;
    }

    fn follow(&self, config: &Cluster, question: Question) -> Option<Followed> {
        let name = config.name.as_str();
        let cluster = self.upstreams.get(name)?;
        let client = question.consul.client()?;
        let address = &question.consul.address;
        let disk = self.data.as_ref().map(|data| {
            let asked = format!("{address} {:?}", question.endpoints);
            Disk::new(data, name, asked)
        });
        let guard = self.readiness.guard(format!(
            "the endpoints of cluster {name}, from Consul at {address}"
        ));
        let (known, receiver) = watch::channel(false);
        let again = Arc::new(tokio::sync::Notify::new());
        let follower = Follower::new(
            cluster,
            question.endpoints.clone(),
            client,
            disk,
            again.clone(),
        );
        self.metrics.add(metric(name), follower.status());
        let upstreams = self.upstreams.clone();
        let task = self.runtime.spawn(follower.run(upstreams, known, guard));
        Some(Followed {
            question,
            task: task.abort_handle(),
            known: receiver,
            again,
        })
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The name under which a cluster's watch is measured.
fn metric(cluster: &str) -> String {
    format!("cluster {cluster}")
}

fn questions(snapshot: &Snapshot) -> impl Iterator<Item = (&Arc<Cluster>, Question)> {
    let consul = snapshot.consul.as_ref();
    snapshot.clusters.iter().filter_map(move |cluster| {
        let Endpoints::Consul(endpoints) = &cluster.endpoints else {
            return None;
        };
        let consul = consul?;
        let question = Question {
            consul: consul.clone(),
            endpoints: endpoints.clone(),
        };
        Some((cluster, question))
    })
}
