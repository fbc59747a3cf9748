//! Where the endpoints of a cluster come from, as a follower sees it: updates, each a whole list of one tier. Watches of Consul and
//! lookups of names are sources; each tier is asked by a task of its own, so that one that is slow or away holds up no other.

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::holding::List;

/// Updates that nobody has looked at yet; who makes more waits.
const PENDING: usize = 8;

/// Who is in a tier now.
#[derive(Debug)]
pub(super) struct Update {
    /// 0 is preferred.
    pub(super) tier: usize,
    pub(super) list: List,
    /// An empty list is one, not a lack of rights.
    pub(super) believed: bool,
}

/// What a cluster's endpoints come from; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Source {
    /// For people: `Consul`, `DNS`.
    pub(super) name: &'static str,
    tiers: usize,
    updates: mpsc::Receiver<Update>,
    tell: mpsc::Sender<Update>,
    tasks: JoinSet<()>,
}

/// Tells the follower what a tier has come to.
#[derive(Debug, Clone)]
pub(super) struct Tell {
    tier: usize,
    sender: mpsc::Sender<Update>,
}

impl Source {
    pub(super) fn new(name: &'static str) -> Self {
        let (tell, updates) = mpsc::channel(PENDING);
        Self {
            name,
            tiers: 0,
            updates,
            tell,
            tasks: JoinSet::new(),
        }
    }

    /// Adds a tier, after those that there are.
    pub(super) fn add<F>(&mut self, runtime: &Handle, run: impl FnOnce(Tell) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tell = Tell {
            tier: self.tiers,
            sender: self.tell.clone(),
        };
        self.tasks.spawn_on(run(tell), runtime);
        self.tiers += 1;
    }

    pub(super) fn tiers(&self) -> usize {
        self.tiers
    }

    /// The next update, however long it takes.
    pub(super) async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }
}

impl Tell {
    /// False: nobody listens any more.
    pub(super) async fn update(&self, list: List, believed: bool) -> bool {
        let update = Update {
            tier: self.tier,
            list,
            believed,
        };
        self.sender.send(update).await.is_ok()
    }
}
