//! Outlier detection of one cluster: results go in, and endpoints that do worse than they should are left out
//! for a while. One task per cluster compares them and takes them back, to the moment; it ends with the cluster
//! or when the configuration switches the detection off, which takes all back at once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use mesh_config::model as config;
use parking_lot::Mutex;
use resilience::Verdict;
use resilience::outlier::{Change, Detector, Ejection, Reason, Record, Settings};
use tokio::runtime::Handle;
use tokio::select;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::attempt::Ended;
use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::health::Cause;

/// What a cluster and its endpoints share.
#[derive(Debug)]
pub(crate) struct Outliers {
    on: AtomicBool,
    detector: Detector,
    /// The rules have changed, or an endpoint was ejected.
    changed: Notify,
    task: Mutex<Option<AbortHandle>>,
}

// === impl Outliers ===

impl Outliers {
    pub(crate) fn new() -> Self {
        Self {
            on: AtomicBool::new(false),
            detector: Detector::new(settings(&config::OutlierDetection::default())),
            changed: Notify::new(),
            task: Mutex::default(),
        }
    }

    fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    fn stop(&self) {
        self.on.store(false, Relaxed);
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

fn settings(config: &config::OutlierDetection) -> Settings {
    Settings {
        consecutive_failures: config.consecutive_failures,
        success_rate: config.success_rate,
        latency: config.latency,
        interval: config.interval.get(),
        base_ejection: config.base_ejection.get(),
        max_ejection: config.max_ejection.get(),
        max_ejected: config.max_ejected.ratio(),
    }
}

impl Endpoint {
    /// What came of a try, for the comparison with the others.
    pub(crate) fn observed(&self, verdict: Verdict, ended: Ended) {
        let outliers = &self.outliers;
        if !outliers.is_on() {
            return;
        }
        let Ended { now, latency } = ended;
        let reason = outliers
            .detector
            .record(&self.record, verdict, latency, now);
        if let Some(reason) = reason
            && let Some(cluster) = self.cluster()
        {
            cluster.eject(self, reason, now);
        }
    }

    /// It is left out from now on.
    fn ejected(&self, cluster: &str, ejection: Ejection, now: Instant) -> bool {
        tracing::warn!(cluster, endpoint = %self.name(), "an endpoint is {ejection}");
        let text = format!("ejected: {}", ejection.reason);
        let until = now + ejection.back_in;
        self.health.state_until(Cause::Ejected, text, until)
    }

    /// It is taken back if its time is over. True if that changed what it may be used for.
    fn take_back(&self, cluster: &str, now: Instant) -> bool {
        if !self.health.has(Cause::Ejected) || self.record.is_ejected(now) {
            return false;
        }
        tracing::info!(cluster, endpoint = %self.name(), "an ejected endpoint gets requests again");
        // So that it gets some: what is known of it is why it was left out.
        self.load.forget();
        self.health.withdraw(Cause::Ejected)
    }
}

impl Cluster {
    /// Takes over the rules; the task runs while there are some.
    pub(crate) fn watch_outliers(
        self: &Arc<Self>,
        rules: Option<&config::OutlierDetection>,
        runtime: &Handle,
    ) {
        let outliers = self.outliers();
        let Some(rules) = rules else {
            return self.forget_outliers();
        };
        outliers.detector.set(settings(rules));
        outliers.on.store(true, Relaxed);
        outliers.changed.notify_one();
        let mut task = outliers.task.lock();
        if task.is_none() {
            let watching = watch(Arc::downgrade(self), Arc::clone(outliers));
            *task = Some(runtime.spawn(watching).abort_handle());
        }
    }

    /// No comparing any more, and nobody left out.
    pub(crate) fn forget_outliers(&self) {
        self.outliers().stop();
        let now = Instant::now();
        let mut changed = false;
        for member in self.members() {
            member.record.forget();
            changed |= member.take_back(self.name(), now);
        }
        if changed {
            self.reselect();
        }
    }

    fn eject(&self, endpoint: &Endpoint, reason: Reason, now: Instant) {
        let members = self.members();
        let peers = records(&members);
        let detector = &self.outliers().detector;
        let Some(ejection) = detector.eject(&endpoint.record, reason, &peers, now) else {
            return;
        };
        self.counted_ejection();
        let changed = endpoint.ejected(self.name(), ejection, now);
        if !self.outliers().is_on() {
            // Switched off meanwhile: nobody would take it back.
            return self.forget_outliers();
        }
        self.outliers().changed.notify_one();
        if changed {
            self.reselect();
        }
    }

    fn sweep(&self, now: Instant) {
        let members = self.members();
        let changes = self.outliers().detector.sweep(&records(&members), now);
        let mut changed = false;
        for change in changes {
            changed |= match change {
                Change::Ejected(index, ejection) => {
                    self.counted_ejection();
                    members[index].ejected(self.name(), ejection, now)
                }
                Change::Returned(index) => members[index].take_back(self.name(), now),
            };
        }
        if changed {
            self.reselect();
        }
    }

    fn take_back(&self, now: Instant) {
        let members = self.members();
        let back = members
            .iter()
            .filter(|member| member.take_back(self.name(), now))
            .count();
        if back > 0 {
            self.reselect();
        }
    }

    /// When the next ejected endpoint is to be taken back.
    fn next_return(&self, now: Instant) -> Option<Instant> {
        let members = self.members();
        let ejected = members
            .iter()
            .filter_map(|member| member.record.ejection(now));
        ejected.map(|ejection| now + ejection.back_in).min()
    }
}

fn records(members: &[Arc<Endpoint>]) -> Vec<&Record> {
    members.iter().map(|member| &member.record).collect()
}

/// Compares the endpoints at every interval, and takes back whose time is over.
async fn watch(cluster: Weak<Cluster>, outliers: Arc<Outliers>) {
    let mut last_sweep = Instant::now();
    loop {
        let sweep_at = last_sweep + outliers.detector.interval();
        let wake_at = match cluster.upgrade() {
            Some(cluster) => cluster
                .next_return(Instant::now())
                .map_or(sweep_at, |back| back.min(sweep_at)),
            None => return,
        };
        select! {
            () = sleep_until(wake_at) => {}
            () = outliers.changed.notified() => {}
        }
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        let now = Instant::now();
        cluster.take_back(now);
        if now >= sweep_at {
            cluster.sweep(now);
            last_sweep = now;
        }
    }
}
