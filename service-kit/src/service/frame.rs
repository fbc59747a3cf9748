//! A service that is being put together, and one that stands.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Names, Settings};
use crate::admin::{Admin, AdminServer};
use crate::centre::{Followed, Origins, SettingsHandle};
use crate::consul::{Announced, ConsulMetrics, ConsulSettings, Instance, Registration};
use crate::drain::{Drain, Patience};
use crate::program;
use crate::readiness::{Readiness, ReadinessGuard};
use crate::shutdown::{self, Asked, Hangups};

/// The settings that change in every service while it runs, beside the log's filter.
const LIVE: [&str; 3] = ["drain_timeout", "tags", "weight"];

/// A service that is being put together.
pub struct Frame {
    names: Names,
    signals: Signals,
    /// What it waits for.
    pub readiness: Readiness,
    starting: ReadinessGuard,
    /// Its gRPC port.
    serves: SocketAddr,
    /// Its metrics.
    pub registry: Registry,
    consul_metrics: ConsulMetrics,
}

struct Signals {
    asked: Pin<Box<dyn Future<Output = Asked> + Send>>,
    hangups: Option<Hangups>,
}

/// The settings of a service that are followed.
pub struct Live {
    followed: Followed,
    /// How long calls in flight may take to finish.
    pub drain_timeout: Patience,
    consul: Option<ConsulSettings>,
    announced: watch::Receiver<Option<Announced>>,
}

/// A service whose ports are bound.
pub struct Standing {
    frame: Footing,
    live: Live,
    admin: AdminServer,
    registration: Option<Registration>,
    /// It is about to start, or to end.
    unready: Option<ReadinessGuard>,
    /// Begins when the service is to end.
    pub drain: Drain,
}

/// What is left of a frame.
struct Footing {
    names: Names,
    signals: Signals,
    readiness: Readiness,
    serves: SocketAddr,
    consul_metrics: ConsulMetrics,
}

impl Frame {
    /// Listens for signals, first of all, so that none is lost during start-up, and binds the port.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn begin(names: Names, listen: SocketAddr) -> anyhow::Result<(Self, TcpListener)> {
        let asked = Box::pin(shutdown::signal().context("cannot listen for signals")?);
        let hangups = Some(shutdown::sighup().context("cannot listen for signals")?);
        let readiness = Readiness::new();
        let starting = readiness.guard("start-up");
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("--listen: cannot listen on {listen}"))?;
        let mut registry = crate::metrics::registry(names.service, names.version);
        let frame = Self {
            names,
            signals: Signals { asked, hangups },
            readiness,
            starting,
            serves: listener.local_addr()?,
            consul_metrics: ConsulMetrics::register(&mut registry),
            registry,
        };
        Ok((frame, listener))
    }

    /// Follows the settings. `live` are those of the service's own that `apply` changes while it runs.
    ///
    /// # Errors
    /// If it is done twice.
    pub fn follow<S: AsRef<Settings> + 'static>(
        &mut self,
        settings: &S,
        origins: Origins<S>,
        live: &[&'static str],
        apply: impl Fn(&S) + Send + 'static,
    ) -> anyhow::Result<Live> {
        let common = settings.as_ref().clone();
        let hangups = self.signals.hangups.take();
        let hangups = hangups.context("the settings are followed already")?;
        let drain_timeout = Patience::from(common.drain_timeout);
        let (announce, announced) = watch::channel(announced(&common));
        let patience = drain_timeout.clone();
        let apply_all = move |settings: &S| {
            let common = settings.as_ref();
            patience.set(common.drain_timeout);
            announce.send_replace(self::announced(common));
            apply(settings);
        };
        let live = LIVE.iter().chain(live).copied().collect();
        let (registry, metrics) = (&mut self.registry, &self.consul_metrics);
        Ok(Live {
            followed: origins.follow(live, hangups, registry, metrics, apply_all),
            drain_timeout,
            consul: common.consul,
            announced,
        })
    }

    /// Binds the admin port. `pages` adds to it, the status with what is told of the settings among them.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn stand(
        self,
        admin: SocketAddr,
        live: Live,
        pages: impl FnOnce(Admin, SettingsHandle) -> Admin,
    ) -> anyhow::Result<Standing> {
        let Names {
            service, version, ..
        } = self.names;
        let readiness = self.readiness.clone();
        let bare = Admin::new(service, version, self.registry, readiness.clone());
        let bound = pages(bare, live.followed.handle()).bind(admin).await;
        let admin = bound.with_context(|| format!("--admin: cannot listen on {admin}"))?;
        let frame = Footing {
            names: self.names,
            signals: self.signals,
            readiness,
            serves: self.serves,
            consul_metrics: self.consul_metrics,
        };
        Ok(Standing {
            frame,
            live,
            admin,
            registration: None,
            unready: Some(self.starting),
            drain: Drain::new(),
        })
    }
}

fn announced(settings: &Settings) -> Option<Announced> {
    settings.consul.as_ref().map(ConsulSettings::announced)
}

impl Standing {
    /// How long calls in flight may take to finish; it may change until the drain begins.
    #[must_use]
    pub fn drain_timeout(&self) -> Patience {
        self.live.drain_timeout.clone()
    }

    /// Registers in Consul, if there is one, what is as well as `vitals` say.
    pub fn register(&mut self, vitals: Readiness) {
        let Live {
            consul, announced, ..
        } = &self.live;
        let Some(consul) = consul else { return };
        let instance = Instance {
            service: self.frame.names.catalogue,
            version: self.frame.names.version,
            serves: self.frame.serves,
            admin: self.admin.local_address(),
        };
        let metrics = &self.frame.consul_metrics;
        let registration =
            Registration::start(consul, instance, announced.clone(), vitals, metrics);
        self.registration = Some(registration);
    }

    /// Says that it is ready, after waiting for it for so long at most.
    pub async fn ready(&mut self, patience: Duration) {
        self.unready = None;
        // What takes longer is what `/readyz` is for.
        let _ = timeout(patience, self.frame.readiness.ready()).await;
        let admin = self.admin.local_address();
        let addresses = [("grpc", self.frame.serves), ("admin", admin)];
        program::ready(self.frame.names.program, &addresses);
    }

    /// Waits until somebody wants it to end; it is not ready from then on.
    pub async fn asked(&mut self) {
        let signal = self.frame.signals.asked.as_mut().await;
        tracing::info!(%signal, "draining");
        self.unready = Some(self.frame.readiness.guard("drain"));
    }

    /// Lets Consul know, gives those who watch it a moment, and begins the drain.
    pub async fn close_door(&mut self) {
        if let Some(registration) = &mut self.registration {
            registration.out_of_traffic().await;
        }
        self.drain.begin();
    }

    /// Deregisters, and stops to tell how it is.
    pub async fn end(self) {
        if let Some(registration) = self.registration {
            registration.leave().await;
        }
        self.admin.stop().await;
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Frame");
        shown
            .field("names", &self.names)
            .field("serves", &self.serves);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Standing");
        shown
            .field("names", &self.frame.names)
            .field("drain", &self.drain);
        shown.finish_non_exhaustive()
    }
}
