//! What the upstream half has beside the workers: a runtime for what belongs to none of them, the way to theirs, and
//! who this gateway is among others.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::checks::Pace;

/// One per gateway, shared by its clusters.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) workers: usize,
    pub(crate) runtime: Handle,
    /// The workers' own runtimes, once they run.
    threads: OnceLock<Box<[Handle]>>,
    /// What makes its order of endpoints its own.
    identity: String,
    /// Keeps checks from beginning all at once.
    pub(crate) pace: Pace,
}

// === impl Control ===

impl Control {
    pub(crate) fn new(workers: usize, runtime: Handle, identity: String) -> Self {
        Self {
            workers: workers.max(1),
            runtime,
            threads: OnceLock::new(),
            identity,
            pace: Pace::default(),
        }
    }

    /// The workers run. The first to say so is believed.
    pub(crate) fn set_threads(&self, threads: Vec<Handle>) {
        let _ = self.threads.set(threads.into());
    }

    /// The workers' runtimes; none while they do not run.
    pub(crate) fn threads(&self) -> &[Handle] {
        self.threads.get().map_or(&[], |threads| threads)
    }

    /// Where an endpoint stands in this gateway's own order: the higher, the rather it is used. Rendezvous hashing,
    /// <https://en.wikipedia.org/wiki/Rendezvous_hashing>, with a hash that is the same everywhere.
    pub(crate) fn rank(&self, endpoint: &str) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.identity.as_bytes());
        hash.update([0]);
        hash.update(endpoint.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        hash.iter()
            .take(8)
            .fold(0, |rank, byte| rank << 8 | u64::from(*byte))
    }
}
