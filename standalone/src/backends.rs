//! The two services behind the gateway: counter over its embedded store, analytics fed from the store's events.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use highpress_analytics::settings::DEFAULT_MEMORY;
use highpress_analytics::tally::Tally;
use highpress_counter::idempotency::Terms;
use highpress_counter::store::embedded::{EmbeddedStore, EventLog, Events};
use highpress_counter::store::{Store, UnixMillis};
use service_kit::{Admin, AdminServer, Drain, Readiness, metrics};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cli::{Settings, Wanted};
use crate::counter_events::CounterEvents;
use crate::ports;

/// A service that is serving.
struct Service {
    grpc: SocketAddr,
    admin: AdminServer,
    readiness: Readiness,
    drain: Drain,
    tasks: Vec<JoinHandle<()>>,
}

/// Both services.
pub(crate) struct Backends {
    counter: Service,
    analytics: Service,
    /// Open until analytics has read the last events.
    store: Arc<dyn Store>,
}

impl Backends {
    /// Opens the data and starts both.
    pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let directory = settings.data.value.join("counter");
        let readiness = Readiness::new();
        let terms = Terms::default();
        let store = EmbeddedStore::open(&directory, Events::On, terms, readiness.clone()).await?;
        let log = store
            .events()
            .context("the store was opened without events")?;
        let store: Arc<dyn Store> = Arc::new(store);
        let counter = start_counter(settings, store.clone(), readiness).await?;
        let analytics =
            start_analytics(settings, &settings.data.value.join("analytics"), log).await?;
        Ok(Self {
            counter,
            analytics,
            store,
        })
    }

    /// Returns once both would answer.
    pub(crate) async fn ready(&self) {
        self.counter.readiness.ready().await;
        self.analytics.readiness.ready().await;
    }

    /// The counter's gRPC address.
    pub(crate) fn counter(&self) -> SocketAddr {
        self.counter.grpc
    }

    /// Analytics' gRPC address.
    pub(crate) fn analytics(&self) -> SocketAddr {
        self.analytics.grpc
    }

    /// All addresses, with the names that the ready line gives them.
    pub(crate) fn addresses(&self) -> [(&'static str, SocketAddr); 4] {
        [
            ("counter", self.counter.grpc),
            ("counter-admin", self.counter.admin.local_address()),
            ("analytics", self.analytics.grpc),
            ("analytics-admin", self.analytics.admin.local_address()),
        ]
    }

    /// Finishes what is in flight: the counter first, so that analytics reads its last events.
    pub(crate) async fn drain(self) -> anyhow::Result<()> {
        let Self {
            counter,
            analytics,
            store,
        } = self;
        counter.drain("counter").await?;
        analytics.drain("analytics").await?;
        drop(store);
        Ok(())
    }
}

impl Service {
    async fn drain(self, name: &'static str) -> anyhow::Result<()> {
        let _draining = self.readiness.guard("drain");
        self.drain.begin();
        for task in self.tasks {
            task.await.with_context(|| format!("{name} failed"))?;
        }
        self.admin.stop().await;
        Ok(())
    }
}

async fn start_counter(
    settings: &Settings,
    store: Arc<dyn Store>,
    readiness: Readiness,
) -> anyhow::Result<Service> {
    use highpress_counter::{App, status};

    let (listener, grpc) = bind("the counter's gRPC", settings.counter).await?;
    let (admin_listener, _) = bind("the counter's admin port", settings.counter_admin).await?;
    let mut registry = metrics::registry(status::SERVICE, status::VERSION);
    let app = App::new(store, &mut registry, readiness.clone())?;
    let told = app.status();
    let admin = Admin::new(
        status::SERVICE,
        status::VERSION,
        registry,
        readiness.clone(),
    )
    .status(move || told.to_json())
    .serve(admin_listener)?;
    let drain = Drain::new();
    let tasks = vec![tokio::spawn(app.serve(
        listener,
        drain.clone(),
        settings.drain_timeout.value,
    ))];
    Ok(Service {
        grpc,
        admin,
        readiness,
        drain,
        tasks,
    })
}

async fn start_analytics(
    settings: &Settings,
    directory: &Path,
    log: EventLog,
) -> anyhow::Result<Service> {
    use highpress_analytics::{App, status};

    let readiness = Readiness::new();
    let (listener, grpc) = bind("analytics' gRPC", settings.analytics).await?;
    let (admin_listener, _) = bind("analytics' admin port", settings.analytics_admin).await?;
    let state = Arc::new(open(directory).await?);
    let mut registry = metrics::registry(status::SERVICE, status::VERSION);
    let app = App::new(state, "embedded", &mut registry, readiness.clone());
    let consumer = app.consume(CounterEvents::new(log));
    let told = app.status();
    let admin = Admin::new(
        status::SERVICE,
        status::VERSION,
        registry,
        readiness.clone(),
    )
    .status(move || told.to_json())
    .serve(admin_listener)?;
    let drain = Drain::new();
    let tasks = vec![
        tokio::spawn(consumer.run(drain.clone())),
        tokio::spawn(serve(
            app,
            listener,
            drain.clone(),
            settings.drain_timeout.value,
        )),
    ];
    Ok(Service {
        grpc,
        admin,
        readiness,
        drain,
        tasks,
    })
}

async fn serve(
    app: highpress_analytics::App,
    listener: TcpListener,
    drain: Drain,
    drain_timeout: Duration,
) {
    if let Err(error) = app.serve(listener, drain, drain_timeout).await {
        tracing::error!("analytics: {error:#}");
    }
}

async fn open(directory: &Path) -> anyhow::Result<Tally> {
    let directory = directory.to_path_buf();
    let now = UnixMillis::now().0.div_euclid(1000);
    let opened =
        tokio::task::spawn_blocking(move || Tally::open(&directory, DEFAULT_MEMORY, now)).await;
    Ok(opened.context("opening the rankings failed")??)
}

async fn bind(what: &'static str, wanted: Wanted) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = ports::bind(what, wanted).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
