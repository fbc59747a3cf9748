//! Breaks a whole mesh under load and proves that it counted everything exactly once.
//!
//! Real Consul, Redis (`appendfsync always`) and Kafka, two gateways, two counters that relay, two instances of analytics; between
//! any two of them a link that can be cut. Clients increment through the gateways under keys of their own and repeat what was not
//! answered, while a schedule drawn from a seed kills (`kill -9`), freezes and cuts off one part after another. At the end, for
//! every counter: count == distinct acknowledged increments == distinct events == rankings and series of analytics.
//!
//! What happens and what is sent depends on the seed alone; what meets what depends on the machine.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test, if a long one: it fails by panicking, and real time is what black boxes live in"
)]

mod client;
mod faults;
mod link;
mod load;
mod mesh;
mod part;
mod table;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use self::faults::Schedule;
use self::load::Load;
use self::mesh::Mesh;
pub use self::verdict::Verdict;

/// How hard, and how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What everything is drawn from.
    pub seed: u64,
    /// How often each part is harmed in each way; 0: a short selection.
    pub rounds: u32,
    /// Clients with keys of their own.
    pub clients: u32,
    /// Their counters.
    pub counters: u32,
    /// Between two increments of a client.
    pub pause: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            rounds: 0,
            clients: 12,
            counters: 12,
            pause: Duration::from_millis(5),
        }
    }
}

/// Runs all of it, and tells what happens on standard error.
///
/// # Panics
/// When something does not come back that should.
pub async fn run(plan: &Plan) -> Verdict {
    let mesh = Arc::new(Mesh::start().await);
    eprintln!("the mesh runs; seed {}", plan.seed);
    let load = Load::start(plan, mesh.fronts());
    Schedule::draw(plan.seed, plan.rounds)
        .inflict(&mesh, &load)
        .await;
    let sent = load.finish().await;
    eprintln!("every increment has its answer");
    verdict::reach(&mesh, sent).await
}
