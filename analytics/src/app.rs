//! The composition root: a state, perhaps a source, a gRPC port, an admin port, put together and taken down in order.
//!
//! [`App`] is the service over a state, for a process that holds the whole mesh too; [`run`] is the program
//! `highpress-analytics` around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use service_kit::consul::{ConsulMetrics, Instance, Registration};
use service_kit::metrics::GrpcMetrics;
use service_kit::{Admin, Drain, Readiness, program, shutdown};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::consumer::{Consumer, Feed};
use crate::dispatch::Dispatch;
use crate::exact::ExactState;
use crate::metrics::{Metrics, StatusCollector};
use crate::service::{ANALYTICS_SERVICE, Service};
use crate::settings::Settings;
use crate::source::Source;
use crate::state::State;
use crate::status::{SERVICE, ServiceStatus, VERSION};

/// The service's name in Consul.
const CONSUL_SERVICE: &str = "high-go-press-analytics";

/// The program's name.
pub const PROGRAM: &str = "highpress-analytics";

const MAX_STREAMS: u32 = 4096;
/// HTTP/2 pings find out that a peer hangs, so that a watch does not outlive its client for long.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The analytics service over a state.
pub struct App {
    status: Arc<ServiceStatus>,
    state: Arc<dyn State>,
    metrics: Metrics,
    grpc: GrpcMetrics,
    readiness: Readiness,
    applied: watch::Sender<u64>,
}

impl App {
    /// Registers the service's metrics and puts it together. `store` says in `/status` where the state is kept.
    pub fn new(
        state: Arc<dyn State>,
        store: &'static str,
        registry: &mut Registry,
        readiness: Readiness,
    ) -> Self {
        let status = Arc::new(ServiceStatus::new(state.clone(), store, readiness.clone()));
        let metrics = Metrics::register(registry);
        let grpc = GrpcMetrics::register(registry);
        registry.register_collector(Box::new(StatusCollector(status.clone())));
        Self {
            status,
            state,
            metrics,
            grpc,
            readiness,
            applied: watch::Sender::new(0),
        }
    }

    /// What `/status` and `GetStatus` tell.
    pub fn status(&self) -> Arc<ServiceStatus> {
        self.status.clone()
    }

    /// Feeds the state from a source: spawn what it returns' `run`.
    pub fn consume<S: Source>(&self, source: S) -> Consumer<S> {
        self.status.set_source(source.name(), source.head());
        let feed = Feed {
            state: self.state.clone(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            applied: self.applied.clone(),
        };
        Consumer::new(source, feed)
    }

    /// Serves on a bound listener until `drain` begins; calls in flight then have `drain_timeout` to finish.
    pub async fn serve(
        self,
        listener: TcpListener,
        drain: Drain,
        drain_timeout: Duration,
    ) -> anyhow::Result<()> {
        let health = HealthReporter::new();
        let service = Service {
            status: self.status,
            metrics: self.metrics,
            grpc: self.grpc,
            applied: self.applied.subscribe(),
            drain: drain.clone(),
        };
        let dispatch = Dispatch::new(service, HealthService::from_health_reporter(health.clone()))
            .context("the built-in descriptor set cannot be served by reflection")?;
        let connections = TcpListenerStream::new(listener).map(|accepted| {
            accepted.inspect(|stream| {
                // Only latency is lost without it.
                let _ = stream.set_nodelay(true);
            })
        });
        let begun = {
            let drain = drain.clone();
            async move { drain.begun().await }
        };
        let server = Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .serve_with_incoming_shutdown(dispatch, connections, begun);
        let deadline = async {
            drain.begun().await;
            tokio::time::sleep(drain_timeout).await;
        };
        tokio::select! {
            served = server => served.context("the gRPC server failed"),
            () = report_health(health, self.readiness) => Ok(()),
            () = deadline => {
                tracing::warn!("drain deadline passed: closing connections with calls in flight");
                Ok(())
            }
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
        health.set_service_status(ANALYTICS_SERVICE, status).await;
        // The sender lives in `readiness`, so this cannot fail.
        let _ = ready.changed().await;
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
    let state = open(&settings)?;
    let app = App::new(state, "embedded", &mut registry, readiness.clone());
    let status = app.status();
    let consul_metrics = ConsulMetrics::register(&mut registry);
    let admin = Admin::new(SERVICE, VERSION, registry, readiness.clone())
        .status(move || status.to_json())
        .bind(settings.admin)
        .await
        .with_context(|| format!("--admin: cannot listen on {}", settings.admin))?;
    tracing::warn!("no source of events: serving what is stored, counting nothing new");

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
    serving.await.context("the gRPC server failed")??;
    if let Some(registration) = registration {
        registration.leave().await;
    }
    admin.stop().await;
    Ok(())
}

/// Opens the state that the settings name.
pub fn open(settings: &Settings) -> anyhow::Result<Arc<dyn State>> {
    Ok(Arc::new(
        ExactState::open(&settings.data).context("--data")?,
    ))
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{flag}: cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
