//! The composition root: the only file that knows everything.
//!
//! Start: read and compile the configuration, bind every address, publish the first table, open the door. A
//! reload compiles a whole new table and publishes it, or changes nothing. A drain closes the door, lets what is
//! in flight finish within its time, and says how much was cut.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::Timeout;
use mesh_config::{Live, Problems, ReloadHandle, Snapshot, Sources, Status};
use prometheus_client::registry::Registry;
use service_kit::consul::{ConsulMetrics, Registration};
use service_kit::{Admin, AdminServer, Patience, Readiness};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::admin;
use crate::announce::Announce;
use crate::breaks::Broken;
use crate::configure::{self, Process};
use crate::descriptors::{Descriptors, Learning};
use crate::destination::{OpenError, States};
use crate::discovery::{Discovery, DnsMetrics};
use crate::edge::{self, Edge, ListenerOptions, Running};
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;
use crate::route_table::Kept;
use crate::shedding::Shedding;
use crate::state_metrics::StateMetrics;
use crate::system::System;
use crate::upstream::Upstreams;
use crate::worker_table::Published;

/// The name of the service in metrics, pages and Consul.
pub const SERVICE: &str = "high-go-press-gateway";

/// What a gateway is started with.
#[derive(Debug)]
pub struct Options {
    /// Where the configuration comes from.
    pub config: Source,
    /// Instead of the configuration's listeners' addresses, one for each.
    pub listen: Vec<SocketAddr>,
    /// Instead of the configuration's admin address.
    pub admin: Option<SocketAddr>,
    /// Instead of the configuration's number of threads.
    pub threads: Option<usize>,
    /// Where what a hand has set is kept; without it, that ends with the process.
    pub data: Option<PathBuf>,
    /// What Consul is told of this gateway, instead of what the configuration says.
    pub announce: Announce,
    /// How long what is in flight may go on in a drain.
    pub drain: DrainTime,
}

/// How long what is in flight may go on in a drain. Clones are the same.
#[derive(Debug, Clone)]
pub struct DrainTime {
    given: Option<Duration>,
    otherwise: Duration,
    now: Patience,
}

impl DrainTime {
    /// `given` instead of what configurations say, `otherwise` where they say nothing.
    #[must_use]
    pub fn new(given: Option<Duration>, otherwise: Duration) -> Self {
        let now = Patience::from(given.unwrap_or(otherwise));
        Self {
            given,
            otherwise,
            now,
        }
    }

    /// A configuration comes into force.
    pub(crate) fn apply(&self, snapshot: &Snapshot) {
        let written = snapshot.drain_timeout.map(Timeout::get);
        self.now
            .set(self.given.or(written).unwrap_or(self.otherwise));
    }
}

/// Where a configuration comes from.
#[derive(Debug)]
pub enum Source {
    /// A file or a key of Consul, or both, that are watched.
    Watched(Box<Sources>),
    /// A snapshot that stays.
    Fixed(Arc<Snapshot>),
}

impl Source {
    /// A file that is watched.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self::Watched(Box::new(Sources {
            file: Some(path),
            ..Sources::default()
        }))
    }
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has mistakes.
    #[error("{}", mesh_config::problems_text(.0))]
    Config(Problems),
    /// An address cannot be bound.
    #[error("cannot listen on {what}: {source}; is it taken, or not an address of this machine?")]
    Bind {
        /// What was to be bound.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// What was kept cannot be read.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// Worker threads cannot be started, or the like.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// A constant of the program is wrong.
    #[error(transparent)]
    Method(#[from] crate::upstream::MethodError),
}

/// A running gateway.
#[derive(Debug)]
pub struct App {
    /// The addresses of the listeners, as they were really bound.
    pub listeners: Vec<SocketAddr>,
    /// The admin address, as it was really bound.
    pub admin: SocketAddr,
    running: Running,
    admin_server: AdminServer,
    readiness: Readiness,
    draining: watch::Sender<bool>,
    reload: Option<(ReloadHandle, JoinHandle<()>)>,
    registration: Option<Registration>,
    /// Looks at the process until this is dropped.
    _watching: JoinSet<()>,
}

impl App {
    /// Starts a gateway; background work runs on the current runtime, requests on threads of their own.
    ///
    /// # Errors
    /// Every mistake of the configuration, or what could not be bound.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let data = options.data.as_deref();
        let configured = configure::configure(options.config, data, options.admin).await?;
        let (plan, live) = (configured.plan, configured.live);
        let snapshot = plan.snapshot.clone();
        let workers = workers(options.threads.or(snapshot.threads.map(Into::into)));
        let edge = bind(&snapshot, &options.listen)?;
        let readiness = Readiness::new();
        let states = Arc::new(States::open(options.data.as_deref())?);
        let kept = kept(&snapshot, workers, &readiness, states, &edge);
        let system = system(&kept, workers)?;
        let table = plan.activate(&kept);
        let published = Arc::new(Published::new(workers, table, system.clone()));
        let gateway = gateway(&snapshot, published.clone(), &kept);
        let listeners = edge.addresses().to_vec();
        let limits = limits(&snapshot, &options.drain);
        let door = Door {
            edge,
            gateway,
            limits,
        };
        let (running, draining, mut watching) = door.open(workers, &system, &kept)?;
        let mut registry = service_kit::metrics::registry(SERVICE, env!("CARGO_PKG_VERSION"));
        let data = options.data;
        let (discovery, consul_metrics) = discovery(&kept, data.clone(), &mut registry, &readiness);
        let (applier, learning) = (configured.applier, configured.learning);
        let descriptors = descriptors(learning, &kept, data, &consul_metrics, &readiness);
        let (key, states) = (configured.key, &kept.states);
        configure::watch(key, states, &consul_metrics, &readiness, &mut watching).await;
        discovery.apply(&snapshot);
        let address = options.admin.unwrap_or(snapshot.admin.address);
        let openapi = snapshot.admin.openapi.then(|| listeners.clone());
        let about = (live, descriptors.clone(), openapi, applier.broken.clone());
        let admin = pages(&kept, &published, about, &running, registry, &readiness);
        let admin_server = serve_admin(admin, address).await?;
        descriptors.apply(&snapshot);
        first_answers(&discovery, &kept).await;
        let process = Process::new(options.announce, options.drain);
        let announcer = process.announcer.clone();
        applier.apply_to((kept, process), discovery, descriptors.clone(), published);
        let reload = configured.reloader.map(|start| start());
        descriptors.first().await;
        let admin = admin_server.local_address();
        let bound = (&*listeners, admin);
        let registration = announcer.register(&snapshot, bound, &readiness, &consul_metrics);
        Ok(Self {
            listeners,
            admin,
            running,
            admin_server,
            readiness,
            draining,
            reload,
            registration,
            _watching: watching,
        })
    }

    /// Asks for a reload of the configuration file, as SIGHUP does.
    pub fn reload(&self) {
        if let Some((handle, _)) = &self.reload {
            handle.reload();
        }
    }

    /// Closes the door, lets what is in flight finish within the drain's time, and stops. Says how many
    /// connections were cut.
    pub async fn drain(self) -> usize {
        if let Some((_, task)) = &self.reload {
            task.abort();
        }
        let _draining = self
            .readiness
            .guard("the drain: this gateway is going away");
        let mut registration = self.registration;
        if let Some(registration) = &mut registration {
            registration.out_of_traffic().await;
        }
        self.draining.send_replace(true);
        let cut = self.running.drained().await;
        if let Some(registration) = registration {
            registration.leave().await;
        }
        self.admin_server.stop().await;
        cut
    }
}

/// The listeners, before anybody may come in.
struct Door {
    edge: Edge,
    gateway: Gateway,
    limits: edge::EdgeLimits,
}

type Opened = (Running, watch::Sender<bool>, JoinSet<()>);

impl Door {
    /// Lets clients in, and watches how much there is to do.
    fn open(self, workers: usize, system: &System, kept: &Kept) -> std::io::Result<Opened> {
        let (draining, drain) = watch::channel(false);
        let most = self.limits.connections;
        let gateway = Arc::new(self.gateway);
        let running = self.edge.start(gateway, workers, self.limits, drain)?;
        system.opened(running.stats());
        kept.upstreams.set_threads(running.runtimes());
        let mut watching = JoinSet::new();
        watching.spawn(kept.shedding.clone().watch(running.stats(), most));
        Ok((running, draining, watching))
    }
}

/// The pages of the gateway's own.
fn system(kept: &Kept, workers: usize) -> Result<Arc<System>, StartError> {
    let (upstreams, metrics) = (kept.upstreams.clone(), kept.metrics.clone());
    Ok(Arc::new(System::new(upstreams, metrics, workers)?))
}

/// Who learns descriptors, from nobody yet.
fn descriptors(
    learning: Option<Learning>,
    kept: &Kept,
    data: Option<PathBuf>,
    metrics: &ConsulMetrics,
    readiness: &Readiness,
) -> Arc<Descriptors> {
    Descriptors::new(learning, &kept.upstreams, data, (metrics, readiness))
}

/// Waits a moment for endpoints, and for what their checks say.
async fn first_answers(discovery: &Discovery, kept: &Kept) {
    discovery.first_endpoints().await;
    kept.upstreams.first_checks().await;
}

/// Who follows the endpoints of clusters, nobody's yet, and what measures how Consul is doing.
fn discovery(
    kept: &Kept,
    data: Option<PathBuf>,
    registry: &mut Registry,
    readiness: &Readiness,
) -> (Discovery, ConsulMetrics) {
    let consul = ConsulMetrics::register(registry);
    let dns = DnsMetrics::register(registry);
    let discovery = Discovery::new(
        &kept.upstreams,
        &kept.entries,
        data,
        &consul,
        &dns,
        readiness,
    );
    (discovery, consul)
}

/// What pages tell beside the state of the gateway: the configuration, descriptors, where the API's page sends requests, and what
/// versions have broken.
type About = (
    Live<Status>,
    Arc<Descriptors>,
    Option<Vec<SocketAddr>>,
    Broken,
);

/// What metrics and pages show.
fn pages(
    kept: &Kept,
    published: &Arc<Published>,
    (live, descriptors, openapi, broken): About,
    running: &Running,
    mut registry: Registry,
    readiness: &Readiness,
) -> Admin {
    registry.register_collector(Box::new(kept.metrics.clone()));
    registry.register_collector(Box::new(StateMetrics {
        upstreams: kept.upstreams.clone(),
        entries: kept.entries.clone(),
        config: live.clone(),
        published: published.clone(),
        states: kept.states.clone(),
        edge: running.stats(),
        limits: kept.limits.clone(),
        shedding: kept.shedding.clone(),
    }));
    registry.register_collector(Box::new(kept.mirrors.clone()));
    let pages = admin::Pages {
        upstreams: kept.upstreams.clone(),
        entries: kept.entries.clone(),
        states: kept.states.clone(),
        mirrors: kept.mirrors.clone(),
        published: published.clone(),
        config: live,
        openapi,
        broken,
        descriptors,
        limits: kept.limits.clone(),
        shedding: kept.shedding.clone(),
    };
    let admin = Admin::new(
        SERVICE,
        env!("CARGO_PKG_VERSION"),
        registry,
        readiness.clone(),
    );
    pages.add_to(admin)
}

/// What outlives every table, with nothing learnt yet.
fn kept(
    snapshot: &Snapshot,
    workers: usize,
    readiness: &Readiness,
    states: Arc<States>,
    edge: &Edge,
) -> Kept {
    let upstreams = Upstreams::of_gateway(workers, Handle::current(), identity(edge));
    Kept {
        upstreams: Arc::new(upstreams),
        metrics: Arc::new(Metrics::new(workers)),
        entries: Arc::default(),
        states,
        mirrors: Arc::default(),
        limits: Arc::new(RateLimits::new(Handle::current(), readiness.clone())),
        shedding: Arc::new(Shedding::new(&snapshot.overload)),
    }
}

/// Who this gateway is among others: the same after a restart, another one on each machine and port.
fn identity(edge: &Edge) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let first = edge.addresses().first();
    first.map_or_else(|| host.to_owned(), |first| format!("{host}/{first}"))
}

/// As many workers as are asked for, or as the process may run on.
fn workers(asked: Option<usize>) -> usize {
    asked
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
        .max(1)
}

fn bind(snapshot: &Snapshot, instead: &[SocketAddr]) -> Result<Edge, StartError> {
    let mut listeners = Vec::new();
    for (index, listener) in snapshot.listeners.iter().enumerate() {
        let address = instead.get(index).copied().unwrap_or(listener.address);
        listeners.push(ListenerOptions {
            address,
            protocols: edge::Protocols {
                http1: listener.protocols.http1,
                h2c: listener.protocols.h2c,
            },
        });
    }
    let what = listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    Edge::bind(&listeners).map_err(|source| StartError::Bind { what, source })
}

/// What the edge talks to.
fn gateway(snapshot: &Snapshot, published: Arc<Published>, kept: &Kept) -> Gateway {
    let first = snapshot.listeners.first();
    let limits = first.map(|listener| listener.limits).unwrap_or_default();
    let max_body = limits.max_body.get() as u64;
    Gateway::new(published, kept.shedding.clone(), &kept.metrics, max_body)
}

fn limits(snapshot: &Snapshot, drain: &DrainTime) -> edge::EdgeLimits {
    drain.apply(snapshot);
    let of = snapshot
        .listeners
        .first()
        .map(|listener| listener.limits)
        .unwrap_or_default();
    edge::EdgeLimits {
        connections: of.max_connections.get(),
        header_bytes: of.max_header_bytes.get(),
        header_count: of.max_headers.get(),
        uri_bytes: of.max_uri.get(),
        header_timeout: of.header_timeout.get(),
        body_timeout: of.body_timeout.get(),
        idle_timeout: of.idle_timeout.get(),
        write_timeout: of.write_timeout.get(),
        streams: u32::try_from(of.max_streams.get()).unwrap_or(u32::MAX),
        drain_timeout: drain.now.clone(),
        ..edge::EdgeLimits::default()
    }
}

async fn serve_admin(admin: Admin, address: SocketAddr) -> Result<AdminServer, StartError> {
    let bound = admin.bind(address).await;
    bound.map_err(|source| cannot_bind(address, source))
}

pub(crate) fn cannot_bind(admin: SocketAddr, source: std::io::Error) -> StartError {
    StartError::Bind {
        what: format!("{admin} (admin)"),
        source,
    }
}
