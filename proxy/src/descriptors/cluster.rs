//! A cluster that is asked by reflection: every endpoint when it is new or back, and again after an interval.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::holders::Holders;
use super::reflection;
use super::teller::Teller;
use crate::upstream::{Endpoint, Upstreams};

/// How often is looked who is there; a look asks nobody.
const LOOK: Duration = Duration::from_millis(100);
/// How long an endpoint may take to tell its schema.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of which cluster.
pub(super) struct Asking {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) cluster: String,
    pub(super) interval: Duration,
    pub(super) wanted: BTreeSet<String>,
}

impl Asking {
    pub(super) async fn follow(self, teller: Arc<Teller>) -> Infallible {
        let mut holders = Holders::default();
        loop {
            self.look(&mut holders, &teller).await;
            sleep(LOOK).await;
        }
    }

    /// Asks those that are due.
    async fn look(&self, holders: &mut Holders, teller: &Teller) {
        let cluster = self.upstreams.get(&self.cluster);
        let members = cluster.map(|cluster| cluster.members()).unwrap_or_default();
        // Nobody is left, or nobody is there yet: what is known stays.
        if members.is_empty() {
            return teller.failed("the cluster has no endpoints".to_owned());
        }
        holders.retain(|address| members.iter().any(|one| **one.name() == *address));
        let now = Instant::now();
        let within_reach = members.iter().filter(|one| !one.is_unreachable());
        let mut due: Vec<(Instant, &Arc<Endpoint>)> = within_reach
            .map(|one| (holders.due(one.name(), one.recoveries(), now), one))
            .collect();
        if due.is_empty() {
            return teller.failed(nobody(&members));
        }
        due.retain(|(when, _)| *when <= now);
        due.sort_by_key(|(when, _)| *when);
        for (_, endpoint) in due {
            self.ask(endpoint, holders, teller).await;
        }
    }

    async fn ask(&self, endpoint: &Endpoint, holders: &mut Holders, teller: &Teller) {
        let (name, recoveries) = (endpoint.name().clone(), endpoint.recoveries());
        let Some(address) = endpoint.socket_addr() else {
            holders.failed(&name, recoveries, Instant::now());
            return teller.failed(format!("{name} has no address yet"));
        };
        let asked = timeout(PATIENCE, reflection::ask(address, &name, &self.wanted)).await;
        let now = Instant::now();
        let why = match asked {
            Ok(Ok(set)) => {
                let next = now + holders.pause(self.interval);
                holders.showed(&name, recoveries, Arc::from(set), next);
                if let Some((set, from)) = holders.newest() {
                    teller.learnt(set, from.to_owned());
                }
                return;
            }
            Ok(Err(why)) => why.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        holders.failed(&name, recoveries, now);
        teller.failed(format!("{name}: {why}"));
    }
}

/// Why nobody can be asked: the first endpoint's reason speaks for all.
fn nobody(members: &[Arc<Endpoint>]) -> String {
    let first = members.first();
    let reasons = first.map(|one| one.health.reasons(Instant::now()).join(", "));
    let name = first.map(|one| one.name().to_string());
    format!(
        "no endpoint of the cluster can be reached ({}: {})",
        name.unwrap_or_default(),
        reasons.unwrap_or_default()
    )
}
