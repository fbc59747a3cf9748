//! From the source into the state: apply, store at intervals, tell the source what is stored.
//!
//! ```text
//! start at the stored positions -> next batch -> apply -> ... -> every second: checkpoint -> source forgets
//!        ^ source away: say so in readiness, wait, try again
//! ```
//! A crash loses nothing: what was applied after the last checkpoint is read again.

use std::sync::Arc;
use std::time::Duration;

use service_kit::{Drain, Readiness, ReadinessGuard};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::event::Batch;
use crate::metrics::Metrics;
use crate::source::{Source, SourceError};
use crate::state::State;
use crate::status::unix_seconds;

const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
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
    pub(crate) state: Arc<dyn State>,
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
            tokio::select! {
                () = drain.begun() => break,
                () = sleep(pause) => {}
            }
        }
        self.checkpoint(&mut unstored).await;
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
        if let Err(error) = self.source.start(&self.feed.state.positions()).await {
            return error;
        }
        if waiting.take().is_some() {
            tracing::info!(source = self.source.name(), "reading events");
        }
        let mut tick = interval(CHECKPOINT_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Checkpoints first: a source that always has more must not put them off.
                biased;
                _ = tick.tick() => self.checkpoint(unstored).await,
                batch = self.source.next() => match batch {
                    Ok(batch) => {
                        self.apply(&batch);
                        unstored.changed = true;
                    }
                    Err(error) => return error,
                },
            }
        }
    }

    /// Makes sure that the stored positions are of this source.
    async fn adopt(&self) -> Result<(), SourceError> {
        let (state, identity) = (self.feed.state.clone(), self.source.identity());
        match blocking(move || state.adopt(&identity)).await {
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

    fn apply(&self, batch: &Batch) {
        let applied = self.feed.state.apply(batch, unix_seconds());
        self.feed.metrics.applied(&applied);
        if applied.applied > 0 {
            self.feed
                .applied
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    async fn recover(&self, error: SourceError) -> ReadinessGuard {
        let guard = self
            .feed
            .readiness
            .guard(format!("events from {}: {error}", self.source.name()));
        if matches!(error, SourceError::Foreign { .. }) {
            tracing::warn!(%error, "the stored state does not belong to this source: starting again from its beginning");
            let state = self.feed.state.clone();
            if let Err(error) = blocking(move || state.clear()).await {
                tracing::error!(%error, "the stored state cannot be cleared");
            }
        } else {
            tracing::warn!(%error, "trying again");
        }
        guard
    }

    async fn checkpoint(&mut self, unstored: &mut Unstored) {
        if !unstored.changed {
            return;
        }
        let begun = Instant::now();
        let state = self.feed.state.clone();
        match blocking(move || state.checkpoint(unix_seconds())).await {
            Ok(positions) => {
                self.feed
                    .metrics
                    .checkpoint_seconds
                    .observe(begun.elapsed().as_secs_f64());
                *unstored = Unstored::default();
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
