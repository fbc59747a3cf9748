//! Which endpoints of a large cluster this gateway uses: those that come first in an order of its own, as many as it may
//! have. The order follows from names alone, so that it is the same after every change and restart, another one in
//! each gateway, and evenly spread over them. Connections to endpoints that are in no longer are closed after a while.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering::AcqRel;
use std::time::Duration;

use super::cluster::Cluster;
use super::endpoint::Endpoint;

/// Who left the subset may be back soon: connections are closed after this time.
const LINGER: Duration = Duration::from_secs(10);

/// Leaves the `most` that come first, in the order in which they were.
pub(super) fn keep_first<T>(
    all: &mut Vec<T>,
    most: Option<NonZeroUsize>,
    rank: impl Fn(&T) -> u64,
) {
    let Some(most) = most.map(NonZeroUsize::get).filter(|most| *most < all.len()) else {
        return;
    };
    let mut ranks: Vec<u64> = all.iter().map(&rank).collect();
    let (_, last, _) = ranks.select_nth_unstable_by(most - 1, |one, other| other.cmp(one));
    let last = *last;
    all.retain(|one| rank(one) >= last);
}

impl Cluster {
    /// Whether it is among those that are used, or would be as soon as it is usable.
    pub(super) fn is_in_subset(&self, endpoint: &Endpoint) -> bool {
        let Some(most) = self.config().load_balancing.connections.max_endpoints else {
            return true;
        };
        let before = self.members.lock().iter().fold(0, |before, other| {
            let first = other.rank() > endpoint.rank() && other.health.is_usable();
            before + usize::from(first)
        });
        before < most.get()
    }

    /// The selection has changed: connections that nobody uses any more are closed after a while.
    pub(super) fn trim_later(&self) {
        let limited = self.config().load_balancing.connections.max_endpoints;
        if limited.is_none() || self.trimming.swap(true, AcqRel) {
            return;
        }
        let cluster = self.downgraded();
        self.control().runtime.spawn(async move {
            tokio::time::sleep(LINGER).await;
            if let Some(cluster) = cluster.upgrade() {
                cluster.trim();
            }
        });
    }

    fn trim(&self) {
        self.trimming.swap(false, AcqRel);
        if self
            .config()
            .load_balancing
            .connections
            .max_endpoints
            .is_none()
        {
            return;
        }
        let used = self.used();
        let used: HashSet<*const Endpoint> = used.iter().map(Arc::as_ptr).collect();
        for endpoint in self.members() {
            if !used.contains(&Arc::as_ptr(&endpoint)) {
                endpoint.lanes.iter().for_each(super::lane::Lane::let_go);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::runtime::Handle;

    use super::*;
    use crate::upstream::control::Control;

    fn subset(gateway: &str, endpoints: &[String], most: usize) -> Vec<String> {
        let runtime = Handle::current();
        let control = Control::new(1, runtime, gateway.to_owned());
        let mut all = endpoints.to_vec();
        keep_first(&mut all, NonZeroUsize::new(most), |one| control.rank(one));
        all
    }

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .map(|one| format!("10.0.{}.{}:50051", one / 256, one % 256))
            .collect()
    }

    #[tokio::test]
    async fn one_that_leaves_is_replaced_by_one_other() {
        let all = names(1000);
        let before = subset("gateway-1", &all, 20);
        assert_eq!(before.len(), 20);
        assert_eq!(before, subset("gateway-1", &all, 20));
        let gone = before[7].clone();
        let left: Vec<_> = all.into_iter().filter(|one| *one != gone).collect();
        let after = subset("gateway-1", &left, 20);
        let kept = after.iter().filter(|one| before.contains(*one)).count();
        assert_eq!((after.len(), kept), (20, 19));
    }

    #[tokio::test]
    async fn few_are_all_used() {
        let all = names(3);
        assert_eq!(subset("gateway-1", &all, 3), all);
        assert_eq!(subset("gateway-1", &all, 9), all);
    }

    /// 200 gateways with 20 of 100 endpoints each: 40 gateways an endpoint, on average and nearly so for each.
    #[tokio::test]
    async fn gateways_spread_over_the_endpoints() {
        let all = names(100);
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for gateway in 0..200 {
            for endpoint in subset(&format!("gateway-{gateway}:8080"), &all, 20) {
                *counts.entry(endpoint).or_default() += 1;
            }
        }
        assert_eq!(counts.values().sum::<u32>(), 4000);
        // The standard deviation of such a count is 5.7: four of them.
        let (least, most) = (counts.values().min(), counts.values().max());
        assert!(least > Some(&17) && most < Some(&63), "{least:?} {most:?}");
        assert_eq!(counts.len(), 100);
    }
}
