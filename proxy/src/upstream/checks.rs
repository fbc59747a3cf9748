//! Active health checks: every endpoint of a cluster that has a `health_check` is asked again and again by a task of its
//! own, on the control runtime, over a connection of its own. What the answers amount to is [`resilience::check`]'s;
//! it is stated as one cause among the others of the endpoint's [`Health`](super::health::Health).
//!
//! A task lives as long as the endpoint is in the cluster and the cluster has a check; other rules reach it while it
//! runs, so that a reload forgets nothing. Refused: work on a worker, and locks that requests take.

mod ask;
mod link;
mod outcome;
mod pace;

use std::sync::{Arc, Weak};

use mesh_config::model::HealthCheck;
use parking_lot::Mutex;
use resilience::check::{Checked, Rules, State};
use tokio::select;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use self::ask::{Asked, ask};
use self::link::Link;
use self::outcome::Failure;
use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::health::Cause;

pub(crate) use self::outcome::CheckCounts;
pub use self::outcome::CheckOutcome;
pub(crate) use self::pace::Pace;

/// How often is looked whether a name has got an address.
const UNRESOLVED: Duration = Duration::from_millis(100);

/// The checks of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    running: Mutex<Option<Running>>,
    latest: Mutex<Option<CheckView>>,
}

/// The task from outside.
#[derive(Debug)]
struct Running {
    rules: watch::Sender<Arc<HealthCheck>>,
    /// True once a check has ended.
    first: watch::Receiver<bool>,
    task: AbortHandle,
}

/// What the checks of an endpoint say, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckView {
    /// `passing` or `failing`.
    pub state: &'static str,
    /// What the latest one said.
    pub latest: String,
    /// Checks in a row that say something else than the state.
    pub against: u32,
}

// === impl Checks ===

impl Checks {
    /// What the checks say, once there was one.
    pub(crate) fn view(&self) -> Option<CheckView> {
        self.latest.lock().clone()
    }

    /// No checks any more.
    pub(crate) fn stop(&self) {
        *self.running.lock() = None;
        *self.latest.lock() = None;
    }

    /// Waits for the end of the first check; not at all where there are none.
    pub(crate) async fn first(&self) {
        let first = self.running.lock().as_ref().map(|one| one.first.clone());
        if let Some(mut first) = first {
            // A task that is stopped meanwhile is no reason to wait.
            let _ = first.wait_for(|ended| *ended).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    /// Takes over what the configuration says. `known`: it has been in use without checks, so it is well until
    /// they say otherwise.
    pub(crate) fn set_checks(
        self: &Arc<Self>,
        rules: Option<&HealthCheck>,
        known: bool,
        cluster: &Cluster,
    ) {
        let Some(rules) = rules else {
            if self.checks.running.lock().is_some() {
                self.no_checks(cluster);
            }
            return;
        };
        let mut running = self.checks.running.lock();
        match &*running {
            Some(running) => {
                running.rules.send_if_modified(|now| {
                    let changed = **now != *rules;
                    if changed {
                        *now = Arc::new(rules.clone());
                    }
                    changed
                });
            }
            None => {
                let checked = if known {
                    Checked::in_use()
                } else {
                    Checked::new()
                };
                *running = Some(self.start_checks(rules.clone(), checked, cluster));
            }
        }
    }

    fn start_checks(
        self: &Arc<Self>,
        rules: HealthCheck,
        checked: Checked,
        cluster: &Cluster,
    ) -> Running {
        let (rules, received) = watch::channel(Arc::new(rules));
        let (ended, first) = watch::channel(false);
        let series = Series {
            endpoint: Arc::downgrade(self),
            rules: received,
            ended,
            checked,
            link: Link::default(),
        };
        let control = Arc::clone(cluster.control());
        let task = control.runtime.clone().spawn(async move {
            series.run(&control.pace).await;
        });
        Running {
            rules,
            first,
            task: task.abort_handle(),
        }
    }

    fn no_checks(&self, cluster: &Cluster) {
        self.checks.stop();
        if self.health.has(Cause::Check) {
            tracing::info!(cluster = &**cluster.name(), endpoint = %self.name(), "an endpoint is not checked any more: it is taken back");
            self.health.withdraw(Cause::Check);
        }
    }

    /// A check has ended.
    fn checked(
        &self,
        cluster: &Cluster,
        checked: &Checked,
        change: Option<State>,
        outcome: &Result<String, Failure>,
    ) {
        let latest = match outcome {
            Ok(said) => said.clone(),
            Err(failure) => failure.to_string(),
        };
        let why = format!("check: {latest}");
        let name = &**cluster.name();
        let changed = match change {
            Some(State::Failing) => {
                tracing::warn!(cluster = name, endpoint = %self.name(), why, "an endpoint fails its checks");
                self.health.state(Cause::Check, why)
            }
            Some(State::Passing) if self.health.has(Cause::Check) => {
                tracing::info!(cluster = name, endpoint = %self.name(), why, "an endpoint passes its checks again");
                self.load.forget();
                self.health.withdraw(Cause::Check)
            }
            _ if checked.state() == State::Failing && outcome.is_err() => {
                self.health.state(Cause::Check, why)
            }
            _ => false,
        };
        let state = match checked.state() {
            State::Failing => "failing",
            State::New | State::Passing => "passing",
        };
        let against = checked.against();
        *self.checks.latest.lock() = Some(CheckView {
            state,
            latest,
            against,
        });
        if changed {
            cluster.reselect();
        }
    }
}

/// The checks of one endpoint, one after the other.
struct Series {
    endpoint: Weak<Endpoint>,
    rules: watch::Receiver<Arc<HealthCheck>>,
    ended: watch::Sender<bool>,
    checked: Checked,
    link: Link,
}

// === impl Series ===

impl Series {
    /// Ends when the endpoint has left, or when it is aborted.
    async fn run(mut self, pace: &Pace) {
        loop {
            pace.turn().await;
            let began = Instant::now();
            let rules = Arc::clone(&self.rules.borrow_and_update());
            let Some(wait) = self.check(&rules).await else {
                return;
            };
            // Whoever is in doubt waits after a check, else the pace is kept from one beginning to the next.
            let from = if self.checked.against() > 0 {
                Instant::now()
            } else {
                began
            };
            select! {
                () = sleep_until(from + wait) => {}
                changed = self.rules.changed() => match changed {
                    Ok(()) => self.checked.asked_anew(),
                    Err(_) => return,
                },
            }
        }
    }

    /// One check; how long to wait before the next one. `None` if the endpoint has left.
    async fn check(&mut self, rules: &HealthCheck) -> Option<Duration> {
        let endpoint = self.endpoint.upgrade().filter(|one| !one.is_retired())?;
        let Some(address) = endpoint.socket_addr() else {
            drop(endpoint);
            sleep(UNRESOLVED).await;
            return Some(Duration::ZERO);
        };
        let whom = Asked {
            name: endpoint.name(),
            address,
            protocol: endpoint.protocol(),
        };
        let outcome = ask(rules, &whom, &mut self.link).await;
        let cluster = endpoint.cluster()?;
        cluster.check_counts().count(CheckOutcome::of(&outcome));
        let thresholds = Rules {
            healthy: rules.healthy,
            unhealthy: rules.unhealthy,
            interval: rules.interval.get(),
        };
        let change = self.checked.record(outcome.is_ok(), &thresholds);
        endpoint.checked(&cluster, &self.checked, change, &outcome);
        self.ended.send_replace(true);
        Some(self.checked.wait(&thresholds, fastrand::f64()))
    }
}
