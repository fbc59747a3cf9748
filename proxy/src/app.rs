//! The composition root: the only file that knows everything.
//!
//! Start: read and compile the configuration, bind every address, publish the first table, open the door. A
//! reload compiles a whole new table and publishes it, or changes nothing. A drain closes the door, lets what is
//! in flight finish within its time, and says how much was cut.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_config::{Live, Problems, ReloadHandle, Reloader, Snapshot, Status};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use service_kit::consul::{Advertise, ConsulMetrics, ConsulSettings, Instance, Registration};
use service_kit::{Admin, AdminServer, Readiness};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::admin;
use crate::destination::{OpenError, States};
use crate::discovery::Discovery;
use crate::edge::{self, Edge, ListenerOptions, Running};
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;
use crate::route_table::{self, Kept, Plan};
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
    /// Where clients reach this gateway, as Consul is told, instead of the first listener's address.
    pub advertise: Option<Advertise>,
    /// How long what is in flight may go on in a drain.
    pub drain: Duration,
}

/// Where a configuration comes from.
#[derive(Debug)]
pub enum Source {
    /// A file that is watched.
    File(PathBuf),
    /// A snapshot that stays.
    Fixed(Arc<Snapshot>),
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

/// Compiles snapshots and makes them live: all of one, or nothing.
#[derive(Default)]
struct Applier {
    /// The first plan, until there is something to apply it to.
    first: Mutex<Option<Plan>>,
    parts: OnceLock<Parts>,
}

/// What a plan is applied to.
struct Parts {
    kept: Kept,
    discovery: Discovery,
    published: Arc<Published>,
}

impl Applier {
    fn apply(&self, snapshot: &Arc<Snapshot>) -> Result<(), Problems> {
        let plan = route_table::compile(snapshot)?;
        match self.parts.get() {
            Some(parts) => {
                parts.published.publish(plan.activate(&parts.kept));
                parts.discovery.apply(snapshot);
            }
            None => *self.first.lock() = Some(plan),
        }
        Ok(())
    }
}

/// Starts to reload, when there is something to apply versions to.
type StartReloads = Box<dyn FnOnce() -> (ReloadHandle, JoinHandle<()>)>;

/// A configuration that has been read and compiled, and what keeps it in force.
struct Configured {
    plan: Plan,
    live: Live<Status>,
    applier: Arc<Applier>,
    reloader: Option<StartReloads>,
}

fn configure(source: Source) -> Result<Configured, Problems> {
    let applier = Arc::new(Applier::default());
    let (live, reloader) = match source {
        Source::File(path) => {
            let apply = applier.clone();
            let (reloader, live) =
                Reloader::start(path, move |snapshot: &Arc<Snapshot>| apply.apply(snapshot))?;
            let start = move || {
                (
                    reloader.handle(),
                    tokio::spawn(async move {
                        let _: std::convert::Infallible = reloader.run().await;
                    }),
                )
            };
            (live, Some(Box::new(start) as Box<_>))
        }
        Source::Fixed(snapshot) => {
            applier.apply(&snapshot)?;
            (Status::fixed(&snapshot), None)
        }
    };
    let first = applier.first.lock().take();
    let plan = first.map_or_else(|| route_table::compile(&live.load().snapshot), Ok)?;
    Ok(Configured {
        plan,
        live,
        applier,
        reloader,
    })
}

impl App {
    /// Starts a gateway; background work runs on the current runtime, requests on threads of their own.
    ///
    /// # Errors
    /// Every mistake of the configuration, or what could not be bound.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let configured = configure(options.config).map_err(StartError::Config)?;
        let (plan, live) = (configured.plan, configured.live);
        let snapshot = plan.snapshot.clone();
        let workers = workers(options.threads.or(snapshot.threads.map(Into::into)));
        let edge = bind(&snapshot, &options.listen)?;
        let readiness = Readiness::new();
        let states = Arc::new(States::open(options.data.as_deref())?);
        let kept = kept(&snapshot, workers, &readiness, states);
        let (upstreams, metrics) = (kept.upstreams.clone(), kept.metrics.clone());
        let system = Arc::new(System::new(upstreams, metrics.clone(), workers)?);
        let table = plan.activate(&kept);
        let published = Arc::new(Published::new(workers, table, system.clone()));
        let gateway = gateway(&snapshot, published.clone(), &kept);
        let listeners = edge.addresses().to_vec();
        let (draining, drain) = watch::channel(false);
        let limits = limits(&snapshot, options.drain);
        let most = limits.connections;
        let running = edge.start(Arc::new(gateway), workers, limits, drain)?;
        system.opened(running.stats());
        let mut watching = JoinSet::new();
        watching.spawn(kept.shedding.clone().watch(running.stats(), most));
        let mut registry = service_kit::metrics::registry(SERVICE, env!("CARGO_PKG_VERSION"));
        let consul_metrics = ConsulMetrics::register(&mut registry);
        let discovery = Discovery::new(&kept.upstreams, options.data, &consul_metrics, &readiness);
        discovery.apply(&snapshot);
        let admin_address = options.admin.unwrap_or(snapshot.admin.address);
        let admin = pages(
            &kept,
            &published,
            live,
            &running,
            registry,
            readiness.clone(),
        );
        let admin_server = serve_admin(admin, admin_address).await?;
        discovery.first_endpoints().await;
        let parts = Parts {
            kept,
            discovery,
            published,
        };
        // A second set is impossible: the applier was made above.
        let _ = configured.applier.parts.set(parts);
        let reload = configured.reloader.map(|start| start());
        let admin = admin_server.local_address();
        let registration = consul_settings(&snapshot, options.advertise)
            .zip(instance(&listeners, admin))
            .map(|(to, what)| Registration::start(&to, what, readiness.clone(), &consul_metrics));
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

/// What metrics and pages show.
fn pages(
    kept: &Kept,
    published: &Arc<Published>,
    live: Live<Status>,
    running: &Running,
    mut registry: Registry,
    readiness: Readiness,
) -> Admin {
    registry.register_collector(Box::new(kept.metrics.clone()));
    registry.register_collector(Box::new(StateMetrics {
        upstreams: kept.upstreams.clone(),
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
        states: kept.states.clone(),
        mirrors: kept.mirrors.clone(),
        published: published.clone(),
        config: live,
        limits: kept.limits.clone(),
        shedding: kept.shedding.clone(),
    };
    let admin = Admin::new(SERVICE, env!("CARGO_PKG_VERSION"), registry, readiness);
    pages.add_to(admin)
}

/// What outlives every table, with nothing learnt yet.
fn kept(snapshot: &Snapshot, workers: usize, readiness: &Readiness, states: Arc<States>) -> Kept {
    Kept {
        upstreams: Arc::new(Upstreams::new(workers, Handle::current())),
        metrics: Arc::new(Metrics::new(workers)),
        states,
        mirrors: Arc::default(),
        limits: Arc::new(RateLimits::new(Handle::current(), readiness.clone())),
        shedding: Arc::new(Shedding::new(&snapshot.overload)),
    }
}

/// What is registered in Consul.
fn instance(listeners: &[SocketAddr], admin: SocketAddr) -> Option<Instance<'static>> {
    Some(Instance {
        service: SERVICE,
        version: env!("CARGO_PKG_VERSION"),
        serves: *listeners.first()?,
        admin,
    })
}

/// What Consul is to be told of the gateway; `None`: there is no Consul.
fn consul_settings(snapshot: &Snapshot, advertise: Option<Advertise>) -> Option<ConsulSettings> {
    Some(ConsulSettings {
        client: snapshot.consul.as_ref()?.client()?,
        advertise,
        tags: Vec::new(),
        weight: NonZeroU32::MIN,
    })
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

fn limits(snapshot: &Snapshot, drain: Duration) -> edge::EdgeLimits {
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
        drain_timeout: drain,
        ..edge::EdgeLimits::default()
    }
}

async fn serve_admin(admin: Admin, address: SocketAddr) -> Result<AdminServer, StartError> {
    let bound = admin.bind(address).await;
    bound.map_err(|source| StartError::Bind {
        what: format!("{address} (admin)"),
        source,
    })
}
