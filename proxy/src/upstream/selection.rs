//! The endpoints that may be picked now, and the policy over them. Rebuilt when membership, weights or health
//! change, never per request, so that a pick does not depend on how many endpoints there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mesh_config::model::{BalancingPolicy, PerEndpointLimits};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::pick::{Candidates, Picker};

/// Endpoints that must not take this call any more.
pub type Tried = SmallVec<[Arc<Endpoint>; 2]>;

/// Counts the picks of one cluster, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Turns(AtomicU64);

/// The usable endpoints of a cluster.
#[derive(Debug)]
pub(crate) struct Selection {
    endpoints: Vec<Arc<Endpoint>>,
    picker: Picker,
    most_requests: usize,
}

/// Why nothing was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPick {
    /// Nothing usable is left.
    NoneUsable,
    /// What is usable and untried has reached its own limit of requests.
    AllFull,
}

struct View<'a> {
    selection: &'a Selection,
    tried: &'a Tried,
    now: Instant,
}

// === impl Selection ===

impl Selection {
    pub(crate) fn new(
        members: &[Arc<Endpoint>],
        policy: BalancingPolicy,
        limits: PerEndpointLimits,
    ) -> Self {
        let endpoints: Vec<_> = members
            .iter()
            .filter(|member| member.health.is_usable())
            .cloned()
            .collect();
        let weights: Vec<_> = endpoints.iter().map(|endpoint| endpoint.weight()).collect();
        let most_requests = limits
            .requests
            .map_or(usize::MAX, std::num::NonZeroUsize::get);
        Self {
            endpoints,
            picker: Picker::new(policy, &weights),
            most_requests,
        }
    }

    pub(crate) fn pick(
        &self,
        tried: &Tried,
        turns: &Turns,
        now: Instant,
    ) -> Result<Arc<Endpoint>, NoPick> {
        let view = View {
            selection: self,
            tried,
            now,
        };
        let turn = || turns.0.fetch_add(1, Relaxed);
        let picked = self.picker.pick(&view, &mut fastrand::Rng::new(), turn);
        picked
            .map(|index| Arc::clone(&self.endpoints[index]))
            .ok_or_else(|| {
                let untried = self
                    .endpoints
                    .iter()
                    .any(|endpoint| !is_tried(tried, endpoint));
                if untried {
                    NoPick::AllFull
                } else {
                    NoPick::NoneUsable
                }
            })
    }
}

fn is_tried(tried: &Tried, endpoint: &Arc<Endpoint>) -> bool {
    tried.iter().any(|other| Arc::ptr_eq(other, endpoint))
}

impl Candidates for View<'_> {
    fn in_flight(&self, index: usize) -> usize {
        self.selection.endpoints[index].load.in_flight()
    }

    fn cost(&self, index: usize) -> f64 {
        self.selection.endpoints[index]
            .load
            .cost(self.now, self.selection.picker.weight(index))
    }

    fn excluded(&self, index: usize) -> bool {
        let endpoint = &self.selection.endpoints[index];
        is_tried(self.tried, endpoint)
            || (self.selection.most_requests != usize::MAX
                && endpoint.load.in_flight() >= self.selection.most_requests)
    }
}
