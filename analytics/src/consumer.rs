//! From the source into the state: apply, store at intervals, tell the source what is stored.
//!
//! ```text
//! start at the stored positions -> next batch -> apply -> ... -> now and then: checkpoint -> source forgets
//!        ^ source away: say so in readiness, wait, try again
//! ```
//! A crash loses nothing: what was applied after the last checkpoint is read again. Partitions that come are restored before
//! their events are read, from the disk or, where the log has been cut, from a snapshot; those that go are stored first.

use std::sync::Arc;
use std::time::Duration;

use service_kit::{Drain, Readiness, ReadinessGuard};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::event::{Batch, Positions};
use crate::metrics::Metrics;
use crate::source::{Delivery, Log, Source, SourceError};
use crate::state::StateError;
use crate::status::unix_seconds;
use crate::tally::{Followed, Tally};

/// Checkpoints are so long apart, or longer if they take long: an eighth of the time is theirs, at most.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
const CHECKPOINT_SHARE: u32 = 7;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Feeds one state from one source.
#[derive(Debug)]
pub struct Consumer<S> {
    source: S,
    feed: Feed,
}

/// The consumer's other end.
pub(crate) struct Feed {
    pub(crate) tally: Arc<Tally>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Counts batches, for whoever watches rankings.
    pub(crate) applied: watch::Sender<u64>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

/// Whether there is something to store.
#[derive(Debug, Default)]
struct Unstored {
    changed: bool,
    /// When to store next.
    due: Option<Instant>,
    /// Held while checkpoints fail.
    failing: Option<ReadinessGuard>,
}

impl<S: Source> Consumer<S> {
    pub(crate) fn new(source: S, feed: Feed) -> Self {
        Self { source, feed }
    }

    /// Runs until the drain begins; then stores what is applied and returns.
    pub async fn run(mut self, drain: Drain) {
        let mut unstored = Unstored::default();
        let mut waiting = Some(
            self.feed
                .readiness
                .guard(format!("events from {}", self.source.name())),
        );
        let mut pause = FIRST_PAUSE;
        loop {
            let delivered = tokio::select! {
                () = drain.begun() => break,
                error = self.deliver(&mut waiting, &mut unstored) => error,
            };
            pause = if waiting.is_none() {
                FIRST_PAUSE
            } else {
                (pause * 2).min(LONGEST_PAUSE)
            };
            self.feed.metrics.source_failures.inc();
            waiting = Some(self.recover(delivered).await);
            unstored.changed = true;
            tokio::select! {
                () = drain.begun() => break,
                () = sleep(pause) => {}
            }
        }
        self.checkpoint(&mut unstored).await;
        self.source.close().await;
    }

    /// Delivers until the source fails.
    async fn deliver(
        &mut self,
        waiting: &mut Option<ReadinessGuard>,
        unstored: &mut Unstored,
    ) -> SourceError {
        if let Err(error) = self.adopt().await {
            return error;
        }
        let fixed = self.source.fixed().to_vec();
        let from = match self.assign(fixed).await {
            Ok(from) => from,
            Err(error) => return SourceError::Away(error.into()),
        };
        if let Err(error) = self.source.start(&from).await {
            return error;
        }
        let mut snapshot_due = self
            .source
            .keeps_every()
            .map(|every| Instant::now() + every);
        loop {
            let due = unstored.due.unwrap_or_else(Instant::now);
            tokio::select! {
                // Checkpoints first: a source that always has more must not put them off.
                biased;
                () = sleep_until(due) => self.checkpoint(unstored).await,
                () = sleep_until(snapshot_due.unwrap_or(due)), if snapshot_due.is_some() => {
                    self.keep_snapshots().await;
                    snapshot_due = self.source.keeps_every().map(|every| Instant::now() + every);
                }
                delivery = self.source.next() => match delivery {
                    Ok(Delivery::Batch(batch)) => {
                        unstored.changed = true;
                        if let Err(error) = self.apply(&batch) {
                            return SourceError::Away(error.into());
                        }
                    }
                    Ok(Delivery::Assigned(partitions, reply)) => match self.assign(partitions).await {
                        Ok(positions) => {
                            // Nobody waits any more if the source has been stopped.
                            let _ = reply.send(positions);
                        }
                        Err(error) => return SourceError::Away(error.into()),
                    },
                    Ok(Delivery::Revoked(partitions, reply)) => {
                        self.checkpoint(unstored).await;
                        self.feed.tally.release(&partitions, unix_seconds());
                        let _ = reply.send(());
                    }
                    Ok(Delivery::Waiting(why)) => self.wait(why, waiting),
                    Err(error) => return error,
                },
            }
        }
    }

    /// Says what is waited for, or that nothing is.
    fn wait(&self, why: Option<String>, waiting: &mut Option<ReadinessGuard>) {
        let source = self.source.name();
        let guard = why.as_ref().map(|why| {
            let what = format!("events from {source}: {why}");
            self.feed.readiness.guard(what)
        });
        match why {
            Some(why) => tracing::warn!(source, why, "waiting for events"),
            None if waiting.is_some() => tracing::info!(source, "reading events"),
            None => {}
        }
        *waiting = guard;
    }

    /// Makes sure that the stored positions are of this source.
    async fn adopt(&self) -> Result<(), SourceError> {
        let (tally, identity) = (self.feed.tally.clone(), self.source.identity());
        match blocking(move || tally.adopt(&identity)).await {
            Ok(false) => Ok(()),
            Ok(true) => {
                tracing::warn!(
                    source = self.source.name(),
                    "what was stored came from other events: counting these from their beginning"
                );
                Ok(())
            }
            Err(error) => Err(SourceError::Away(error.into())),
        }
    }

    /// Takes partitions: as they are stored, or as a snapshot has them if that is further.
    async fn assign(&mut self, partitions: Vec<u32>) -> Result<Positions, StateError> {
        if let Some(log) = self.source.log().await {
            self.follow(log).await?;
        }
        let (tally, assigned) = (self.feed.tally.clone(), partitions.clone());
        let mut positions = blocking(move || tally.assign(&assigned, unix_seconds())).await?;
        for partition in partitions {
            let Some(snapshot) = self
                .source
                .restore(partition, positions.next(partition))
                .await
            else {
                continue;
            };
            let (tally, position) = (self.feed.tally.clone(), snapshot.position);
            match blocking(move || tally.install(partition, &snapshot, unix_seconds())).await {
                Ok(()) => {
                    tracing::info!(partition, position, "going on from a snapshot");
                    positions.set(partition, position);
                }
                Err(error) => tracing::warn!(partition, %error, "a snapshot is not used"),
            }
        }
        Ok(positions)
    }

    /// Goes on from the beginning of a log that was made anew, and says so.
    async fn follow(&self, log: Log) -> Result<(), StateError> {
        let tally = self.feed.tally.clone();
        let (source, id) = (self.source.name(), log.id.clone());
        let kept = match blocking(move || tally.follow(&log, unix_seconds())).await? {
            Followed::Same => return Ok(()),
            Followed::Rewound => "what was counted stays, events that were counted are dropped",
            Followed::Cleared => {
                "with another number of partitions: everything is counted anew; `migrate` announces counters without events"
            }
        };
        self.feed.metrics.renewals.inc();
        tracing::warn!(
            source,
            id,
            "the topic was made anew: reading it from its beginning; {kept}"
        );
        Ok(())
    }

    async fn keep_snapshots(&mut self) {
        for partition in self.feed.tally.own() {
            let tally = self.feed.tally.clone();
            if let Some(snapshot) = blocking(move || tally.snapshot(partition)).await {
                self.source.keep(partition, snapshot).await;
            }
        }
    }

    fn apply(&self, batch: &Batch) -> Result<(), StateError> {
        let applied = self.feed.tally.apply(batch, unix_seconds())?;
        self.feed.metrics.applied(&applied, batch.skipped());
        if applied.applied > 0 {
            self.feed
                .applied
                .send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    async fn recover(&self, error: SourceError) -> ReadinessGuard {
        let guard = self
            .feed
            .readiness
            .guard(format!("events from {}: {error}", self.source.name()));
        if let SourceError::Foreign { partition, .. } = error {
            tracing::warn!(%error, "the stored state does not belong to this source: starting again from its beginning");
            let tally = self.feed.tally.clone();
            if let Err(error) = blocking(move || tally.clear(partition)).await {
                tracing::error!(%error, "the stored state cannot be cleared");
            }
        } else if let SourceError::Shorter { partition, .. } = error {
            tracing::warn!(%error, "reading it again from its beginning; events that were counted are dropped");
            let tally = self.feed.tally.clone();
            if let Err(error) = blocking(move || tally.rewind(partition, unix_seconds())).await {
                tracing::error!(%error, "the position cannot be stored");
            }
        } else {
            tracing::warn!(%error, "trying again");
        }
        guard
    }

    async fn checkpoint(&mut self, unstored: &mut Unstored) {
        let begun = Instant::now();
        unstored.due = Some(begun + CHECKPOINT_INTERVAL);
        if !unstored.changed {
            return;
        }
        let tally = self.feed.tally.clone();
        match blocking(move || tally.checkpoint(unix_seconds())).await {
            Ok(positions) => {
                self.feed
                    .metrics
                    .checkpoint_seconds
                    .observe(begun.elapsed().as_secs_f64());
                let pause = (begun.elapsed() * CHECKPOINT_SHARE)
                    .clamp(CHECKPOINT_INTERVAL, LONGEST_INTERVAL);
                *unstored = Unstored {
                    due: Some(Instant::now() + pause),
                    ..Unstored::default()
                };
                if let Err(error) = self.source.stored(&positions).await {
                    tracing::warn!(%error, "the source was not told what is stored; it will be at the next checkpoint");
                    unstored.changed = true;
                }
            }
            Err(error) => {
                self.feed.metrics.checkpoint_failures.inc();
                if unstored.failing.is_none() {
                    tracing::error!(%error, "cannot store a checkpoint; trying again every second");
                    unstored.failing =
                        Some(self.feed.readiness.guard(format!("checkpoint: {error}")));
                }
            }
        }
    }
}

/// Runs what waits for a disk on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is going away, and with it whoever waits for this.
            Err(_) => std::future::pending().await,
        },
    }
}
