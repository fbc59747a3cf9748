//! The breaker of one endpoint: there while the configuration has one, with a memory that reloads do not touch.
//! Its changes are told to the log, and to the cluster, whose selection leaves rejecting endpoints out.

use std::sync::Arc;

use mesh_config::model as config;
use parking_lot::Mutex;
use resilience::Verdict;
use resilience::breaker::{Admission, Breaker, Settings, State};
use tokio::time::Instant;

use super::attempt::{Ended, Guard};
use super::endpoint::Endpoint;

/// The breaker of an endpoint, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Circuit(Mutex<Option<Arc<Breaker>>>);

// === impl Circuit ===

impl Circuit {
    /// Takes over the settings; none takes the breaker away.
    pub(crate) fn set(&self, config: Option<&config::Breaker>) {
        let mut breaker = self.0.lock();
        match (config.map(settings), &*breaker) {
            (Some(settings), Some(known)) => known.set(settings),
            (Some(settings), None) => *breaker = Some(Arc::new(Breaker::new(settings))),
            (None, _) => *breaker = None,
        }
    }

    pub(crate) fn breaker(&self) -> Option<Arc<Breaker>> {
        self.0.lock().clone()
    }

    /// Whether it lets nothing pass.
    pub(crate) fn rejects(&self, now: Instant) -> bool {
        let breaker = self.0.lock();
        let state = breaker.as_ref().map(|breaker| breaker.state(now));
        state == Some(State::Reject)
    }

    /// The word for what it does with requests.
    pub(crate) fn word(&self, now: Instant) -> &'static str {
        match self.0.lock().as_ref().map(|breaker| breaker.state(now)) {
            None | Some(State::Admit) => "admit",
            Some(State::Probe) => "probe",
            Some(State::Reject) => "reject",
        }
    }

    /// Why it does not admit all requests, and for how long still.
    pub(crate) fn reason(&self, now: Instant) -> Option<String> {
        let breaker = self.breaker()?;
        let trip = breaker.last_trip()?;
        Some(match breaker.state(now) {
            State::Reject => format!("{trip}; the next probe in {:.1?}", breaker.opens_in(now)),
            State::Admit | State::Probe => trip.to_string(),
        })
    }
}

fn settings(config: &config::Breaker) -> Settings {
    Settings {
        window: config.window.get(),
        min_requests: config.min_requests,
        failure_ratio: config.failure_ratio.ratio(),
        slow_call: config.slow_call.get(),
        slow_ratio: config.slow_ratio.ratio(),
        hold: config.hold.get(),
        max_hold: config.max_hold.get(),
        probes: config.probes,
    }
}

impl Endpoint {
    /// Asks the breaker for one try; nothing if it rejects.
    pub(crate) fn admit(&self, breaker: &Arc<Breaker>, now: Instant) -> Option<Guard> {
        let admission = breaker.admit(now);
        match &admission {
            Admission::Reject => return None,
            Admission::Probe(probe) if probe.is_first() => {
                tracing::info!(endpoint = %self.name(), "a breaker probes its endpoint");
            }
            Admission::Probe(_) | Admission::Admit(_) => {}
        }
        Some(Guard {
            breaker: Arc::clone(breaker),
            admission,
        })
    }

    /// Tells the breaker that let a try pass what came of it.
    pub(crate) fn judged(&self, guard: Guard, verdict: Verdict, ended: Ended) {
        let Guard { breaker, admission } = guard;
        let Some(change) = breaker.record(admission, verdict, ended.latency, ended.now) else {
            return;
        };
        let Some(cluster) = self.cluster() else {
            return;
        };
        tracing::warn!(cluster = &**cluster.name(), endpoint = %self.name(), "a breaker {change}");
        cluster.reselect();
    }
}
