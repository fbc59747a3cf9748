//! Registration in Consul: from the program's settings to an instance that is known, says how it is, and leaves.
//!
//! Whether the program is ready never depends on it, and readiness is what Consul is told: an instance that waits for
//! something, or drains, is critical at once, with the reason. Refused: starting or ending later than a moment because Consul is away.

mod metrics;
mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub use consul::{Advertise, Announced};
use consul::{Check, Health, Registrar, ServiceQuery, Vitals, Watch};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::readiness::Readiness;

pub use self::metrics::ConsulMetrics;
pub use self::settings::{Arguments, CheckKind, ConsulSettings};

/// Consul believes an instance for so long after its last word.
const TTL: Duration = Duration::from_secs(5);
/// How often an agent asks that checks by itself, and how long the answer may take.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a critical instance is remembered: the least that Consul knows.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How long the end of a program may wait for Consul to take its word.
const TELLING: Duration = Duration::from_secs(1);
/// How long those who watch Consul have to send their requests elsewhere before the door closes.
const NOTICE: Duration = Duration::from_millis(200);
const LEAVING: Duration = Duration::from_secs(2);

/// The instances of a service that Consul knows not to be critical, as `HOST:PORT`; as they come and go.
pub fn follow(settings: &ConsulSettings, service: &str) -> watch::Receiver<Vec<String>> {
    let (sender, receiver) = watch::channel(Vec::new());
    let query = ServiceQuery {
        service: service.to_owned(),
        ..ServiceQuery::default()
    };
    let mut instances = Watch::new(settings.client.clone(), query);
    tokio::spawn(async move {
        loop {
            let seen = tokio::select! {
                seen = instances.next() => seen,
                () = sender.closed() => return,
            };
            let usable = seen
                .value
                .list
                .into_iter()
                .filter(|instance| matches!(instance.health, Health::Passing | Health::Warning(_)))
                .map(|instance| format!("{}:{}", bracketed(&instance.host), instance.port));
            sender.send_replace(usable.collect());
        }
    });
    receiver
}

/// A host as it stands before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

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
    _telling: JoinSet<()>,
}

impl Registration {
    /// Registers, as soon as Consul takes it, and goes on telling it whether the program is ready, and what is `announced` since.
    pub fn start(
        settings: &ConsulSettings,
        instance: Instance<'_>,
        announced: watch::Receiver<Option<Announced>>,
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
        let mut telling = JoinSet::new();
        telling.spawn(announce(announced, registrar.announcer()));
        telling.spawn(report(readiness, vitals));
        Self {
            registrar,
            _telling: telling,
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
    }
}

fn registration(settings: &ConsulSettings, instance: Instance<'_>) -> consul::Registration {
    let (host, port) = settings.advertised(instance.serves);
    let Announced { tags, weights } = settings.announced();
    consul::Registration {
        name: instance.service.to_owned(),
        address: host,
        port,
        tags,
        meta: BTreeMap::from([
            ("admin_port".to_owned(), instance.admin.port().to_string()),
            ("version".to_owned(), instance.version.to_owned()),
        ]),
        weights,
        check: check(settings.check, instance.serves),
        deregister_after: FORGET_AFTER,
    }
}

/// The agent asks at the listen address, or at the loopback address if that is a wildcard: it runs on the same machine.
fn check(kind: CheckKind, serves: SocketAddr) -> Check {
    match kind {
        CheckKind::Ttl => Check::Ttl(TTL),
        CheckKind::Grpc => Check::Grpc {
            target: SocketAddr::new(reachable(serves.ip()), serves.port()).to_string(),
            interval: CHECK_INTERVAL,
            timeout: CHECK_TIMEOUT,
        },
    }
}

fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Keeps telling what is announced.
async fn announce(mut announced: watch::Receiver<Option<Announced>>, to: watch::Sender<Announced>) {
    loop {
        if let Some(announced) = announced.borrow_and_update().clone() {
            to.send_replace(announced);
        }
        if announced.changed().await.is_err() {
            return;
        }
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
