//! All counts of a store, a piece at a time.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use service_kit::Readiness;
use tokio::time::timeout;

use super::progress::Progress;
use super::wrong;
use crate::id::CounterId;
use crate::idempotency::Terms;
use crate::settings::StoreChoice;
use crate::store::embedded::Events;
use crate::store::redis::{RedisOptions, Target};
use crate::store::{EmbeddedStore, RedisStore, Store};

/// How long a store may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the counts are.
#[derive(Debug, Clone, Args)]
pub(super) struct StoreArgument {
    /// Where the counts are, as for the service (of `embedded:DIR` the service must be stopped; `migrate` wants a Redis)
    #[arg(
        long,
        value_name = "STORE",
        env = "HIGHPRESS_STORE",
        default_value = "embedded:data/counter"
    )]
    store: String,
}

impl StoreArgument {
    pub(super) fn read(&self) -> anyhow::Result<StoreChoice> {
        let store = self.store.parse();
        store.map_err(|why: String| wrong("--store", why))
    }
}

/// A store that is read from one end to the other.
pub(super) enum Counts {
    Redis(RedisStore),
    Embedded(EmbeddedStore),
}

impl Counts {
    /// Opens what `--store` says.
    pub(super) async fn open(store: &StoreArgument) -> anyhow::Result<Self> {
        match store.read()? {
            StoreChoice::Memory => {
                Err(wrong("--store", "counts in memory are the service's alone"))
            }
            StoreChoice::Redis(target) => redis(target, None).await.map(Self::Redis),
            StoreChoice::Embedded(directory) => {
                // It would be made, and a mistyped name be a store without a single count.
                let place = directory.display();
                let mut files = std::fs::read_dir(&directory).map_err(|error| {
                    wrong("--store", format!("there is no store in {place}: {error}"))
                })?;
                if files.next().is_none() {
                    return Err(wrong("--store", format!("there is no store in {place}")));
                }
                let open = EmbeddedStore::open(
                    &directory,
                    Events::Off,
                    Terms::default(),
                    Readiness::new(),
                );
                let store = open
                    .await
                    .context("the service has to be stopped to read its directory")?;
                Ok(Self::Embedded(store))
            }
        }
    }

    fn store(&self) -> &dyn Store {
        match self {
            Self::Redis(store) => store,
            Self::Embedded(store) => store,
        }
    }

    /// Every counter with its count; how many keys were none.
    pub(super) async fn each(
        &self,
        mut take: impl FnMut(CounterId, i64) + Send,
    ) -> anyhow::Result<u64> {
        let mut strange = 0;
        match self {
            Self::Redis(store) => {
                let total = store.size().await.ok();
                let mut progress = Progress::new("counts", total);
                let mut scan = store.scan();
                while let Some(piece) = scan.next().await? {
                    progress.add(piece.keys);
                    strange += piece.strange;
                    for (counter, count) in piece.counts {
                        take(counter, count);
                    }
                }
            }
            Self::Embedded(store) => {
                let mut progress = Progress::new("counts", None);
                store.each_count(|counter, count| {
                    progress.add(1);
                    take(counter, count);
                })?;
            }
        }
        Ok(strange)
    }

    /// The counts of these now.
    pub(super) async fn get(&self, counters: Vec<CounterId>) -> anyhow::Result<Vec<i64>> {
        let mut counts = Vec::with_capacity(counters.len());
        for piece in counters.chunks(1000) {
            counts.extend(self.store().get_many(piece.to_vec()).await?);
        }
        Ok(counts)
    }
}

/// A Redis that is there.
pub(super) async fn redis(target: Target, outbox: Option<u64>) -> anyhow::Result<RedisStore> {
    let readiness = Readiness::new();
    let options = RedisOptions {
        timeout: Duration::from_secs(10),
        outbox,
        ..RedisOptions::default()
    };
    let store = RedisStore::start(target, options, readiness.clone());
    if timeout(PATIENCE, readiness.ready()).await.is_err() {
        anyhow::bail!(
            "waited {PATIENCE:?} for {}",
            readiness.waiting_for().join(", ")
        );
    }
    Ok(store)
}
