//! The composition root: a state, perhaps a source, a gRPC port, an admin port, put together and taken down in order.
//!
//! [`App`] is the service over a state, for a process that holds the whole mesh too; [`run`] is the program
//! `highpress-analytics` around it.

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
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::consumer::{Consumer, Feed};
use crate::dispatch::Dispatch;
use crate::kafka::KafkaSource;
use crate::metrics::{Metrics, StatusCollector};
use crate::peers::Peers;
use crate::service::{ANALYTICS_SERVICE, Service};
use crate::settings::{Arguments, CATALOGUE, Settings};
use crate::source::Source;
use crate::status::{ServiceStatus, unix_seconds};
use crate::tally::Tally;

/// The settings of its own that change while the program runs.
const LIVE: &[&str] = &["peers"];

/// The program's name.
pub const PROGRAM: &str = "highpress-analytics";

const MAX_STREAMS: u32 = 4096;
/// HTTP/2 pings find out that a peer hangs, so that a watch does not outlive its client for long.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const FED_INTERVAL: Duration = Duration::from_millis(100);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The analytics service over a state.
pub struct App {
    status: Arc<ServiceStatus>,
    tally: Arc<Tally>,
    metrics: Metrics,
    grpc: GrpcMetrics,
    readiness: Readiness,
    /// Whether there is anything to answer from, however old: what balancers are told.
    serving: Readiness,
    peers: Peers,
    applied: watch::Sender<u64>,
}

impl App {
    /// Registers the service's metrics and puts it together. `store` says in `/status` where the state is kept.
    pub fn new(
        tally: Arc<Tally>,
        store: &'static str,
        registry: &mut Registry,
        readiness: Readiness,
    ) -> Self {
        let status = Arc::new(ServiceStatus::new(tally.clone(), store, readiness.clone()));
        let metrics = Metrics::register(registry);
        let grpc = GrpcMetrics::register(registry);
        registry.register_collector(Box::new(StatusCollector(status.clone())));
        Self {
            status,
            tally,
            metrics,
            grpc,
            readiness,
            serving: Readiness::new(),
            peers: Peers::none(),
            applied: watch::Sender::new(0),
        }
    }

    /// What `/status` and `GetStatus` tell.
    pub fn status(&self) -> Arc<ServiceStatus> {
        self.status.clone()
    }

    /// Whether there is anything to answer from: unlike readiness it does not end when events are away.
    pub fn serving(&self) -> Readiness {
        self.serving.clone()
    }

    /// Asks these for their shares of every answer.
    #[must_use]
    pub fn with_peers(mut self, peers: Peers) -> Self {
        self.peers = peers;
        self
    }

    /// Feeds the state from a source: spawn what it returns' `run`.
    pub fn consume<S: Source>(&self, source: S) -> Consumer<S> {
        self.status.set_source(source.name(), source.head());
        // At once, so that nobody who asks early is told that nothing has been read yet.
        if let Err(error) = self.tally.assign(source.fixed(), unix_seconds()) {
            tracing::error!(%error, "the stored state cannot be read");
        }
        let feed = Feed {
            tally: self.tally.clone(),
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
        drain_timeout: impl Into<Patience>,
    ) -> anyhow::Result<()> {
        let drain_timeout = drain_timeout.into();
        let health = HealthReporter::new();
        let service = Service {
            status: self.status,
            metrics: self.metrics,
            grpc: self.grpc,
            peers: self.peers,
            applied: self.applied.subscribe(),
            drain: drain.clone(),
        };
        let dispatch = Dispatch::new(service, &health)
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
            tokio::time::sleep(drain_timeout.get()).await;
        };
        tokio::select! {
            served = server => served.context("the gRPC server failed"),
            () = report_health(health, self.serving.clone(), ANALYTICS_SERVICE) => Ok(()),
            () = serve_when_fed(self.serving, self.readiness, self.tally) => Ok(()),
            () = deadline => {
                tracing::warn!("drain deadline passed: closing connections with calls in flight");
                Ok(())
            }
        }
    }
}

/// Holds back until there is something to answer from: until it is ready, or something is stored.
async fn serve_when_fed(serving: Readiness, readiness: Readiness, tally: Arc<Tally>) {
    let waiting = serving.guard("the first events");
    let fed = async {
        while tally.positions().iter().next().is_none() {
            tokio::time::sleep(FED_INTERVAL).await;
        }
    };
    tokio::select! {
        () = readiness.ready() => {}
        () = fed => {}
    }
    drop(waiting);
    std::future::pending().await
}

/// Runs the program until it is told to end and has drained.
///
/// # Errors
/// If an address cannot be bound, or the state cannot be opened.
pub async fn run(settings: Settings, origins: Origins<Settings>) -> anyhow::Result<()> {
    let (mut frame, listener) = Frame::begin(Arguments::NAMES, settings.listen).await?;
    let tally = open(&settings)?;
    let (told, listed) = watch::channel(settings.peers.clone());
    let peers = Peers::new(peers(&settings, listed));
    let readiness = frame.readiness.clone();
    let app = App::new(tally, "embedded", &mut frame.registry, readiness).with_peers(peers);
    let (status, vitals) = (app.status(), app.serving());
    let live = frame.follow(&settings, origins, LIVE, move |settings: &Settings| {
        told.send_replace(settings.peers.clone());
    })?;
    let pages = move |admin: Admin, told: SettingsHandle| {
        admin.status(move || centre::with_status(status.to_json(), &told))
    };
    let mut standing = frame.stand(settings.admin, live, pages).await?;
    let consuming = consume(&app, &settings, &standing.drain)?;
    let (drain, patience) = (standing.drain.clone(), standing.drain_timeout());
    let serving = tokio::spawn(app.serve(listener, drain, patience));
    standing.register(vitals.clone());
    // Its state may be old for long, and is served all the same.
    standing.ready(Duration::ZERO).await;

    standing.asked().await;
    let _draining = vitals.guard("drain");
    standing.close_door().await;
    serving.await.context("the gRPC server failed")??;
    if let Some(consuming) = consuming {
        consuming.await.context("the consumer failed")?;
    }
    standing.end().await;
    Ok(())
}

/// Begins to read events, if there is a source of them.
fn consume(
    app: &App,
    settings: &Settings,
    drain: &Drain,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(source) = &settings.source else {
        tracing::warn!("no source of events: serving what is stored, counting nothing new");
        return Ok(None);
    };
    let source = KafkaSource::new(source.clone()).context("--source")?;
    let consumer = app.consume(source);
    Ok(Some(tokio::spawn(consumer.run(drain.clone()))))
}

/// Who the other instances are: told by Consul, and by the settings, which may change.
fn peers(
    settings: &Settings,
    mut listed: watch::Receiver<Vec<String>>,
) -> watch::Receiver<Vec<String>> {
    let Some(consul) = &settings.common.consul else {
        return listed;
    };
    let mut found = service_kit::consul::follow(consul, CATALOGUE);
    let (sender, receiver) = watch::channel(settings.peers.clone());
    tokio::spawn(async move {
        loop {
            let mut all = listed.borrow_and_update().clone();
            all.extend(found.borrow_and_update().iter().cloned());
            sender.send_replace(all);
            let changed = tokio::select! {
                changed = found.changed() => changed,
                changed = listed.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Opens the state that the settings name.
pub fn open(settings: &Settings) -> anyhow::Result<Arc<Tally>> {
    let tally = Tally::open(&settings.data, settings.memory, unix_seconds());
    Ok(Arc::new(tally.context("--data")?))
}
