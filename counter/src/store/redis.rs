//! Counts in Redis: a plain integer string at `counter:{resource_id}:{counter_type}`, so existing keys go on.
//!
//! Increments that arrive while others are under way leave together, as one pipeline of `INCRBY` (exact over the whole of `i64`;
//! Redis itself refuses an overflow); those with an idempotency key go by a script that counts a batch of them. No command is ever sent twice: if the connection breaks with one in flight, its caller
//! is told that the outcome is unknown. While Redis is away calls fail at once, and readiness says why.
//! Replies: <https://redis.io/docs/latest/commands/incrby/>

mod link;
mod pipeline;
mod reply;
mod script;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};
use service_kit::Readiness;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use self::link::{Lender, Link};
use self::pipeline::{Request, Scripts};
use super::{Counted, Increment, Store, StoreError};
use crate::id::CounterId;
use crate::idempotency::{Origin, Terms};

/// What every key begins with.
const PREFIX: &str = "counter:";
/// Increments that may wait for the connection. At this depth Redis is far behind: more would only wait longer.
const QUEUE: usize = 16 * 1024;

/// Where Redis is and how to log in: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`.
#[derive(Clone)]
pub struct Target(ConnectionInfo);

impl Target {
    fn address(&self) -> (&str, u16) {
        match self.0.addr() {
            ConnectionAddr::Tcp(host, port) => (host, *port),
            // `from_str` lets nothing else through.
            _ => ("", 0),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if url.starts_with("rediss://") {
            return Err("TLS to Redis is not in this version; use redis://".to_owned());
        }
        let info = url
            .into_connection_info()
            .map_err(|error| format!("not a Redis URL: {error}"))?;
        match info.addr() {
            ConnectionAddr::Tcp(host, _) if !host.is_empty() => Ok(Self(info)),
            _ => Err("not a Redis URL: write redis://HOST:PORT".to_owned()),
        }
    }
}

/// The address only: what else is in there may be a password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}", self.0.addr())
    }
}

/// The store in Redis.
pub struct RedisStore {
    target: Target,
    _link: Link,
    lender: Lender,
    queue: mpsc::Sender<Request>,
    scripts: Arc<Scripts>,
}

impl RedisStore {
    /// Starts to connect, on the current runtime, and goes on whenever the connection is lost. `timeout` is the longest that a
    /// command may take; keep it below what callers wait.
    pub fn start(target: Target, timeout: Duration, terms: &Terms, readiness: Readiness) -> Self {
        let link = Link::start(target.clone(), timeout, readiness);
        let (queue, requests) = mpsc::channel(QUEUE);
        let lender = link.lender();
        let scripts = Arc::new(Scripts::new(terms));
        tokio::spawn(pipeline::run(requests, lender.clone(), scripts.clone()));
        Self {
            target,
            queue,
            lender,
            scripts,
            _link: link,
        }
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
        self.scripts.bytes()
    }

    async fn forget(&self) {
        // Not while Redis is away.
        if let Ok(lease) = self.lender.lease() {
            self.scripts.forget(lease).await;
        }
    }

    async fn increment(&self, increment: Increment) -> Result<Counted, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .try_send(Request { increment, reply })
            .map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Unavailable(
                    "Redis is too slow: too many increments wait for it".into(),
                ),
                TrySendError::Closed(_) => {
                    StoreError::Unavailable("the Redis store is closed".into())
                }
            })?;
        // A request that was taken is answered; its sender can only vanish with the runtime.
        answer.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown(
                "the Redis store has stopped".into(),
            ))
        })
    }

    async fn get(&self, counter: &CounterId) -> Result<i64, StoreError> {
        let key = redis_key(counter);
        let mut lease = self.lender.lease()?;
        let value = lease.read(redis::cmd("GET").arg(&key)).await?;
        reply::count(&key, value)
    }

    /// One round trip: `MGET`, and `EXISTS` beside it, because `MGET` passes off a key of another type as missing.
    async fn get_many(&self, counters: Vec<CounterId>) -> Result<Vec<i64>, StoreError> {
        let keys: Vec<String> = counters.iter().map(redis_key).collect();
        let mut lease = self.lender.lease()?;
        let mut both = redis::Pipeline::with_capacity(2);
        both.cmd("MGET").arg(&keys).cmd("EXISTS").arg(&keys);
        let (values, existing) = reply::values_and_existing(lease.read_all(&both).await?)?;
        let found = values
            .iter()
            .filter(|value| !matches!(value, redis::Value::Nil))
            .count();
        if usize::try_from(existing) == Ok(found) {
            return keys
                .iter()
                .zip(values)
                .map(|(key, value)| reply::count(key, value))
                .collect();
        }
        // A key of another type, or one that appeared in between: GET tells which. Rare enough for a second trip.
        let mut each = redis::Pipeline::with_capacity(keys.len());
        keys.iter().for_each(|key| {
            each.add_command(get(key));
        });
        let values = lease.read_all(&each).await?;
        keys.iter()
            .zip(values)
            .map(|(key, value)| reply::count(key, value))
            .collect()
    }
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
