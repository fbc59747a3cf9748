//! Registration in Consul: from the program's settings to an instance that is known, says how it is, and leaves.
//!
//! Whether the program is ready never depends on it, and readiness is what Consul is told: an instance that waits for
//! something, or drains, is critical at once, with the reason. Refused: starting or ending later than a moment because Consul is away.

mod metrics;
mod settings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use consul::{Check, Registrar, Vitals, Weights};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::readiness::Readiness;

pub use self::metrics::ConsulMetrics;
pub use self::settings::{Advertise, Arguments, ConsulSettings};

/// Consul believes an instance for so long after its last word.
const TTL: Duration = Duration::from_secs(5);
/// How long a critical instance is remembered: the least that Consul knows.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How long the end of a program may wait for Consul to take its word.
const TELLING: Duration = Duration::from_secs(1);
/// How long those who watch Consul have to send their requests elsewhere before the door closes.
const NOTICE: Duration = Duration::from_millis(200);
const LEAVING: Duration = Duration::from_secs(2);

/// What is registered.
#[derive(Debug, Clone, Copy)]
pub struct Instance<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// Where it serves, as it was really bound.
    pub serves: SocketAddr,
    /// Its admin port, as it was really bound.
    pub admin: SocketAddr,
}

/// An instance that is registered for as long as the program serves.
#[derive(Debug)]
pub struct Registration {
    registrar: Registrar,
    report: JoinHandle<()>,
}

impl Registration {
    /// Registers, as soon as Consul takes it, and goes on telling it whether the program is ready.
    pub fn start(
        settings: &ConsulSettings,
        instance: Instance<'_>,
        readiness: Readiness,
        metrics: &ConsulMetrics,
    ) -> Self {
        let (vitals, receiver) = watch::channel(vitals(&readiness));
        let registrar = Registrar::start(
            settings.client.clone(),
            registration(settings, instance),
            receiver,
        );
        metrics.add("registration", registrar.status());
        Self {
            registrar,
            report: tokio::spawn(report(readiness, vitals)),
        }
    }

    /// To be called when the program has begun to be unready for good: returns when Consul knows, and those who watch it had a
    /// moment to notice; after a second in any case.
    pub async fn out_of_traffic(&mut self) {
        if self.registrar.told(TELLING).await {
            tokio::time::sleep(NOTICE).await;
        }
    }

    /// Deregisters.
    pub async fn leave(self) {
        self.registrar.leave(LEAVING).await;
        self.report.abort();
    }
}

fn registration(settings: &ConsulSettings, instance: Instance<'_>) -> consul::Registration {
    let (host, port) = settings.advertised(instance.serves);
    consul::Registration {
        name: instance.service.to_owned(),
        address: host,
        port,
        tags: settings.tags.clone(),
        meta: BTreeMap::from([
            ("admin_port".to_owned(), instance.admin.port().to_string()),
            ("version".to_owned(), instance.version.to_owned()),
        ]),
        weights: Weights {
            passing: settings.weight.get(),
            ..Weights::default()
        },
        check: Check::Ttl(TTL),
        deregister_after: FORGET_AFTER,
    }
}

/// Keeps telling what readiness tells.
async fn report(readiness: Readiness, sender: watch::Sender<Vitals>) {
    let mut ready = readiness.subscribe();
    loop {
        ready.mark_unchanged();
        let now = vitals(&readiness);
        sender.send_if_modified(|told| {
            let news = *told != now;
            *told = now;
            news
        });
        // The sender lives in `readiness`, so this cannot fail.
        let _ = ready.changed().await;
    }
}

fn vitals(readiness: &Readiness) -> Vitals {
    let waiting = readiness.waiting_for();
    if waiting.is_empty() {
        Vitals::Passing
    } else {
        Vitals::Critical(format!("not ready: {}", waiting.join(", ")))
    }
}
