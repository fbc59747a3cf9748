//! The relay: moves events from the outbox to Kafka, at least once, in order, and removes what Kafka has acknowledged.
//!
//! One producer for all shards that are this instance's; a task for each shard. When a message cannot be delivered, everything
//! is given up and begun again from what was not trimmed: see `outbox` for why that is in order. While Kafka
//! is away the outbox grows and increments go on; nothing here is on their way.

mod backlog;
mod kafka;
mod shard;
mod topic;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::backlog::Backlog;
pub use self::kafka::KafkaTarget;
use self::kafka::Producer;
use self::shard::Shard;
use crate::outbox::Outbox;

/// How often leases are renewed; a third of their life or less.
const LEASE_INTERVAL: Duration = Duration::from_millis(500);
/// Pauses before everything is begun again: doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A session that lasted this long has earned short pauses again.
const SETTLED: Duration = Duration::from_secs(10);
/// How long the end waits for what is still unsent.
const LAST_WAIT: Duration = Duration::from_secs(2);
const LAST_POLL: Duration = Duration::from_millis(20);

/// Why a session ended; it is begun again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Trouble(Arc<str>);

impl Trouble {
    fn new(why: impl Into<Arc<str>>) -> Self {
        Self(why.into())
    }
}

/// Moves events for one instance.
pub(crate) struct Relay {
    outbox: Arc<dyn Outbox>,
    target: KafkaTarget,
    backlog: Arc<Backlog>,
    /// Its name among the relays of this outbox.
    name: String,
}

impl Relay {
    pub(crate) fn new(outbox: Arc<dyn Outbox>, target: KafkaTarget, backlog: Arc<Backlog>) -> Self {
        Self {
            outbox,
            target,
            backlog,
            name: format!("{:016x}", fastrand::u64(..)),
        }
    }

    /// Runs until it is told to stop, and then a little longer for what is still unsent.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        tokio::select! {
            never = self.sessions() => match never {},
            () = self.last_events(stop) => {}
        }
        // Others need not wait for the leases to run out. If the store is away, they have to.
        let _ = timeout(LAST_WAIT, self.outbox.leave(&self.name)).await;
    }

    async fn last_events(&self, mut stop: watch::Receiver<bool>) {
        // A sender that is gone means the same.
        let _ = stop.wait_for(|stop| *stop).await;
        let sent = async {
            while self
                .outbox
                .unsent()
                .await
                .is_ok_and(|unsent| unsent.events > 0)
            {
                sleep(LAST_POLL).await;
            }
        };
        if timeout(LAST_WAIT, sent).await.is_err() {
            tracing::info!("events are left in the outbox for another instance or the next start");
        }
    }

    async fn sessions(&self) -> Infallible {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let Err(trouble) = self.session().await;
            self.backlog.trouble(&trouble.0);
            if begun.elapsed() > SETTLED {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Works until something is wrong that only a new beginning can mend.
    async fn session(&self) -> Result<Infallible, Trouble> {
        let producer = Producer::start(&self.target, self.backlog.clone())?;
        let partitions = topic::partitions(&producer, &self.target).await?;
        self.backlog.works();
        tracing::info!(topic = %self.target.topic(), partitions, "events go to Kafka");
        let mut tasks = JoinSet::new();
        let mut running = HashMap::<u32, AbortHandle>::new();
        loop {
            match self.outbox.lease(&self.name).await {
                Ok(mine) => {
                    running.retain(|shard, task| {
                        let keep = mine.contains(shard) && !task.is_finished();
                        if !keep {
                            task.abort();
                        }
                        keep
                    });
                    for shard in mine {
                        running.entry(shard).or_insert_with(|| {
                            let shard = Shard::new(
                                shard,
                                self.outbox.clone(),
                                producer.clone(),
                                partitions,
                            );
                            tasks.spawn(shard.run())
                        });
                    }
                }
                // The tasks find out for themselves, and wait for the store likewise.
                Err(error) => tracing::debug!(%error, "leases cannot be renewed now"),
            }
            while tasks.try_join_next().is_some() {}
            if self.backlog.why().is_some()
                && producer.is_idle()
                && topic::is_there(&producer, &self.target).await
            {
                self.backlog.works();
            }
            tokio::select! {
                why = producer.failed() => return Err(Trouble(why)),
                () = sleep(LEASE_INTERVAL) => producer.look_for_stall(),
            }
        }
    }
}
