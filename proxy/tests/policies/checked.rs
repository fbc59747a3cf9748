//! What tests of health checks share: backends that answer checks as they are told and count them, and a gateway that
//! asks them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use testkit::backend::{Answer, Backend};
use testkit::wait::{PATIENCE, eventually};
use tokio::time::Instant;

use super::scripted::{Mesh, ok, status};

pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";
pub(super) const SERVING: &[u8] = &[8, 1];
pub(super) const NOT_SERVING: &[u8] = &[8, 2];

/// A backend that answers calls well, and checks as it is told.
pub(super) struct Checked {
    pub(super) backend: Backend,
    answer: Arc<Mutex<Answer>>,
    pub(super) seen: Arc<Seen>,
}

/// What came so far.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) calls: AtomicUsize,
    /// When checks came.
    pub(super) checks: Mutex<Vec<Instant>>,
}

impl Seen {
    /// How many checks came.
    pub(super) fn count(&self) -> usize {
        self.checks.lock().len()
    }

    /// Waits until there were so many.
    pub(super) async fn until(&self, checks: usize) {
        eventually("checks to come", PATIENCE, || async {
            let count = self.count();
            (count >= checks).then_some(()).ok_or(count)
        })
        .await;
    }
}

impl Checked {
    /// It says so of itself, until it is told otherwise.
    pub(super) async fn start(answer: Answer) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let now = Arc::clone(&answer);
        let (backend, seen) = scripted(move |_| now.lock().clone()).await;
        Self {
            backend,
            answer,
            seen,
        }
    }

    pub(super) async fn serving() -> Self {
        Self::start(Answer::message(SERVING)).await
    }

    pub(super) fn say(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    pub(super) fn calls(&self) -> usize {
        self.seen.calls.load(SeqCst)
    }
}

/// A backend that answers calls well, and the check of each number as the script says.
pub(super) async fn scripted(
    script: impl Fn(usize) -> Answer + Send + Sync + 'static,
) -> (Backend, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let noted = Arc::clone(&seen);
    let backend = Backend::start(move |call| {
        if call.path != CHECK {
            noted.calls.fetch_add(1, SeqCst);
            return ok();
        }
        let number = {
            let mut checks = noted.checks.lock();
            checks.push(Instant::now());
            checks.len() - 1
        };
        script(number)
    })
    .await;
    (backend, seen)
}

pub(super) async fn before(backends: &[&Checked], cluster: &str) -> Mesh {
    let backends: Vec<_> = backends.iter().map(|checked| &checked.backend).collect();
    Mesh::start(&backends, cluster, "").await
}

/// Waits until an endpoint is (not) usable; what `/clusters` says of it then.
pub(super) async fn until_usable(mesh: &Mesh, index: usize, usable: bool) -> Value {
    let what = format!("endpoint {index} to be usable: {usable}");
    eventually(&what, PATIENCE, || async {
        let endpoint = mesh.endpoint(index).await;
        (endpoint["usable"] == usable)
            .then(|| endpoint.clone())
            .ok_or(endpoint)
    })
    .await
}

/// Waits until an endpoint is out, for a reason with this text.
pub(super) async fn until_out(mesh: &Mesh, index: usize, why: &str) {
    let what = format!("endpoint {index} to be out: {why}");
    eventually(&what, PATIENCE, || async {
        let endpoint = mesh.endpoint(index).await;
        let said = endpoint["reasons"].to_string();
        (endpoint["usable"] == false && said.contains(why))
            .then_some(())
            .ok_or(endpoint)
    })
    .await;
}

/// Waits until the gateway has applied so many versions.
pub(super) async fn until_applied(mesh: &Mesh, reloads: u64) {
    eventually("the reload", Duration::from_secs(20), || async {
        let metrics = testkit::Metrics::scrape(mesh.gateway.admin()).await;
        let applied =
            metrics.counter_value("highpress_config_reloads_total", &[("result", "applied")]);
        (applied >= reloads).then_some(()).ok_or(applied)
    })
    .await;
}

/// Lines of the log with this text.
pub(super) fn lines(mesh: &Mesh, text: &str) -> usize {
    let logs = mesh.gateway.program.logs();
    logs.lines().filter(|line| line.contains(text)).count()
}

/// `UNIMPLEMENTED`.
pub(super) fn unimplemented() -> Answer {
    status("12")
}
