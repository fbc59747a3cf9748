//! A watch: one blocking query after the other, for as long as somebody asks for the next answer.
//!
//! It keeps the index by Consul's rules, waits between failures with full jitter, and does not run hot when a server does not
//! block. The first query after a failure does not block, so that what has changed meanwhile is known at once. Answers that mean nothing count as failures: what was known before stays. It never gives up, and says in its status
//! and in one log line per turn how it is doing and since when.

use std::time::Duration;

use resilience::backoff::{Backoff, Waits};
use tokio::time::{Instant, sleep};

use crate::answer::{Answer, Meta};
use crate::client::Client;
use crate::error::Error;
use crate::index::{Index, Moved};
use crate::pace::Pace;
use crate::request::{Request, Target};
use crate::status::{StatusHandle, Turn};

/// How long Consul holds a query while nothing changes. A frozen server is found out after this time, so it is short;
/// one request in 20 s is no load.
const WAIT: Duration = Duration::from_secs(20);
/// Consul adds up to a sixteenth of the wait; the rest is for the way.
const WAIT_GRACE: Duration = Duration::from_secs(4);
/// How long the answer of a query that does not block may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between queries while answers have no index to wait with.
const UNINDEXED: Duration = Duration::from_secs(1);
const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(100), Duration::from_secs(2)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("a base above the maximum"),
};

/// Something that can be watched. Only this crate has queries: what they are made of is its own.
pub trait Query {
    /// What it comes to.
    type Value;

    #[doc(hidden)]
    fn request(&self, ask: &Ask) -> Request;

    #[doc(hidden)]
    fn value(&self, answer: &Answer) -> Result<Self::Value, Error>;

    /// Whether it looks like an answer that had something in it before rights were looked at.
    #[doc(hidden)]
    fn may_lack_rights(&self, _answer: &Answer) -> bool {
        false
    }

    #[doc(hidden)]
    fn max_stale(&self) -> Option<Duration>;

    /// It cannot block: how often it is asked instead.
    #[doc(hidden)]
    fn interval(&self) -> Option<Duration> {
        None
    }

    /// For log lines: `service counter`.
    fn name(&self) -> String;
}

/// How a query is asked: does it block, and who may answer.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    index: Option<u64>,
    stale: bool,
}

impl Ask {
    #[cfg(test)]
    pub(crate) fn blocking(index: u64, stale: bool) -> Self {
        Self {
            index: Some(index),
            stale,
        }
    }

    pub(crate) fn once() -> Self {
        Self {
            index: None,
            stale: false,
        }
    }

    pub(crate) fn add_to(self, mut target: Target) -> Target {
        if let Some(index) = self.index {
            let wait = format!("{}ms", WAIT.as_millis());
            target = target.pair("index", &index.to_string()).pair("wait", &wait);
        }
        if self.stale {
            target = target.flag("stale");
        }
        target
    }

    pub(crate) fn patience(self) -> Duration {
        match self.index {
            Some(_) => WAIT + WAIT / 16 + WAIT_GRACE,
            None => PATIENCE,
        }
    }
}

/// An answer that may differ from the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<T> {
    /// What it comes to.
    pub value: T,
    /// What it says of itself.
    pub meta: Meta,
}

/// Watches one query.
#[derive(Debug)]
pub struct Watch<Q> {
    client: Client,
    query: Q,
    index: Index,
    pace: Pace,
    /// The waits of the failures since the last answer.
    waits: Option<Waits>,
    /// The latest answer had no index to wait with.
    unindexed: bool,
    /// There was an answer, so that what is polled is not due at once.
    answered: bool,
    /// Rights left something out of the latest answer.
    filtered: bool,
    /// The latest answer was too old: ask the leader next.
    consistent: bool,
    status: StatusHandle,
}

impl<Q: Query> Watch<Q> {
    /// A watch that has not asked yet.
    pub fn new(client: Client, query: Q) -> Self {
        Self {
            client,
            query,
            index: Index::default(),
            pace: Pace::new(Instant::now()),
            waits: None,
            unindexed: false,
            answered: false,
            filtered: false,
            consistent: false,
            status: StatusHandle::new(),
        }
    }

    /// How it is doing.
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Waits for the next answer that may differ from the one before, however long it takes. May be dropped and called again.
    pub async fn next(&mut self) -> Seen<Q::Value> {
        loop {
            sleep(self.pace.take(Instant::now())).await;
            match self.query.interval() {
                Some(interval) if self.answered => {
                    sleep(interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
                }
                None if self.unindexed => {
                    sleep(UNINDEXED.mul_f64(0.5 + fastrand::f64())).await;
                }
                _ => {}
            }
            match self.ask().await {
                Ok((Moved::Not, _)) => {}
                Ok((_, seen)) => return seen,
                Err(error) => self.failed(&error).await,
            }
        }
    }

    async fn ask(&mut self) -> Result<(Moved, Seen<Q::Value>), Error> {
        let max_stale = self.query.max_stale();
        // After a failure the server may be another one, or have begun anew: a query that waits with an index of before would be
        // held although everything has changed.
        let index = self.index.ask().filter(|_| self.waits.is_none());
        let ask = Ask {
            index,
            stale: max_stale.is_some() && !self.consistent,
        };
        let mut answer = self.client.send(self.query.request(&ask)).await?;
        if ask.index.is_some() && self.query.may_lack_rights(&answer) {
            // Consul's streaming backend does not say that rights left everything out; a query that does not block does.
            let once = Ask { index: None, ..ask };
            answer = self.client.send(self.query.request(&once)).await?;
        }
        let meta = answer.meta;
        if let Some(bound) = max_stale.filter(|_| ask.stale) {
            self.check_age(meta, bound)?;
        }
        // Only an answer with sense moves the index: it is asked for again otherwise.
        let value = self.query.value(&answer)?;
        let mut moved = match self.query.interval() {
            Some(_) => Moved::On,
            None => self.index.advance(meta.index),
        };
        if meta.filtered != self.filtered && moved == Moved::Not {
            // Rights came or went, which no index tells.
            moved = Moved::On;
        }
        self.filtered = meta.filtered;
        self.unindexed = moved == Moved::Unknown;
        self.consistent = false;
        self.answered = true;
        self.waits = None;
        self.tell_answered(meta);
        Ok((moved, Seen { value, meta }))
    }

    /// A server that has no leader, or has not heard of it for long, is not believed; the leader is asked instead.
    fn check_age(&mut self, meta: Meta, bound: Duration) -> Result<(), Error> {
        let age = match (meta.known_leader, meta.last_contact) {
            (Some(false), age) => age.unwrap_or(Duration::MAX),
            (_, Some(age)) if age > bound => age,
            _ => return Ok(()),
        };
        self.consistent = true;
        Err(Error::Stale { age, bound })
    }

    fn tell_answered(&self, meta: Meta) {
        if let Turn::Back { after } = self.status.answered(self.index.get(), meta) {
            let (what, consul) = (self.query.name(), self.client.address());
            tracing::info!(%consul, what, away_for = ?after, "Consul answers again");
        }
    }

    async fn failed(&mut self, error: &Error) {
        // What is polled is asked again as after any failure, not only when it would be due.
        self.answered = false;
        if let Turn::Worse = self.status.failed(error) {
            let (what, consul) = (self.query.name(), self.client.address());
            tracing::warn!(%consul, what, why = %error, "Consul gives no answer to go by: what is known goes on being used");
        }
        if matches!(error, Error::Stale { .. }) {
            // The leader is asked at once, and once.
            return;
        }
        let waits = self
            .waits
            .get_or_insert_with(|| BACKOFF.waits(fastrand::Rng::new()));
        sleep(waits.after_failure()).await;
    }
}
