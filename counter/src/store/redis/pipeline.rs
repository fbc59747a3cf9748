//! Increments on their way: what waits leaves together as one pipeline; while it is under way the next one gathers.

use redis::{Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::link::{Lease, Lender};
use super::{redis_key, reply};
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

/// Runs until the store is dropped and what it took is answered.
pub(super) async fn run(mut requests: mpsc::Receiver<Request>, lender: Lender) {
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
                in_flight.spawn(carry_out(lease, batch));
            }
            Err(error) => refuse(batch, &error),
        }
    }
    while in_flight.join_next().await.is_some() {}
}

async fn carry_out(mut lease: Lease, batch: Vec<Request>) {
    let mut commands = Pipeline::with_capacity(batch.len());
    for Request { increment, .. } in &batch {
        commands
            .cmd("INCRBY")
            .arg(redis_key(&increment.counter))
            .arg(increment.delta);
    }
    match lease.write_all(&commands).await {
        Ok(values) if values.len() == batch.len() => answer(batch, values),
        Ok(_) => refuse(
            batch,
            &StoreError::OutcomeUnknown("Redis gave the wrong number of answers".into()),
        ),
        Err(error) => refuse(batch, &error),
    }
}

fn answer(batch: Vec<Request>, values: Vec<Value>) {
    let at = UnixMillis::now();
    for (Request { increment, reply }, value) in batch.into_iter().zip(values) {
        let counted = reply::incremented(&increment, value).map(|value| Counted { value, at });
        // Whoever hung up does not need an answer; likewise below.
        let _ = reply.send(counted);
    }
}

fn refuse(batch: Vec<Request>, error: &StoreError) {
    for request in batch {
        let _ = request.reply.send(Err(error.clone()));
    }
}
