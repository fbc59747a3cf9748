//! The composition root: a store, a gRPC port, an admin port, put together and taken down in order.
//!
//! [`App`] is the service over a store that somebody else opened, for a process that holds the whole mesh; [`run`] is the
//! program `highpress-counter` around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use service_kit::consul::{ConsulMetrics, Instance, Registration};
use service_kit::metrics::GrpcMetrics;
use service_kit::{Admin, Drain, Readiness, program, shutdown};
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, timeout};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::dispatch::{COUNTER_SERVICE, Dispatch};
use crate::metrics::{KeyMetrics, StoreMetrics};
use crate::server::Server;
use crate::service::Counters;
use crate::settings::{Settings, StoreChoice};
use crate::status::{SERVICE, ServiceStatus, VERSION};
use crate::store::embedded::{EmbeddedStore, Events};
use crate::store::{MemoryStore, RedisStore, Store};

/// How long the ready line waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// How often the store is asked to drop idempotency keys past their retention.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// The service's name in Consul.
const CONSUL_SERVICE: &str = "high-go-press-counter";

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
        let status = Arc::new(ServiceStatus::new(store.kind(), readiness.clone()));
        registry.register(
            "highpress_outbox_unsent",
            "Events that are counted but not yet sent to the event stream; always 0 in this version, which sends none",
            Gauge::<i64>::default(),
        );
        let counters = Counters::new(
            store.clone(),
            StoreMetrics::register(registry),
            KeyMetrics::register(registry, store.clone()),
            status.clone(),
        );
        let health = HealthReporter::new();
        let dispatch = Dispatch::new(
            counters,
            HealthService::from_health_reporter(health.clone()),
        )
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
    pub async fn serve(self, listener: TcpListener, drain: Drain, drain_timeout: Duration) {
        let Self {
            server,
            store,
            readiness,
            health,
            ..
        } = self;
        let report = report_health(health, readiness.clone());
        let forget = forget_keys(store);
        let serve = async {
            server.serve(listener, &drain, drain_timeout).await;
        };
        tokio::select! {
            () = serve => {}
            () = report => {}
            () = forget => {}
        }
    }
}

/// Keeps the gRPC health service telling what readiness tells.
async fn report_health(health: HealthReporter, readiness: Readiness) {
    let mut ready = readiness.subscribe();
    loop {
        let status = if *ready.borrow_and_update() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        health.set_service_status("", status).await;
        health.set_service_status(COUNTER_SERVICE, status).await;
        // The sender lives in `readiness`, so this cannot fail.
        let _ = ready.changed().await;
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
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    // First of all, so that a signal during start-up is not lost.
    let asked = shutdown::signal().context("cannot listen for signals")?;
    shutdown::hangups_need_a_restart().context("cannot listen for signals")?;
    let readiness = Readiness::new();
    let starting = readiness.guard("start-up");
    let (listener, address) = bind("--listen", settings.listen).await?;
    let mut registry = service_kit::metrics::registry(SERVICE, VERSION);
    let store = open_store(&settings, &readiness).await?;
    let app = App::new(store, &mut registry, readiness.clone())?;
    let status = app.status();
    let consul_metrics = ConsulMetrics::register(&mut registry);
    let admin = Admin::new(SERVICE, VERSION, registry, readiness.clone())
        .status(move || status.to_json())
        .bind(settings.admin)
        .await
        .with_context(|| format!("--admin: cannot listen on {}", settings.admin))?;

    let drain = Drain::new();
    let serving = tokio::spawn(app.serve(listener, drain.clone(), settings.drain_timeout));
    let instance = Instance {
        service: CONSUL_SERVICE,
        version: VERSION,
        serves: address,
        admin: admin.local_address(),
    };
    let mut registration = settings
        .consul
        .as_ref()
        .map(|consul| Registration::start(consul, instance, readiness.clone(), &consul_metrics));
    drop(starting);
    // A store that is there answers from the first call on; one that is away holds up nobody for long.
    let _ = timeout(STORE_PATIENCE, readiness.ready()).await;
    program::ready(
        PROGRAM,
        &[("grpc", address), ("admin", admin.local_address())],
    );

    let signal = asked.await;
    tracing::info!(%signal, "draining");
    let _draining = readiness.guard("drain");
    if let Some(registration) = &mut registration {
        registration.out_of_traffic().await;
    }
    drain.begin();
    serving.await.context("the gRPC server failed")?;
    if let Some(registration) = registration {
        registration.leave().await;
    }
    admin.stop().await;
    Ok(())
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{flag}: cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn open_store(settings: &Settings, readiness: &Readiness) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match &settings.store {
        StoreChoice::Memory => Arc::new(MemoryStore::new(settings.keys)),
        StoreChoice::Embedded(directory) => {
            let readiness = readiness.clone();
            Arc::new(EmbeddedStore::open(directory, Events::Off, settings.keys, readiness).await?)
        }
        StoreChoice::Redis(target) => Arc::new(RedisStore::start(
            target.clone(),
            settings.redis_timeout,
            &settings.keys,
            readiness.clone(),
        )),
    })
}
