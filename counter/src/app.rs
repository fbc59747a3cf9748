//! The composition root: a store, a gRPC port, an admin port, put together and taken down in order.
//!
//! [`App`] is the service over a store that somebody else opened, for a process that holds the whole mesh; [`run`] is the
//! program `highpress-counter` around it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use service_kit::centre::{self, Origins, SettingsHandle};
use service_kit::grpc::{HealthReporter, report_health};
use service_kit::metrics::GrpcMetrics;
use service_kit::service::{CommandLine as _, Frame};
use service_kit::{Admin, Drain, Patience, Readiness};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::dispatch::{COUNTER_SERVICE, Dispatch};
use crate::metrics::{KeyMetrics, StoreMetrics};
use crate::outbox::Outbox;
use crate::relay::{Backlog, Relay};
use crate::server::Server;
use crate::service::Counters;
use crate::settings::{Arguments, EventsChoice, Settings, StoreChoice};
use crate::status::ServiceStatus;
use crate::store::embedded::{EmbeddedStore, Events};
use crate::store::redis::RedisOptions;
use crate::store::{MemoryStore, RedisStore, Store};

/// How long the ready line waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// How often the store is asked to drop idempotency keys past their retention.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// The program's name.
pub const PROGRAM: &str = "highpress-counter";

/// The counter service over a store.
pub struct App {
    server: Server,
    store: Arc<dyn Store>,
    status: Arc<ServiceStatus>,
    readiness: Readiness,
    health: HealthReporter,
}

impl App {
    /// Registers the service's metrics and puts it together. Whether it is ready is whether `readiness` is.
    pub fn new(
        store: Arc<dyn Store>,
        registry: &mut Registry,
        readiness: Readiness,
    ) -> anyhow::Result<Self> {
        Self::with_backlog(store, Backlog::new(None, 0), registry, readiness)
    }

    fn with_backlog(
        store: Arc<dyn Store>,
        backlog: Arc<Backlog>,
        registry: &mut Registry,
        readiness: Readiness,
    ) -> anyhow::Result<Self> {
        backlog.register(registry);
        let status = Arc::new(ServiceStatus::new(store.kind(), readiness.clone(), backlog));
        let counters = Counters::new(
            store.clone(),
            StoreMetrics::register(registry),
            KeyMetrics::register(registry, store.clone()),
            status.clone(),
        );
        let health = HealthReporter::new();
        let dispatch = Dispatch::new(counters, &health)
            .context("the built-in descriptor set cannot be served by reflection")?;
        let server = Server::new(dispatch, GrpcMetrics::register(registry));
        Ok(Self {
            server,
            store,
            status,
            readiness,
            health,
        })
    }

    /// What `/status` and `GetStatus` tell.
    pub fn status(&self) -> Arc<ServiceStatus> {
        self.status.clone()
    }

    /// Serves on a bound listener until `drain` begins; calls in flight then have `drain_timeout` to finish.
    pub async fn serve(
        self,
        listener: TcpListener,
        drain: Drain,
        drain_timeout: impl Into<Patience>,
    ) {
        let drain_timeout = drain_timeout.into();
        let Self {
            server,
            store,
            readiness,
            health,
            ..
        } = self;
        let report = report_health(health, readiness, COUNTER_SERVICE);
        let forget = forget_keys(store);
        let serve = async {
            server.serve(listener, &drain, &drain_timeout).await;
        };
        tokio::select! {
            () = serve => {}
            () = report => {}
            () = forget => {}
        }
    }
}

/// Keeps an idle store from keeping what nobody may ask for any more.
async fn forget_keys(store: Arc<dyn Store>) {
    let mut turns = tokio::time::interval(FORGET_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        store.forget().await;
    }
}

/// Runs the program until it is told to end and has drained.
///
/// # Errors
/// If an address cannot be bound, or the store cannot be opened.
pub async fn run(settings: Settings, origins: Origins<Settings>) -> anyhow::Result<()> {
    let (mut frame, listener) = Frame::begin(Arguments::NAMES, settings.listen).await?;
    let Opened { store, outbox } = open_store(&settings, &frame.readiness).await?;
    let backlog = Backlog::new(outbox.clone(), settings.outbox_limit);
    let readiness = frame.readiness.clone();
    let (registry, of_app) = (&mut frame.registry, readiness.clone());
    let app = App::with_backlog(store, backlog.clone(), registry, of_app)?;
    let (status, asked_status) = (app.status(), app.status());
    let live = frame.follow(&settings, origins, &[], |_| {})?;
    let pages = move |admin: Admin, told: SettingsHandle| {
        let refresh = move || {
            let status = asked_status.clone();
            async move { status.refresh().await }
        };
        let status = move || centre::with_status(status.to_json(), &told);
        admin.refresh(refresh).status(status)
    };
    let mut standing = frame.stand(settings.admin, live, pages).await?;
    let relay = Relaying::start(outbox, &settings, backlog);
    let (drain, patience) = (standing.drain.clone(), standing.drain_timeout());
    let serving = tokio::spawn(app.serve(listener, drain, patience));
    standing.register(readiness);
    // A store that is there answers from the first call on; one that is away holds up nobody for long.
    standing.ready(STORE_PATIENCE).await;

    standing.asked().await;
    standing.close_door().await;
    serving.await.context("the gRPC server failed")?;
    relay.stop().await;
    standing.end().await;
    Ok(())
}

/// The relay in the background, if there is one.
struct Relaying(Option<(watch::Sender<bool>, JoinHandle<()>)>);

impl Relaying {
    fn start(outbox: Option<Arc<dyn Outbox>>, settings: &Settings, backlog: Arc<Backlog>) -> Self {
        let EventsChoice::Kafka(target) = &settings.events else {
            return Self(None);
        };
        Self(outbox.map(|outbox| {
            let relay = Relay::new(outbox, target.clone(), backlog);
            let (stop, stopped) = watch::channel(false);
            (stop, tokio::spawn(relay.run(stopped)))
        }))
    }

    /// Lets it send what is left, for a moment.
    async fn stop(self) {
        if let Some((stop, relay)) = self.0 {
            stop.send_replace(true);
            if let Err(error) = relay.await {
                tracing::error!(%error, "the relay failed");
            }
        }
    }
}

/// A store, and what the relay reads of it.
struct Opened {
    store: Arc<dyn Store>,
    outbox: Option<Arc<dyn Outbox>>,
}

async fn open_store(settings: &Settings, readiness: &Readiness) -> anyhow::Result<Opened> {
    let sends = matches!(settings.events, EventsChoice::Kafka(_));
    let readiness = readiness.clone();
    Ok(match &settings.store {
        StoreChoice::Memory => Opened {
            store: Arc::new(MemoryStore::new(settings.keys)),
            outbox: None,
        },
        StoreChoice::Embedded(directory) => {
            let events = if sends {
                Events::AtMost(settings.outbox_limit)
            } else {
                Events::Off
            };
            let store = EmbeddedStore::open(directory, events, settings.keys, readiness).await?;
            let outbox = store.events().map(|log| Arc::new(log) as Arc<dyn Outbox>);
            Opened {
                store: Arc::new(store),
                outbox,
            }
        }
        StoreChoice::Redis(target) => {
            let options = RedisOptions {
                timeout: settings.redis_timeout,
                keys: settings.keys,
                outbox: sends.then_some(settings.outbox_limit),
                durable: settings.redis_wait,
            };
            let store = RedisStore::start(target.clone(), options, readiness);
            let outbox = store.outbox();
            Opened {
                store: Arc::new(store),
                outbox,
            }
        }
    })
}
