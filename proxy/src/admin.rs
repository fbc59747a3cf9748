//! The gateway's pages on the admin port, JSON for scripts and HTML for people from the same values.

mod page;

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_config::{Live, Status};
use serde_json::{Map, Value, json};
use service_kit::{Admin, RequestView, Response};

use crate::breaks::Broken;
use crate::descriptors::Descriptors;
use crate::destination::{States, SwitchError};
use crate::entries::{Entries, Report};
use crate::explain::{self, Question};
use crate::mirror::Mirrors;
use crate::openapi;
use crate::rate_limit::RateLimits;
use crate::route_table::{Row, Target};
use crate::shedding::Shedding;
use crate::upstream::{CheckView, ClusterView, ConcurrencyView, EndpointView, Upstreams};
use crate::worker_table::Published;

/// What the pages show.
#[derive(Debug)]
pub struct Pages {
    /// The clusters.
    pub upstreams: Arc<Upstreams>,
    /// What Consul's config entries make of the clusters.
    pub(crate) entries: Arc<Entries>,
    /// What is known of the routes' destinations.
    pub(crate) states: Arc<States>,
    /// What mirrors have found out.
    pub(crate) mirrors: Arc<Mirrors>,
    /// The live table.
    pub published: Arc<Published>,
    /// The configuration in force.
    pub config: Live<Status>,
    /// Where clients connect, for the page that tries requests out; `None`: there is none.
    pub(crate) openapi: Option<Vec<SocketAddr>>,
    /// What versions have broken for their callers.
    pub(crate) broken: Broken,
    /// Where descriptors are learnt.
    pub(crate) descriptors: Arc<Descriptors>,
    /// The rate limits of the routes.
    pub limits: Arc<RateLimits>,
    /// Who is turned away under overload.
    pub shedding: Arc<Shedding>,
}

impl Pages {
    /// Adds the pages to those that every program has.
    pub fn add_to(self, admin: Admin) -> Admin {
        let pages = Arc::new(self);
        let on = |what: fn(&Pages) -> Value, title: &'static str| {
            let pages = pages.clone();
            move |request: &RequestView<'_>| shown(request, title, &what(&pages))
        };
        let (explaining, switching) = (pages.clone(), pages.clone());
        let admin = openapi::add_to(admin, &pages);
        admin
            .page("/", on(Pages::overview, "highpress gateway"))
            .page("/clusters", on(Pages::clusters, "clusters"))
            .page("/routes", on(Pages::routes, "routes"))
            .page("/config", on(Pages::config, "configuration"))
            .page("/descriptors", on(Pages::descriptors, "descriptors"))
            .page("/mirrors", on(|pages| pages.mirrors.json(), "mirrors"))
            .page("/explain", move |request| explaining.explain(request))
            .page("/switch", on(Pages::switches, "switches"))
            .action("/switch", move |asked| {
                let pages = switching.clone();
                async move { pages.switch(&asked).await }
            })
            .status(on_status(pages))
    }

    fn overview(&self) -> Value {
        let clusters: Vec<Value> = self
            .upstreams
            .all()
            .iter()
            .map(|cluster| summary(&cluster.view()))
            .collect();
        let status = self.config.load();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "configuration": status.snapshot.version,
            "rejected": status.rejected.is_some(),
            "api": self.openapi.as_ref().map(|_| "/openapi"),
            "clusters": clusters,
        })
    }

    fn clusters(&self) -> Value {
        self.upstreams
            .all()
            .iter()
            .map(|cluster| {
                let mut shown = cluster_json(&cluster.view());
                if let Some(report) = self.entries.report(cluster.name()) {
                    shown["config_entries"] = entries_json(&report);
                }
                shown
            })
            .collect()
    }

    fn routes(&self) -> Value {
        self.published.load(0).rows().iter().map(row_json).collect()
    }

    fn stores(&self) -> Vec<Value> {
        let stores = self.limits.stores().into_iter();
        stores
            .map(|view| json!({ "store": view.store, "up": view.up }))
            .collect()
    }

    fn config(&self) -> Value {
        let mut shown = self.config.load().json();
        shown["switches"] = self.switches();
        shown["breaking_changes"] = self.broken.json();
        shown
    }

    fn descriptors(&self) -> Value {
        self.descriptors.json(&self.config.load().snapshot)
    }

    /// Every switch by hand, and whether it holds.
    fn switches(&self) -> Value {
        let switches = self.states.list(&self.published.load(0));
        let shown = switches.iter().map(|listed| {
            json!({
                "route": listed.route, "cluster": listed.switched.cluster, "since": listed.switched.since,
                "holds": listed.without_effect.is_none(), "why_not": listed.without_effect,
            })
        });
        shown.collect()
    }

    /// `{"route": "...", "cluster": "..."}` switches, `{"route": "...", "cluster": null}` undoes it.
    async fn switch(&self, asked: &Value) -> Response {
        let table = self.published.load(0);
        let done = match (asked["route"].as_str(), asked.get("cluster")) {
            (Some(route), Some(Value::String(cluster))) => {
                self.states.switch(&table, route, cluster).await
            }
            (Some(route), Some(Value::Null)) => self.states.back(&table, route).await,
            _ => {
                let why = "give `route`, and `cluster`, which is a name or null";
                return Response::json(&json!({ "error": why })).with_status(400);
            }
        };
        let status = match &done {
            Ok(()) => return Response::json(&self.switches()),
            Err(SwitchError::UnknownRoute { .. } | SwitchError::UnknownCluster { .. }) => 404,
            Err(SwitchError::NotSwitched(_)) => 409,
            Err(SwitchError::Kept { .. } | SwitchError::Shared { .. }) => 500,
        };
        let why = done.err().map(|error| error.to_string());
        Response::json(&json!({ "error": why })).with_status(status)
    }

    fn explain(&self, request: &RequestView<'_>) -> Response {
        match Question::from_query(request.query.unwrap_or_default()) {
            Ok(question) => {
                let clusters: Vec<ClusterView> = self
                    .upstreams
                    .all()
                    .iter()
                    .map(|cluster| cluster.view())
                    .collect();
                let live = explain::Live {
                    clusters: &clusters,
                    table: &self.published.load(0),
                };
                let switches = self.states.switches();
                match explain::live(&self.config.load().snapshot, &question, live, switches) {
                    Ok(text) => Response::text(text + &self.shedding.in_words()),
                    Err(problems) => Response::text(problems.to_string()).with_status(500),
                }
            }
            Err(why) => Response::text(format!("{why}\n")).with_status(400),
        }
    }
}

fn on_status(pages: Arc<Pages>) -> impl Fn() -> Value + Send + Sync + 'static {
    move || {
        json!({
            "configuration": pages.config.load().snapshot.version,
            "overload": pages.shedding.json(),
            "rate_limit_stores": pages.stores(),
        })
    }
}

fn shown(request: &RequestView<'_>, title: &str, value: &Value) -> Response {
    if request.wants_json() {
        Response::json(value)
    } else {
        Response::html(page::page(title, value))
    }
}

fn summary(view: &ClusterView) -> Value {
    let usable = view
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.usable)
        .count();
    json!({ "name": &*view.name, "policy": view.policy, "usable": usable, "endpoints": view.endpoints.len() })
}

/// A cluster as the contract's `/clusters` has it.
fn cluster_json(view: &ClusterView) -> Value {
    let endpoints: Vec<Value> = view.endpoints.iter().map(endpoint_json).collect();
    json!({
        "name": &*view.name, "policy": view.policy, "panic": view.panic,
        "retry_budget_left": view.retry_budget_left, "concurrency": concurrency_json(&view.concurrency),
        "gateway": view.place.as_ref().map(|place| json!({ "node": place.node, "zone": place.zone })),
        "endpoints": endpoints,
    })
}

/// What Consul's config entries make of a cluster.
fn entries_json(report: &Report) -> Value {
    json!({
        "in_force": report.in_force, "problems": report.problems, "not_supported": report.unsupported,
    })
}

fn endpoint_json(endpoint: &EndpointView) -> Value {
    let labels = &endpoint.labels;
    let metadata = labels.metadata.iter();
    let metadata: Map<String, Value> = metadata
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    json!({
        "address": &*endpoint.address, "weight": endpoint.weight,
        "effective_weight": (endpoint.effective_weight * 1000.0).round() / 1000.0, "usable": endpoint.usable,
        "reasons": endpoint.reasons, "breaker": endpoint.breaker,
        "breaker_reason": endpoint.breaker_reason, "in_flight": endpoint.in_flight,
        "ewma_ms": (endpoint.ewma_ms * 1000.0).round() / 1000.0,
        "connections": endpoint.connections, "streams": endpoint.streams,
        "check": endpoint.check.as_ref().map(check_json),
        "node": labels.node, "zone": labels.zone, "datacenter": labels.datacenter,
        "tags": labels.tags, "metadata": metadata, "priority": labels.priority,
    })
}

fn check_json(view: &CheckView) -> Value {
    json!({ "state": view.state, "latest": view.latest, "against": view.against })
}

fn concurrency_json(view: &ConcurrencyView) -> Value {
    let idle = view.idle_latency.map(|idle| idle.as_secs_f64() * 1000.0);
    json!({
        "limit": view.limit, "adaptive": view.adaptive, "idle_latency_ms": idle,
        "in_flight": view.in_flight, "waiting": view.waiting, "refused": view.refused,
    })
}

fn row_json(row: &Row) -> Value {
    let methods: Vec<&str> = row.conditions.methods().collect();
    let grpc = match &row.target {
        Target::Transcode(transcoded) => Some(transcoded.binding.grpc_path.as_str()),
        Target::Stream(streamed) => Some(streamed.transcoded.binding.grpc_path.as_str()),
        Target::Grpc(_)
        | Target::PassThrough
        | Target::Redirect(_)
        | Target::System { .. }
        | Target::Waiting { .. } => None,
    };
    let mut shown = json!({
        "route": &*row.route, "method": if methods.is_empty() { "*".to_owned() } else { methods.join(",") },
        "pattern": row.pattern, "grpc": grpc, "cluster": row.cluster().map(|cluster| cluster.name().to_string()),
        "timeout_ms": u64::try_from(row.timeout.as_millis()).unwrap_or(u64::MAX),
    });
    if let (Some(shown), Value::Object(destination)) =
        (shown.as_object_mut(), row.policies.destination.json())
    {
        shown.extend(destination);
    }
    shown
}
