//! Counts in Redis: a plain integer string at `counter:{resource_id}:{counter_type}`, so existing keys go on.
//!
//! Increments that arrive while others are under way leave together, as one pipeline: of `INCRBY` (exact over the whole of `i64`;
//! Redis itself refuses an overflow), or, with idempotency keys or an outbox, of scripts that count a batch each. No command is
//! ever sent twice: if the connection breaks with one in flight, its caller is told that the outcome is unknown, and finds it out
//! by repeating it under its key. While Redis is away calls fail at once, and readiness says why.
//! Replies: <https://redis.io/docs/latest/commands/incrby/>

mod call;
mod cluster;
mod connect;
mod durable;
mod lanes;
mod link;
mod outbox;
mod pipeline;
mod place;
mod reply;
mod scan;
mod script;
mod slot;
mod target;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, Value};
use service_kit::Readiness;
use tokio::sync::{mpsc, oneshot};

use self::lanes::Lanes;
use self::outbox::RedisOutbox;
use self::pipeline::{Request, Shared};
use self::place::Places;
use self::script::{Calls, OutboxTerms};
use super::{Counted, Increment, Store, StoreError};
use crate::id::CounterId;
use crate::idempotency::{Origin, Terms};
use crate::outbox::Outbox;

pub use self::durable::Durable;
pub use self::target::Target;

/// What every key begins with.
const PREFIX: &str = "counter:";
/// Shards of a new outbox: as many as the topic has partitions.
const SHARDS: u32 = 4;

/// How a store in Redis works.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// The longest that a command may take; keep it below what callers wait.
    pub timeout: Duration,
    /// How long idempotency keys are remembered, and their room.
    pub keys: Terms,
    /// How many events may wait in the outbox; none if increments leave no events.
    pub outbox: Option<u64>,
    /// Whether replicas are waited for.
    pub durable: Option<Durable>,
}

/// The store in Redis.
pub struct RedisStore {
    target: Arc<Target>,
    lanes: Arc<Lanes>,
    shared: Arc<Shared>,
}

impl RedisStore {
    /// Starts to connect, on the current runtime, and goes on whenever the connection is lost.
    pub fn start(target: Target, options: RedisOptions, readiness: Readiness) -> Self {
        let target = Arc::new(target);
        let places = if target.is_cluster() {
            Places::by_slot()
        } else {
            Places::one()
        };
        let shards = if target.is_cluster() { 1 } else { SHARDS };
        let terms = options.outbox.map(|limit| OutboxTerms::new(shards, limit));
        let (elsewhere, strays) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            calls: Calls::new(options.keys, terms),
            places,
            durable: options.durable,
            elsewhere: target.is_cluster().then_some(elsewhere),
        });
        let lanes = Lanes::start(target.clone(), options.timeout, readiness, &shared, strays);
        Self {
            target,
            lanes: Arc::new(lanes),
            shared,
        }
    }

    /// What the relay reads, if increments leave events.
    pub(crate) fn outbox(&self) -> Option<Arc<dyn Outbox>> {
        self.shared.calls.outbox()?;
        let outbox = RedisOutbox::new(self.lanes.clone(), self.shared.clone());
        Some(Arc::new(outbox))
    }

    /// The number of the place of a counter; braces would make a cluster look elsewhere for it.
    fn place(&self, counter: &CounterId) -> Result<usize, StoreError> {
        if self.target.is_cluster() && counter.resource_id().contains(['{', '}']) {
            return Err(StoreError::Braces);
        }
        Ok(self.shared.places.of(&redis_key(counter)))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStore").field(&self.target).finish()
    }
}

#[async_trait]
impl Store for RedisStore {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn remembered(&self) -> [u64; Origin::ALL.len()] {
        let mut sums = [0; Origin::ALL.len()];
        for place in self.shared.places.used() {
            for (sum, bytes) in sums.iter_mut().zip(place.bytes()) {
                *sum += bytes;
            }
        }
        sums
    }

    async fn forget(&self) {
        // In a cluster only what was used here: what others used is theirs to forget. Not while Redis is away.
        let places = &self.shared.places;
        let numbers: Vec<usize> = if self.target.is_cluster() {
            (0..places.count())
                .filter(|number| places.is_used(*number))
                .collect()
        } else {
            vec![0]
        };
        for (lease, numbers) in self.lanes.by_server(&numbers) {
            for numbers in numbers.chunks(FORGET_AT_ONCE) {
                let places: Vec<_> = numbers.iter().map(|number| places.get(*number)).collect();
                self.shared.forget(lease.clone(), &places).await;
            }
        }
    }

    async fn increment(&self, increment: Increment) -> Result<Counted, StoreError> {
        let place = self.place(&increment.counter)?;
        let (reply, answer) = oneshot::channel();
        self.lanes.send(
            place,
            Request {
                increment,
                reply,
                moved: 0,
            },
        );
        // A request that was taken is answered; its sender can only vanish with the runtime.
        answer.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown(
                "the Redis store has stopped".into(),
            ))
        })
    }

    async fn get(&self, counter: &CounterId) -> Result<i64, StoreError> {
        let place = self.place(counter)?;
        let key = redis_key(counter);
        let mut lease = self.lanes.lease(place)?;
        let value = lease.read(&get(&key)).await?;
        reply::count(&key, value).inspect_err(|error| self.lanes.told(&lease, error))
    }

    async fn get_many(&self, counters: Vec<CounterId>) -> Result<Vec<i64>, StoreError> {
        if self.target.is_cluster() {
            return self.get_each(&counters).await;
        }
        self.get_all(&counters).await
    }
}

/// Places whose keys are looked through in one round trip.
const FORGET_AT_ONCE: usize = 512;

impl RedisStore {
    /// One round trip: `MGET`, and `EXISTS` beside it, because `MGET` passes off a key of another type as missing.
    async fn get_all(&self, counters: &[CounterId]) -> Result<Vec<i64>, StoreError> {
        let keys: Vec<String> = counters.iter().map(redis_key).collect();
        let mut lease = self.lanes.lease(0)?;
        let mut both = redis::Pipeline::with_capacity(2);
        both.cmd("MGET").arg(&keys).cmd("EXISTS").arg(&keys);
        let (values, existing) = reply::values_and_existing(lease.read_all(&both).await?)?;
        let found = values
            .iter()
            .filter(|value| !matches!(value, Value::Nil))
            .count();
        if usize::try_from(existing) == Ok(found) {
            return counts(&keys, values);
        }
        // A key of another type, or one that appeared in between: GET tells which. Rare enough for a second trip.
        let mut each = redis::Pipeline::with_capacity(keys.len());
        for key in &keys {
            each.add_command(get(key));
        }
        counts(&keys, lease.read_all(&each).await?)
    }

    /// One round trip to each node of a cluster: keys of a batch are in slots of their own.
    async fn get_each(&self, counters: &[CounterId]) -> Result<Vec<i64>, StoreError> {
        let mut places = Vec::with_capacity(counters.len());
        for counter in counters {
            places.push(self.place(counter)?);
        }
        let mut found = std::collections::HashMap::new();
        let mut distinct = places.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for (mut lease, numbers) in self.lanes.by_server(&distinct) {
            let here = |(at, place): (usize, &usize)| numbers.binary_search(place).ok().map(|_| at);
            let indices: Vec<usize> = places.iter().enumerate().filter_map(here).collect();
            let keys: Vec<String> = indices.iter().map(|at| redis_key(&counters[*at])).collect();
            let mut each = redis::Pipeline::with_capacity(keys.len());
            for key in &keys {
                each.add_command(get(key));
            }
            let values = counts(&keys, lease.read_all(&each).await?)
                .inspect_err(|error| self.lanes.told(&lease, error))?;
            found.extend(indices.into_iter().zip(values));
        }
        let missing = || StoreError::Unavailable("some nodes of the Redis cluster are away".into());
        (0..counters.len())
            .map(|at| found.get(&at).copied().ok_or_else(missing))
            .collect()
    }
}

fn counts(keys: &[String], values: Vec<Value>) -> Result<Vec<i64>, StoreError> {
    keys.iter()
        .zip(values)
        .map(|(key, value)| reply::count(key, value))
        .collect()
}

fn get(key: &str) -> Cmd {
    let mut command = redis::cmd("GET");
    command.arg(key);
    command
}

fn redis_key(counter: &CounterId) -> String {
    let mut key = String::with_capacity(PREFIX.len() + counter.key().len());
    key.push_str(PREFIX);
    key.push_str(counter.key());
    key
}
