//! Announcing counters a batch at a time, and telling what became of it.

use tokio::time::{Duration, sleep};

use crate::id::CounterId;
use crate::store::{RedisStore, StoreError};

/// Counters that one call of the script takes.
const BATCH: usize = 256;
/// Tries of a call whose connection broke, and the pause before each. Bringing in what was brought in changes nothing.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(250);
/// Counters that are named of those that could not be taken.
const NAMED: usize = 20;

/// What is on its way to a store.
pub(super) struct Announcer {
    store: RedisStore,
    waiting: Vec<(CounterId, Option<i64>)>,
    pub(super) done: u64,
    pub(super) refused: u64,
}

impl Announcer {
    pub(super) fn new(store: RedisStore) -> Self {
        Self {
            store,
            waiting: Vec::with_capacity(BATCH),
            done: 0,
            refused: 0,
        }
    }

    /// Takes a counter, with what a source has of it if it is to be brought in.
    pub(super) async fn take(
        &mut self,
        counter: CounterId,
        value: Option<i64>,
    ) -> anyhow::Result<()> {
        self.waiting.push((counter, value));
        if self.waiting.len() >= BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        let items = std::mem::take(&mut self.waiting);
        for try_number in 1.. {
            match self.store.announce(items.clone()).await {
                Ok(answers) => {
                    for (counter, answer) in answers {
                        self.note(&counter, answer);
                    }
                    return Ok(());
                }
                Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))
                    if try_number < TRIES =>
                {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn note(&mut self, counter: &CounterId, answer: Result<i64, String>) {
        match answer {
            Ok(_) => self.done += 1,
            Err(why) => {
                self.refused += 1;
                if self.refused <= NAMED as u64 {
                    eprintln!("{}: {why}", counter.key());
                }
            }
        }
    }
}
