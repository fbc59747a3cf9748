//! Increments on their way: what waits leaves together as one pipeline; while it is under way the next one gathers.
//!
//! Those that need no script are an `INCRBY` each; those with an idempotency key, and all if there is an outbox, share a call of
//! a script for each place and origin of keys. What one node of a cluster will not take because the slot has moved, or is on
//! its way, goes back to be sent to another: such an answer means that nothing was done.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::call::Group;
use super::durable::Durable;
use super::link::{Lease, Lender};
use super::place::{Place, Places};
use super::script::{Calls, Kind, Said};
use super::{redis_key, reply};
use crate::store::{Counted, Increment, StoreError, UnixMillis};

/// Increments in one pipeline at most.
const MAX_BATCH: usize = 512;
/// Pipelines under way at a time: a second one hides the round trip, where there is enough to fill it. Redis does one thing at
/// a time, so that two half ones take longer than a whole one, and more work of both sides.
const MAX_IN_FLIGHT: usize = 2;

/// An increment and who waits for it.
pub(super) struct Request {
    pub(super) increment: Increment,
    pub(super) reply: oneshot::Sender<Result<Counted, StoreError>>,
    /// How often a node would not take it.
    pub(super) moved: u32,
}

/// What all pipelines of a store share.
pub(super) struct Shared {
    pub(super) calls: Calls,
    pub(super) places: Places,
    pub(super) durable: Option<Durable>,
    /// Where requests go whose slot is somewhere else; none if this is no cluster.
    pub(super) elsewhere: Option<mpsc::UnboundedSender<(Request, StoreError)>>,
}

impl Shared {
    /// Has keys past their retention dropped in these places, and learns what the others take.
    pub(super) async fn forget(&self, mut lease: Lease, places: &[Arc<Place>]) {
        let mut groups = Vec::new();
        for place in places {
            let group = |origin| Group::new(place.clone(), Some(origin));
            groups.extend(crate::idempotency::Origin::ALL.map(group));
        }
        let commands = self.commands(&groups, &lease, Calls::by_hash);
        if let Ok(values) = lease.write_all(&commands).await {
            let (again, _) = self.sort_out(&lease, groups, values);
            if !again.is_empty() {
                let commands = self.commands(&again, &lease, Calls::by_source);
                if let Ok(values) = lease.write_all(&commands).await {
                    self.sort_out(&lease, again, values);
                }
            }
        }
    }

    fn commands(
        &self,
        groups: &[Group],
        lease: &Lease,
        call: fn(&Calls, &Group, super::script::Room, &str) -> Cmd,
    ) -> Pipeline {
        let server = lease.server();
        let mut commands = Pipeline::new();
        for group in groups {
            let room = self.calls.room(group, self.places.others(&group.place));
            commands.add_command(call(&self.calls, group, room, &server));
        }
        commands
    }

    /// What the scripts said: groups that they are to be asked again for, and answers.
    fn sort_out(
        &self,
        lease: &Lease,
        groups: Vec<Group>,
        values: Vec<Value>,
    ) -> (Vec<Group>, Vec<Answer>) {
        let (mut again, mut answers) = (Vec::new(), Vec::new());
        for (group, value) in groups.into_iter().zip(values) {
            match self.calls.read(&group, &value) {
                Said::Again => again.push(group),
                Said::Refused(error) => {
                    lease.told(&error);
                    let refuse = |request| (request, Err(error.clone()));
                    answers.extend(group.requests.into_iter().map(refuse));
                }
                Said::Answers(said) => answers.extend(group.requests.into_iter().zip(said)),
            }
        }
        (again, answers)
    }

    /// Answers all; what belongs to another node is passed on.
    fn answer(&self, answers: Vec<Answer>) {
        for (request, answer) in answers {
            match (answer, &self.elsewhere) {
                (Err(error), Some(elsewhere)) if reply::is_elsewhere(&error) => {
                    // The other end lives as long as the store.
                    let _ = elsewhere.send((request, error));
                }
                // Whoever hung up does not need an answer.
                (answer, _) => {
                    let _ = request.reply.send(answer);
                }
            }
        }
    }
}

type Answer = (Request, Result<Counted, StoreError>);

/// Runs until the store is dropped and what it took is answered.
pub(super) async fn run(
    mut requests: mpsc::Receiver<Request>,
    lender: Lender,
    shared: Arc<Shared>,
) {
    let mut in_flight = JoinSet::new();
    loop {
        while in_flight.try_join_next().is_some() {}
        while in_flight.len() >= MAX_IN_FLIGHT
            || (!in_flight.is_empty() && requests.len() < MAX_BATCH)
        {
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
                in_flight.spawn(carry_out(lease, shared.clone(), batch));
            }
            Err(error) => refuse(batch, &error),
        }
    }
    while in_flight.join_next().await.is_some() {}
}

async fn carry_out(mut lease: Lease, shared: Arc<Shared>, batch: Vec<Request>) {
    let (groups, plain) = sort(&shared, batch);
    let mut commands = shared.commands(&groups, &lease, Calls::by_hash);
    for Request { increment, .. } in &plain {
        commands
            .cmd("INCRBY")
            .arg(redis_key(&increment.counter))
            .arg(increment.delta);
    }
    let expected = groups.len() + plain.len();
    let values = send(&mut lease, &shared, &groups, &plain, commands, expected).await;
    let (mut values, kept) = match values {
        Ok(values) => values,
        Err(error) => {
            refuse(plain, &error);
            return refuse_groups(groups, &error);
        }
    };
    let mut answers = plain_answers(&lease, plain, values.split_off(groups.len()));
    let (again, more) = shared.sort_out(&lease, groups, values);
    answers.extend(more);
    shared.answer(kept.judge(answers));
    if !again.is_empty() {
        ask_again(lease, &shared, again).await;
    }
}

/// Sends what a server did not know how to do, with the script.
async fn ask_again(mut lease: Lease, shared: &Shared, mut groups: Vec<Group>) {
    // The number of shards may be what was not known.
    shared.calls.arrange(&mut groups);
    let commands = shared.commands(&groups, &lease, Calls::by_source);
    let expected = groups.len();
    match send(&mut lease, shared, &groups, &[], commands, expected).await {
        Ok((values, kept)) => {
            let (again, answers) = shared.sort_out(&lease, groups, values);
            shared.answer(kept.judge(answers));
            let why = "Redis does not take the script";
            refuse_groups(again, &StoreError::Unavailable(why.into()));
        }
        Err(error) => refuse_groups(groups, &error),
    }
}

/// Whether what was done is as durable as was asked for.
struct Kept(Option<StoreError>);

impl Kept {
    fn judge(&self, mut answers: Vec<Answer>) -> Vec<Answer> {
        if let Self(Some(error)) = self {
            for (_, answer) in answers.iter_mut().filter(|(_, answer)| answer.is_ok()) {
                *answer = Err(error.clone());
            }
        }
        answers
    }
}

/// Sends commands, and waits for replicas if that was asked for.
async fn send(
    lease: &mut Lease,
    shared: &Shared,
    groups: &[Group],
    plain: &[Request],
    mut commands: Pipeline,
    expected: usize,
) -> Result<(Vec<Value>, Kept), StoreError> {
    if let Some(durable) = &shared.durable {
        let place = groups.first().map(|group| group.place.clone());
        let of = |request: &Request| shared.places.of(&redis_key(&request.increment.counter));
        let number = plain.first().map_or(0, of);
        let place = place.unwrap_or_else(|| shared.places.get(number));
        durable.append_to(&mut commands, &place);
    }
    let mut values = lease.write_all(&commands).await?;
    let waited = values.split_off(expected.min(values.len()));
    if values.len() != expected {
        return Err(StoreError::OutcomeUnknown(
            "Redis gave the wrong number of answers".into(),
        ));
    }
    let kept = shared
        .durable
        .as_ref()
        .and_then(|durable| durable.missing(&waited));
    Ok((values, Kept(kept)))
}

/// Requests that need a script, by place and kind, and those that do not.
fn sort(shared: &Shared, batch: Vec<Request>) -> (Vec<Group>, Vec<Request>) {
    let mut plain = Vec::new();
    let mut groups = Vec::<Group>::new();
    let mut known = HashMap::<(usize, Option<usize>), usize>::new();
    for request in batch {
        let key = request.increment.key.as_ref();
        let kind: Kind = key.map(|key| key.origin());
        if kind.is_none() && shared.calls.outbox().is_none() {
            plain.push(request);
            continue;
        }
        let number = shared.places.of(&redis_key(&request.increment.counter));
        let name = (number, kind.map(|origin| origin as usize));
        let at = *known.entry(name).or_insert_with(|| {
            groups.push(Group::new(shared.places.get(number), kind));
            groups.len() - 1
        });
        groups[at].requests.push(request);
    }
    shared.calls.arrange(&mut groups);
    (groups, plain)
}

fn plain_answers(lease: &Lease, batch: Vec<Request>, values: Vec<Value>) -> Vec<Answer> {
    let at = UnixMillis::now();
    let answer = |(request, value): (Request, Value)| {
        let counted = reply::incremented(&request.increment, value).map(|value| Counted {
            value,
            at,
            replayed: false,
        });
        let counted = counted.inspect_err(|error| lease.told(error));
        (request, counted)
    };
    batch.into_iter().zip(values).map(answer).collect()
}

fn refuse(batch: Vec<Request>, error: &StoreError) {
    for request in batch {
        let _ = request.reply.send(Err(error.clone()));
    }
}

fn refuse_groups(groups: Vec<Group>, error: &StoreError) {
    for group in groups {
        refuse(group.requests, error);
    }
}
