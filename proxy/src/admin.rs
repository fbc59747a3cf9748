//! The gateway's pages on the admin port, JSON for scripts and HTML for people from the same values.

mod page;

use std::sync::Arc;

use mesh_config::{Live, Status};
use serde_json::{Value, json};
use service_kit::{Admin, RequestView, Response};

use crate::explain::{self, Question};
use crate::route_table::{Row, Target};
use crate::upstream::{ClusterView, Upstreams};
use crate::worker_table::Published;

/// What the pages show.
#[derive(Debug)]
pub struct Pages {
    /// The clusters.
    pub upstreams: Arc<Upstreams>,
    /// The live table.
    pub published: Arc<Published>,
    /// The configuration in force.
    pub config: Live<Status>,
}

impl Pages {
    /// Adds the pages to those that every program has.
    pub fn add_to(self, admin: Admin) -> Admin {
        let pages = Arc::new(self);
        let on = |what: fn(&Pages) -> Value, title: &'static str| {
            let pages = pages.clone();
            move |request: &RequestView<'_>| shown(request, title, &what(&pages))
        };
        let explaining = pages.clone();
        admin
            .page("/", on(Pages::overview, "highpress gateway"))
            .page("/clusters", on(Pages::clusters, "clusters"))
            .page("/routes", on(Pages::routes, "routes"))
            .page("/config", on(Pages::config, "configuration"))
            .page("/explain", move |request| explaining.explain(request))
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
            "clusters": clusters,
        })
    }

    fn clusters(&self) -> Value {
        self.upstreams
            .all()
            .iter()
            .map(|cluster| cluster_json(&cluster.view()))
            .collect()
    }

    fn routes(&self) -> Value {
        self.published.load(0).rows().iter().map(row_json).collect()
    }

    fn config(&self) -> Value {
        self.config.load().json()
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
                match explain::live(&self.config.load().snapshot, &question, &clusters) {
                    Ok(text) => Response::text(text),
                    Err(problems) => Response::text(problems.to_string()).with_status(500),
                }
            }
            Err(why) => Response::text(format!("{why}\n")).with_status(400),
        }
    }
}

fn on_status(pages: Arc<Pages>) -> impl Fn() -> Value + Send + Sync + 'static {
    move || json!({ "configuration": pages.config.load().snapshot.version })
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
    let endpoints: Vec<Value> = view
        .endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "address": &*endpoint.address, "weight": endpoint.weight, "usable": endpoint.usable,
                "reasons": endpoint.reasons, "breaker": endpoint.breaker, "in_flight": endpoint.in_flight,
                "ewma_ms": (endpoint.ewma_ms * 1000.0).round() / 1000.0,
                "connections": endpoint.connections, "streams": endpoint.streams,
            })
        })
        .collect();
    json!({
        "name": &*view.name, "policy": view.policy, "panic": view.panic,
        "retry_budget_left": view.retry_budget_left, "endpoints": endpoints,
    })
}

fn row_json(row: &Row) -> Value {
    let methods: Vec<&str> = row.conditions.methods().collect();
    let grpc = match &row.target {
        Target::Transcode(transcoded) => Some(transcoded.binding.grpc_path.as_str()),
        Target::Stream(binding) => Some(binding.grpc_path.as_str()),
        Target::PassThrough | Target::System { .. } => None,
    };
    json!({
        "route": &*row.route, "method": if methods.is_empty() { "*".to_owned() } else { methods.join(",") },
        "pattern": row.pattern, "grpc": grpc, "cluster": row.cluster().map(|cluster| cluster.name().to_string()),
        "timeout_ms": u64::try_from(row.timeout.as_millis()).unwrap_or(u64::MAX),
    })
}
