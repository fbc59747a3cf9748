//! What `/status` and `GetStatus` tell of the service: the same facts, once as JSON and once as a message.

use std::sync::Arc;

use proto::counter::{GetStatusResponse, Outbox};
use serde_json::{Value, json};
use service_kit::Readiness;

use crate::relay::Backlog;
use crate::store::UnixMillis;

/// The service's name in `/status`, metrics and health.
pub const SERVICE: &str = "counter";
/// The version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The facts that `/status` is made of.
#[derive(Debug)]
pub struct ServiceStatus {
    store: &'static str,
    readiness: Readiness,
    backlog: Arc<Backlog>,
    started: UnixMillis,
}

impl ServiceStatus {
    pub(crate) fn new(store: &'static str, readiness: Readiness, backlog: Arc<Backlog>) -> Self {
        Self {
            store,
            readiness,
            backlog,
            started: UnixMillis::now(),
        }
    }

    /// What `/status` gives beside the service's name, version and readiness.
    pub fn to_json(&self) -> Value {
        json!({
            "store": self.store,
            "started_at": self.started.seconds(),
            "outbox": self.outbox(),
        })
    }

    /// Asks the store what `to_json` and `to_proto` tell of the outbox.
    pub async fn refresh(&self) {
        self.backlog.refresh().await;
    }

    /// `null` where the store does not tell: a 0 would say that nothing waits.
    fn outbox(&self) -> Value {
        let unsent = self.backlog.unsent();
        let oldest = unsent.map(|unsent| unsent.oldest_seconds(UnixMillis::now()));
        let mut outbox =
            json!({ "unsent": unsent.map(|unsent| unsent.events), "oldest_seconds": oldest });
        if self.backlog.is_on()
            && let Value::Object(fields) = &mut outbox
        {
            fields.insert("degraded".to_owned(), json!(self.backlog.why().as_deref()));
        }
        outbox
    }

    pub(crate) fn to_proto(&self) -> GetStatusResponse {
        GetStatusResponse {
            service: SERVICE.to_owned(),
            version: VERSION.to_owned(),
            store: self.store.to_owned(),
            ready: self.readiness.is_ready(),
            waiting_for: self.readiness.waiting_for(),
            outbox: self.backlog.unsent().map(|unsent| Outbox {
                unsent: unsent.events,
                oldest_seconds: unsent.oldest_seconds(UnixMillis::now()) as f64,
            }),
            started_at: self.started.seconds(),
        }
    }
}
