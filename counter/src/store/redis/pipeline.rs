//! Increments on their way: what waits leaves together as one pipeline; while it is under way the next one gathers.
//!
//! Those without an idempotency key are an `INCRBY` each, those with one share a call of a script for each origin of keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::link::{Lease, Lender};
use super::script::{Once, Said};
use super::{redis_key, reply};
use crate::idempotency::{Origin, Terms};
use crate::store::{Counted, Increment, StoreError, UnixMillis};

/// Increments in one pipeline at most.
const MAX_BATCH: usize = 512;
/// Pipelines under way at a time: a second one hides the round trip, more would only make them smaller.
const MAX_IN_FLIGHT: usize = 2;

/// An increment and who waits for it.
pub(super) struct Request {
    pub(super) increment: Increment,
    pub(super) reply: oneshot::Sender<Result<Counted, StoreError>>,
}

/// The script for each origin of keys, and what its keys take.
pub(super) struct Scripts {
    once: [Once; Origin::ALL.len()],
    bytes: [AtomicU64; Origin::ALL.len()],
}

/// Requests that share a call of a script.
struct Group {
    once: Once,
    requests: Vec<Request>,
}

impl Scripts {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            once: Origin::ALL.map(|origin| Once::new(origin, terms.of(origin))),
            bytes: Default::default(),
        }
    }

    pub(super) fn bytes(&self) -> [u64; Origin::ALL.len()] {
        self.bytes
            .each_ref()
            .map(|bytes| bytes.load(Ordering::Relaxed))
    }

    /// Has keys past their retention dropped, and learns what the others take.
    pub(super) async fn forget(&self, mut lease: Lease) {
        let groups: Vec<_> = self.once.iter().map(Group::empty).collect();
        let commands = calls(&groups, Once::by_hash);
        if let Ok(values) = lease.write_all(&commands).await {
            self.settle(lease, groups, values).await;
        }
    }

    /// Answers groups by what the scripts said; those that the server did not know are sent again, whole.
    async fn settle(&self, mut lease: Lease, groups: Vec<Group>, values: Vec<Value>) {
        let mut unknown = Vec::new();
        for (group, value) in groups.into_iter().zip(values) {
            unknown.extend(self.answer(group, &value));
        }
        if unknown.is_empty() {
            return;
        }
        match lease.write_all(&calls(&unknown, Once::by_source)).await {
            Ok(values) => {
                for (group, value) in unknown.into_iter().zip(values) {
                    if let Some(group) = self.answer(group, &value) {
                        let why = "Redis does not take the script";
                        refuse(group.requests, &StoreError::Unavailable(why.into()));
                    }
                }
            }
            Err(error) => {
                for group in unknown {
                    refuse(group.requests, &error);
                }
            }
        }
    }

    /// Gives the group back if the server does not know its script.
    fn answer(&self, group: Group, value: &Value) -> Option<Group> {
        match group.once.read(&group.requests, value) {
            Said::Unknown => Some(group),
            Said::Refused(error) => {
                refuse(group.requests, &error);
                None
            }
            Said::Answers(answers, bytes) => {
                self.bytes[group.once.origin() as usize].store(bytes, Ordering::Relaxed);
                for (request, answer) in group.requests.into_iter().zip(answers) {
                    // Whoever hung up does not need an answer; likewise below.
                    let _ = request.reply.send(answer);
                }
                None
            }
        }
    }
}

impl Group {
    fn empty(once: &Once) -> Self {
        Self {
            once: once.clone(),
            requests: Vec::new(),
        }
    }
}

fn calls(groups: &[Group], call: fn(&Once, &[Request]) -> Cmd) -> Pipeline {
    let mut commands = Pipeline::new();
    for group in groups {
        commands.add_command(call(&group.once, &group.requests));
    }
    commands
}

/// Runs until the store is dropped and what it took is answered.
pub(super) async fn run(
    mut requests: mpsc::Receiver<Request>,
    lender: Lender,
    scripts: Arc<Scripts>,
) {
    let mut in_flight = JoinSet::new();
    loop {
        while in_flight.try_join_next().is_some() {}
        while in_flight.len() >= MAX_IN_FLIGHT {
            in_flight.join_next().await;
        }
        let mut batch = Vec::new();
        if requests.recv_many(&mut batch, MAX_BATCH).await == 0 {
            break;
        }
        // Nobody waits for these any more: then they must not be counted either.
        batch.retain(|request| !request.reply.is_closed());
        if batch.is_empty() {
            continue;
        }
        match lender.lease() {
            Ok(lease) => {
                in_flight.spawn(carry_out(lease, scripts.clone(), batch));
            }
            Err(error) => refuse(batch, &error),
        }
    }
    while in_flight.join_next().await.is_some() {}
}

async fn carry_out(mut lease: Lease, scripts: Arc<Scripts>, batch: Vec<Request>) {
    let (groups, plain) = sort(&scripts, batch);
    let mut commands = calls(&groups, Once::by_hash);
    for Request { increment, .. } in &plain {
        commands
            .cmd("INCRBY")
            .arg(redis_key(&increment.counter))
            .arg(increment.delta);
    }
    let error = match lease.write_all(&commands).await {
        Ok(mut values) if values.len() == groups.len() + plain.len() => {
            answer(plain, values.split_off(groups.len()));
            return scripts.settle(lease, groups, values).await;
        }
        Ok(_) => StoreError::OutcomeUnknown("Redis gave the wrong number of answers".into()),
        Err(error) => error,
    };
    refuse(plain, &error);
    for group in groups {
        refuse(group.requests, &error);
    }
}

/// Requests with a key by the script that they need, and those without.
fn sort(scripts: &Scripts, batch: Vec<Request>) -> (Vec<Group>, Vec<Request>) {
    let mut plain = Vec::new();
    let mut keyed = Origin::ALL.map(|_| Vec::new());
    for request in batch {
        match &request.increment.key {
            None => plain.push(request),
            Some(key) => keyed[key.origin() as usize].push(request),
        }
    }
    let groups = scripts.once.iter().zip(keyed);
    let groups = groups
        .filter(|(_, requests)| !requests.is_empty())
        .map(|(once, requests)| Group {
            once: once.clone(),
            requests,
        });
    (groups.collect(), plain)
}

fn answer(batch: Vec<Request>, values: Vec<Value>) {
    let at = UnixMillis::now();
    for (Request { increment, reply }, value) in batch.into_iter().zip(values) {
        let counted = reply::incremented(&increment, value).map(|value| Counted {
            value,
            at,
            replayed: false,
        });
        let _ = reply.send(counted);
    }
}

fn refuse(batch: Vec<Request>, error: &StoreError) {
    for request in batch {
        let _ = request.reply.send(Err(error.clone()));
    }
}
