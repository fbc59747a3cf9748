//! A request's entry in the statistics of its route: made when its answer is there, or nobody waits for one any more.

use tokio::time::Instant;

use crate::edge::Head;
use crate::metrics::RouteStats;

/// What proxies log when the client closes before it is answered.
const CLIENT_CLOSED: u16 = 499;

/// Counts the answer when it is there, or that nobody waited for it.
pub(crate) struct Counted<'a> {
    stats: &'a RouteStats,
    worker: usize,
    began: Instant,
    /// What it was answered with.
    pub(crate) status: u16,
}

impl<'a> Counted<'a> {
    /// As of now nobody waits for the answer.
    pub(crate) fn new(stats: &'a RouteStats, worker: usize, head: &Head) -> Self {
        Self {
            stats,
            worker,
            began: head.received(),
            status: CLIENT_CLOSED,
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.stats
            .answered(self.worker, self.status, self.began.elapsed());
    }
}
