//! What Consul is told of the gateway itself: flags and environment first, then the configuration.
//!
//! The gateway says itself how it is (a TTL check): whether it is ready is what its readiness says, and an agent that asked its
//! port would not know of a configuration that is missing. Refused: waiting for Consul.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use mesh_config::Snapshot;
use service_kit::Readiness;
use service_kit::consul::{
    Advertise, Announced, CheckKind, ConsulMetrics, ConsulSettings, Instance, Registration,
};
use tokio::sync::watch;

use crate::app::SERVICE;

/// What flags and environment say, if anything.
#[derive(Debug, Clone, Default)]
pub struct Announce {
    /// Where clients reach this gateway.
    pub advertise: Option<Advertise>,
    /// Its tags.
    pub tags: Option<Vec<String>>,
    /// Its share of the traffic, relative to other gateways.
    pub weight: Option<NonZeroU16>,
}

/// What is announced as configurations come into force.
#[derive(Debug)]
pub(crate) struct Announcer {
    flags: Announce,
    announced: watch::Sender<Option<Announced>>,
}

impl Announcer {
    pub(crate) fn new(flags: Announce) -> Self {
        Self {
            flags,
            announced: watch::Sender::new(None),
        }
    }

    /// Announces what a configuration says from now on.
    pub(crate) fn apply(&self, snapshot: &Snapshot) {
        let settings = self.settings(snapshot);
        let announced = settings.map(|settings| settings.announced());
        self.announced.send_replace(announced);
    }

    /// What is not said by flags is as the configuration says it. `None`: there is no Consul.
    fn settings(&self, snapshot: &Snapshot) -> Option<ConsulSettings> {
        let (flags, written) = (self.flags.clone(), &snapshot.announced);
        Some(ConsulSettings {
            client: snapshot.consul.as_ref()?.client()?,
            advertise: flags.advertise.or_else(|| written.advertise.clone()),
            tags: flags.tags.unwrap_or_else(|| written.tags.clone()),
            weight: flags.weight.unwrap_or(written.weight),
            check: CheckKind::Ttl,
        })
    }

    /// Registers the gateway where it has really bound. `None`: there is no Consul.
    pub(crate) fn register(
        &self,
        snapshot: &Snapshot,
        (listeners, admin): (&[SocketAddr], SocketAddr),
        readiness: &Readiness,
        metrics: &ConsulMetrics,
    ) -> Option<Registration> {
        let settings = self.settings(snapshot)?;
        let instance = Instance {
            service: SERVICE,
            version: env!("CARGO_PKG_VERSION"),
            serves: *listeners.first()?,
            admin,
        };
        let (announced, ready) = (self.announced.subscribe(), readiness.clone());
        Some(Registration::start(
            &settings, instance, announced, ready, metrics,
        ))
    }
}
