//! The configuration that a gateway starts with, and what keeps it in force: versions are compiled here and made live, all of one
//! or nothing, and the key of Consul that they may come from is followed and measured.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use consul::StatusHandle;
use mesh_config::centre::{Following, Found};
use mesh_config::{Learnt, Live, Problems, ReloadHandle, Reloader, Snapshot, Status};
use parking_lot::Mutex;
use service_kit::consul::ConsulMetrics;
use service_kit::{Readiness, telemetry};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::announce::{Announce, Announcer};
use crate::app::{DrainTime, Source, StartError, cannot_bind};
use crate::boot;
use crate::breaks::Broken;
use crate::descriptors::{self, Descriptors, Learning};
use crate::destination::{SharedKey, States};
use crate::discovery::Discovery;
use crate::route_table::{self, Kept, Plan};
use crate::worker_table::Published;

/// Compiles snapshots and makes them live: all of one, or nothing.
#[derive(Default)]
pub(crate) struct Applier {
    /// The first plan, until there is something to apply it to.
    first: Mutex<Option<Plan>>,
    /// What is in force.
    live: Mutex<Option<Arc<Snapshot>>>,
    /// What versions have broken for their callers.
    pub(crate) broken: Broken,
    parts: OnceLock<Parts>,
}

/// What a plan is applied to.
struct Parts {
    kept: Kept,
    process: Process,
    discovery: Discovery,
    descriptors: Arc<Descriptors>,
    published: Arc<Published>,
}

/// What of a configuration is about the process as a whole, and changes while it runs.
pub(crate) struct Process {
    pub(crate) announcer: Arc<Announcer>,
    drain: DrainTime,
}

impl Process {
    pub(crate) fn new(announce: Announce, drain: DrainTime) -> Self {
        Self {
            announcer: Arc::new(Announcer::new(announce)),
            drain,
        }
    }

    fn apply(&self, snapshot: &Snapshot) {
        self.announcer.apply(snapshot);
        self.drain.apply(snapshot);
    }
}

impl Applier {
    fn apply(&self, snapshot: &Arc<Snapshot>) -> Result<(), Problems> {
        let began = Instant::now();
        let plan = route_table::compile(snapshot)?;
        let live = self.live.lock().clone();
        if let Some(live) = live {
            self.broken.judge(&live, &plan)?;
        }
        *self.live.lock() = Some(snapshot.clone());
        loudness(snapshot);
        let compiled = Instant::now();
        match self.parts.get() {
            Some(parts) => {
                parts.published.publish(plan.activate(&parts.kept));
                parts.discovery.apply(snapshot);
                parts.descriptors.apply(snapshot);
                parts.process.apply(snapshot);
            }
            None => *self.first.lock() = Some(plan),
        }
        let compile_ms = millis(compiled - began);
        let activate_ms = millis(compiled.elapsed());
        tracing::debug!(version = %snapshot.version, compile_ms, activate_ms, "compiled and published");
        Ok(())
    }

    /// Gives it what to apply plans to. It takes this once.
    pub(crate) fn apply_to(
        &self,
        (kept, process): (Kept, Process),
        discovery: Discovery,
        descriptors: Arc<Descriptors>,
        published: Arc<Published>,
    ) {
        let parts = Parts {
            kept,
            process,
            discovery,
            descriptors,
            published,
        };
        // A second set is impossible: only a start has an applier.
        let _ = self.parts.set(parts);
    }

    /// The same without holding up what else the runtime does: a large table takes its time to compile.
    fn apply_aside(&self, snapshot: &Arc<Snapshot>) -> Result<(), Problems> {
        let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        match runtime {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| self.apply(snapshot)),
            _ => self.apply(snapshot),
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Makes the log tell what the configuration says, unless the environment says something.
fn loudness(snapshot: &Snapshot) {
    if std::env::var(telemetry::FILTER_VARIABLE).is_ok_and(|filter| !filter.is_empty()) {
        return;
    }
    let filter = snapshot.log.as_deref().unwrap_or_default();
    if let Err(why) = telemetry::set_filter(filter) {
        tracing::warn!(%why, "the log's filter stays as it was");
    }
}

/// Starts to reload, when there is something to apply versions to.
pub(crate) type StartReloads = Box<dyn FnOnce() -> (ReloadHandle, JoinHandle<()>)>;

/// A configuration that has been read and compiled, and what keeps it in force.
pub(crate) struct Configured {
    pub(crate) plan: Plan,
    pub(crate) live: Live<Status>,
    pub(crate) applier: Arc<Applier>,
    pub(crate) key: Option<Key>,
    pub(crate) learning: Option<Learning>,
    pub(crate) reloader: Option<StartReloads>,
}

/// A key of Consul that holds a configuration, from outside.
pub(crate) struct Key {
    status: StatusHandle,
    found: watch::Receiver<Found>,
    switches: SharedKey,
}

impl Key {
    fn of(key: &Following) -> Self {
        Self {
            status: key.status(),
            found: key.subscribe(),
            switches: SharedKey {
                client: key.client().clone(),
                key: key.key().switches(),
            },
        }
    }

    /// Follows what hands switch at other gateways, measures the key, and makes readiness wait for it as long as nothing is known
    /// of it.
    async fn watched(
        self,
        states: &Arc<States>,
        metrics: &ConsulMetrics,
        readiness: &Readiness,
        on: &mut JoinSet<()>,
    ) {
        metrics.add("configuration", self.status);
        let watch = self.switches.watch();
        metrics.add("switches", watch.status());
        on.spawn(states.clone().follow(watch, self.switches.key.clone()));
        states.share(self.switches).await;
        let mut found = self.found;
        if *found.borrow() == Found::Nothing {
            let guard = readiness.guard("the configuration in Consul: serving the file alone");
            on.spawn(async move {
                // The sender ends with the gateway.
                let _ = found.wait_for(|found| *found != Found::Nothing).await;
                drop(guard);
            });
        }
    }
}

/// Reads and compiles a configuration for the first time.
///
/// # Errors
/// Every mistake that is in it.
pub(crate) async fn configure(
    source: Source,
    data: Option<&Path>,
    admin: Option<SocketAddr>,
) -> Result<Configured, StartError> {
    let applier = Arc::new(Applier::default());
    let (mut key, mut learning) = (None, None);
    let (live, reloader) = match source {
        Source::Watched(mut sources) => {
            let kept = data.map(descriptors::kept).unwrap_or_default();
            sources.learnt = Learnt::with(kept);
            let learnt = sources.learnt.clone();
            let admin = admin.unwrap_or(mesh_config::model::Admin::default().address);
            let begun = boot::begin(&sources, data, admin).await;
            let begun = begun.map_err(|source| cannot_bind(admin, source))?;
            let apply = applier.clone();
            let apply = move |snapshot: &Arc<Snapshot>| apply.apply_aside(snapshot);
            let (reloader, live) =
                Reloader::start(*sources, begun, apply).map_err(StartError::Config)?;
            key = reloader.key().map(Key::of);
            let reload = reloader.handle();
            learning = Some(Learning { learnt, reload });
            let start = move || {
                (
                    reloader.handle(),
                    tokio::spawn(async move {
                        let _: std::convert::Infallible = reloader.run().await;
                    }),
                )
            };
            (live, Some(Box::new(start) as Box<_>))
        }
        Source::Fixed(snapshot) => {
            applier.apply(&snapshot).map_err(StartError::Config)?;
            (Status::fixed(&snapshot), None)
        }
    };
    let first = applier.first.lock().take();
    let plan = first.map_or_else(|| route_table::compile(&live.load().snapshot), Ok);
    Ok(Configured {
        plan: plan.map_err(StartError::Config)?,
        live,
        applier,
        key,
        learning,
        reloader,
    })
}

/// Watches the key, if there is one.
pub(crate) async fn watch(
    key: Option<Key>,
    states: &Arc<States>,
    metrics: &ConsulMetrics,
    readiness: &Readiness,
    on: &mut JoinSet<()>,
) {
    if let Some(key) = key {
        key.watched(states, metrics, readiness, on).await;
    }
}
