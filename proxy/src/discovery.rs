//! Discovery: the clusters whose endpoints Consul or a name server knows, each followed by a task of its own.
//!
//! A change of the configuration starts, stops or leaves alone; a follower whose question is the same goes on, so that nothing
//! that is known is lost. Refused: a cluster without endpoints because its source is away.

mod catalogue;
mod disk;
mod dns;
mod entries;
mod follower;
mod holding;
mod measured;
mod place;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::Snapshot;
use mesh_config::model::{Cluster, Consul, ConsulEndpoints, DnsEndpoints, Endpoints};
use parking_lot::Mutex;
use service_kit::Readiness;
use service_kit::consul::ConsulMetrics;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::disk::Disk;
pub(crate) use self::dns::DnsMetrics;
use self::entries::{Chained, Chaining, Means};
use self::follower::Follower;
use self::place::Finder;
use self::source::Source;
use crate::entries::Entries;
use crate::upstream::Upstreams;

/// How long a start waits for the first endpoints, if their sources are there.
const FIRST_ENDPOINTS: Duration = Duration::from_secs(2);

/// What a source is measured by, until it is dropped.
type Measures = Box<dyn fmt::Debug + Send + Sync>;

/// All followers.
#[derive(Debug)]
pub(crate) struct Discovery {
    upstreams: Arc<Upstreams>,
    /// Where last good endpoints are kept.
    data: Option<PathBuf>,
    metrics: ConsulMetrics,
    dns: DnsMetrics,
    entries: Arc<Entries>,
    readiness: Readiness,
    runtime: Handle,
    /// By cluster.
    followed: Mutex<BTreeMap<String, Followed>>,
    /// Who asks where the gateway is, if a cluster wants to know.
    finder: Mutex<Option<Finder>>,
}

/// A follower from outside.
#[derive(Debug)]
struct Followed {
    question: Question,
    task: AbortHandle,
    /// True once the cluster has endpoints to go by.
    known: watch::Receiver<bool>,
    again: Arc<tokio::sync::Notify>,
    /// Who reads the config entries of its service.
    entries: Option<Chained>,
    /// What its source is measured by; dropped before another takes its place.
    _measured: Measures,
}

/// What is asked, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    Consul(Box<(Consul, ConsulEndpoints)>),
    Dns(DnsEndpoints),
}

impl Discovery {
    /// Nothing is followed yet.
    pub(crate) fn new(
        upstreams: &Arc<Upstreams>,
        entries: &Arc<Entries>,
        data: Option<PathBuf>,
        metrics: &ConsulMetrics,
        dns: &DnsMetrics,
        readiness: &Readiness,
    ) -> Self {
        Self {
            upstreams: upstreams.clone(),
            data,
            metrics: metrics.clone(),
            dns: dns.clone(),
            entries: entries.clone(),
            readiness: readiness.clone(),
            runtime: Handle::current(),
            followed: Mutex::default(),
            finder: Mutex::default(),
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
                    if let Some(entries) = &known.entries {
                        entries.again();
                    }
                    Some(known)
                }
                other => {
                    let read = other.is_some_and(|other| other.entries.is_some());
                    if read && !question.reads_entries() {
                        self.entries.forget(&name);
                        self.upstreams.set_parts(&name, &[]);
                    }
                    self.follow(cluster, question)
                }
            };
            after.extend(followed.map(|followed| (name, followed)));
        }
        for (name, gone) in before {
            let read = gone.entries.is_some();
            drop(gone);
            if read {
                self.entries.forget(&name);
                self.upstreams.set_parts(&name, &[]);
            }
        }
        *self.followed.lock() = after;
        let mut finder = self.finder.lock();
        *finder = Finder::for_snapshot(finder.take(), snapshot, &self.upstreams, &self.runtime);
    }

    /// Waits until every cluster has endpoints to go by, and it is known which are near, for a moment at most.
    pub(crate) async fn first_endpoints(&self) {
        let all: Vec<_> = {
            let (followed, finder) = (self.followed.lock(), self.finder.lock());
            let known = |one: &Followed| {
                let entries = one.entries.as_ref().map(|entries| entries.known.clone());
                [Some(one.known.clone()), entries]
            };
            let known = followed.values().flat_map(known).flatten();
            known
                .chain(finder.as_ref().map(|finder| finder.tried.clone()))
                .collect()
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
        let (source, measured) = self.source(name, &question)?;
        let disk = self.data.as_ref();
        let disk = disk.map(|data| Disk::new(data, name, question.to_string()));
        let guard = self
            .readiness
            .guard(format!("the endpoints of cluster {name}, from {question}"));
        let (known, receiver) = watch::channel(false);
        let again = Arc::new(tokio::sync::Notify::new());
        let entries = match &question {
            Question::Consul(asked) if asked.1.config_entries => {
                self.chain(&asked.0, &asked.1, &cluster)
            }
            _ => None,
        };
        let follower = Follower::new(cluster, source, disk, again.clone());
        let upstreams = self.upstreams.clone();
        let task = self
            .runtime
            .spawn(follower.run(upstreams, known, Some(guard)));
        Some(Followed {
            entries,
            question,
            task: task.abort_handle(),
            known: receiver,
            again,
            _measured: measured,
        })
    }

    /// Starts to read the config entries of the service behind a cluster.
    fn chain(
        &self,
        consul: &Consul,
        asked: &ConsulEndpoints,
        cluster: &Arc<crate::upstream::Cluster>,
    ) -> Option<Chained> {
        let guard = self.readiness.guard(format!(
            "the config entries of {}, from Consul at {}",
            asked.asked.name(),
            consul.address
        ));
        let chaining = Chaining::new(
            Means {
                upstreams: self.upstreams.clone(),
                client: consul.client()?,
                data: self.data.clone(),
                metrics: self.metrics.clone(),
                runtime: self.runtime.clone(),
            },
            asked.clone(),
            cluster,
            self.entries.of(cluster.name()),
        )?;
        Some(chaining.start(guard))
    }

    fn source(&self, cluster: &str, question: &Question) -> Option<(Source, Measures)> {
        Some(match question {
            Question::Consul(asked) => {
                let (consul, asked) = &**asked;
                let client = consul.client()?;
                let (source, measured) =
                    catalogue::watch(cluster, asked, &client, &self.metrics, &self.runtime);
                (source, Box::new(measured))
            }
            Question::Dns(asked) => {
                let (source, measured) = dns::watch(cluster, asked, &self.dns, &self.runtime);
                (source, Box::new(measured))
            }
        })
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Question {
    fn reads_entries(&self) -> bool {
        matches!(self, Self::Consul(asked) if asked.1.config_entries)
    }
}

/// For people, and to know on the disk what an answer belongs to.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consul(asked) => write!(f, "{}, at {}", asked.1, asked.0.address),
            Self::Dns(asked) => asked.fmt(f),
        }
    }
}

fn questions(snapshot: &Snapshot) -> impl Iterator<Item = (&Arc<Cluster>, Question)> {
    let consul = snapshot.consul.as_ref();
    snapshot.clusters.iter().filter_map(move |cluster| {
        let question = match &cluster.endpoints {
            Endpoints::Static(_) => return None,
            Endpoints::Consul(asked) => {
                Question::Consul(Box::new((consul?.clone(), asked.clone())))
            }
            Endpoints::Dns(asked) => Question::Dns(asked.clone()),
        };
        Some((cluster, question))
    })
}
