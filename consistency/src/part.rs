//! A part of the mesh as something that can be killed, frozen and started again.

use std::net::SocketAddr;
use std::sync::Arc;

use testkit::{Consul, Kafka, Program, Redis, Running};

use crate::link::Link;

/// One process.
pub(crate) enum Part {
    Consul(Consul),
    Kafka(Kafka),
    Redis(Redis),
    Service(Service),
}

/// A program of the mesh. It takes other ports at each start, and its links lead to those.
pub(crate) struct Service {
    make: Box<dyn Fn() -> Program + Send + Sync>,
    /// By the names in its ready line.
    links: Vec<(&'static str, Arc<Link>)>,
    running: Running,
}

impl Service {
    pub(crate) async fn start(
        links: &[(&'static str, &Arc<Link>)],
        make: impl Fn() -> Program + Send + Sync + 'static,
    ) -> Self {
        let links = links
            .iter()
            .map(|(name, link)| (*name, (*link).clone()))
            .collect();
        let mut service = Self {
            running: make().spawn(),
            make: Box::new(make),
            links,
        };
        service.serve().await;
        service
    }

    async fn serve(&mut self) {
        self.running.wait_until_ready().await;
        for (name, link) in &self.links {
            link.lead_to(self.running.address(name));
        }
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.running.address("admin")
    }
}

impl Part {
    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        match self {
            Self::Consul(consul) => consul.kill().await,
            Self::Kafka(kafka) => kafka.kill().await,
            Self::Redis(redis) => redis.kill().await,
            Self::Service(service) => service.running.kill().await,
        }
    }

    /// Starts it again, and waits until it is there.
    pub(crate) async fn restart(&mut self) {
        match self {
            Self::Consul(consul) => consul.restart().await,
            Self::Kafka(kafka) => kafka.restart().await,
            Self::Redis(redis) => redis.restart().await,
            Self::Service(service) => {
                service.running = (service.make)().spawn();
                service.serve().await;
            }
        }
    }

    pub(crate) async fn freeze(&self) {
        match self {
            Self::Consul(consul) => consul.freeze().await,
            Self::Kafka(kafka) => kafka.freeze().await,
            Self::Redis(redis) => redis.freeze().await,
            Self::Service(service) => service.running.freeze().await,
        }
    }

    pub(crate) fn thaw(&self) {
        match self {
            Self::Consul(consul) => consul.thaw(),
            Self::Kafka(kafka) => kafka.thaw(),
            Self::Redis(redis) => redis.thaw(),
            Self::Service(service) => service.running.thaw(),
        }
    }
}
