//! What `/status` and `GetStatus` tell of the service: the same facts, once as JSON and once as a message.

use proto::counter::{GetStatusResponse, Outbox};
use serde_json::{Value, json};
use service_kit::Readiness;

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
    started: UnixMillis,
}

impl ServiceStatus {
    pub(crate) fn new(store: &'static str, readiness: Readiness) -> Self {
        Self {
            store,
            readiness,
            started: UnixMillis::now(),
        }
    }

    /// What `/status` gives beside the service's name, version and readiness.
    pub fn to_json(&self) -> Value {
        json!({
            "store": self.store,
            "started_at": self.started.seconds(),
            // No event ever waits: this version sends none anywhere.
            "outbox": { "unsent": 0, "oldest_seconds": 0 },
        })
    }

    pub(crate) fn to_proto(&self) -> GetStatusResponse {
        GetStatusResponse {
            service: SERVICE.to_owned(),
            version: VERSION.to_owned(),
            store: self.store.to_owned(),
            ready: self.readiness.is_ready(),
            waiting_for: self.readiness.waiting_for(),
            outbox: Some(Outbox::default()),
            started_at: self.started.seconds(),
        }
    }
}
