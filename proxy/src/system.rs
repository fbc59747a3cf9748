//! The pages of the Phase 1 contract that the gateway answers itself: health, and views for operators.
//!
//! They say what is true of the mesh now, in the old monolith's envelope; numbers of what the mesh does not have
//! are left out rather than made up.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use mesh_config::model::Protocol;
use prost::Message;
use proto::counter::GetStatusResponse;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::edge::{Answer, Stats};
use crate::metrics::Metrics;
use crate::route_table::SystemPage;
use crate::upstream::{self, CallError, Cluster, ClusterView, Method, Upstreams};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// An operator's page does not wait longer for a backend.
const PATIENCE: Duration = Duration::from_secs(2);
/// A status is small; more than this is not one.
const MAX_STATUS: usize = 64 << 10;

/// What the pages are made of.
#[derive(Debug)]
pub struct System {
    upstreams: Arc<Upstreams>,
    metrics: Arc<Metrics>,
    workers: usize,
    /// Set when the listeners are open.
    edge: OnceLock<Arc<Stats>>,
    status: Method,
}

/// The clusters of the routes that a page speaks for: of the counters, and of everything beside them.
#[derive(Debug, Default)]
pub struct Served {
    /// The clusters of the counter service.
    pub counter: Vec<Arc<Cluster>>,
    /// All clusters of routes with the page's profile, by the services that they are asked for.
    pub services: Vec<(String, Arc<Cluster>)>,
}

impl System {
    /// Pages about these.
    ///
    /// # Errors
    /// Never in practice: the path of the status method is a constant.
    pub fn new(
        upstreams: Arc<Upstreams>,
        metrics: Arc<Metrics>,
        workers: usize,
    ) -> Result<Self, upstream::MethodError> {
        let status = Method::new("/counter.CounterService/GetStatus")?;
        Ok(Self {
            upstreams,
            metrics,
            workers,
            edge: OnceLock::new(),
            status,
        })
    }

    /// The listeners are open.
    pub fn opened(&self, stats: Arc<Stats>) {
        // Opened twice is opened.
        let _ = self.edge.set(stats);
    }

    /// A page as an answer.
    pub async fn answer(&self, worker: usize, page: SystemPage, served: &Served) -> Answer {
        match page {
            SystemPage::Health => health(served).await,
            SystemPage::Pools => success(&self.pools()),
            SystemPage::ObjectPools => success(&self.object_pools()),
            SystemPage::GrpcPools => success(&self.grpc_pools()),
            SystemPage::Kafka => self.kafka(worker, served).await,
            SystemPage::MetricsStats => success(&self.metrics_stats()),
            SystemPage::ServicesHealth => success(&services_health(served)),
        }
    }

    fn pools(&self) -> Value {
        let by_worker: Vec<usize> = self
            .edge
            .get()
            .map(|stats| stats.open_by_worker().collect())
            .unwrap_or_default();
        json!({ "workers": self.workers, "connections_by_worker": by_worker })
    }

    /// Buffers belong to connections: one read buffer each, kept from request to request.
    fn object_pools(&self) -> Value {
        let open = self.edge.get().map_or(0, |stats| stats.open());
        json!({ "connection_buffers": { "in_use": open, "pooled": 0 } })
    }

    fn grpc_pools(&self) -> Value {
        let views = self
            .upstreams
            .all()
            .into_iter()
            .map(|cluster| cluster.view());
        let pools: Vec<Value> = views
            .flat_map(|cluster| cluster.endpoints.into_iter().map(move |endpoint| (cluster.name.clone(), endpoint)))
            .map(|(cluster, endpoint)| {
                json!({
                    "cluster": &*cluster, "address": &*endpoint.address, "connections": endpoint.connections,
                    "streams": endpoint.streams, "in_flight": endpoint.in_flight,
                })
            })
            .collect();
        json!({ "total": pools.len(), "pools": pools })
    }

    fn metrics_stats(&self) -> Value {
        let totals = self.metrics.totals();
        let edge = self.edge.get();
        json!({
            "http_requests": totals.requests,
            "http_errors": totals.errors,
            "grpc_calls": totals.calls,
            "connections": { "open": edge.map_or(0, |stats| stats.open()), "accepted": edge.map_or(0, |stats| stats.accepted()) },
        })
    }

    /// What the counter service has still to send, as it says itself.
    async fn kafka(&self, worker: usize, served: &Served) -> Answer {
        let mut calls = served.counter.iter();
        let Some(cluster) = calls.find(|cluster| cluster.protocol() == Protocol::Grpc) else {
            return success(
                &json!({ "unsent": Value::Null, "details": "no route of this gateway reaches a counter service" }),
            );
        };
        match self.ask_status(worker, cluster).await {
            Ok(status) => {
                let outbox = status.outbox.unwrap_or_default();
                success(
                    &json!({ "unsent": outbox.unsent, "oldest_seconds": outbox.oldest_seconds, "store": status.store }),
                )
            }
            Err(why) => unavailable(&why),
        }
    }

    async fn ask_status(
        &self,
        worker: usize,
        cluster: &Arc<Cluster>,
    ) -> Result<GetStatusResponse, String> {
        let call = upstream::Call {
            method: &self.status,
            metadata: &[],
            message: Bytes::from_static(&[0; 5]),
            coding: None,
            max_response: MAX_STATUS,
            terms: upstream::Terms::until(Instant::now() + PATIENCE),
        };
        let reply = cluster
            .unary(worker, call)
            .await
            .map_err(|error: CallError| error.to_string())?;
        if reply.code != upstream::code::OK {
            return Err(reply.message);
        }
        GetStatusResponse::decode(reply.body).map_err(|error| error.to_string())
    }
}

async fn health(served: &Served) -> Answer {
    let mut healthy = false;
    for cluster in &served.counter {
        healthy |= cluster.confirm_usable().await;
    }
    let data = json!({
        "status": if healthy { "healthy" } else { "unhealthy" },
        "service": "gateway",
        "timestamp": unix_seconds(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    if healthy {
        success(&data)
    } else {
        answer(503, &json!({ "status": "error", "data": data }))
    }
}

fn services_health(served: &Served) -> Value {
    let services: Vec<Value> = served
        .services
        .iter()
        .map(|(service, cluster)| service_health(service, &cluster.view()))
        .collect();
    json!({ "total": services.len(), "services": services })
}

fn service_health(service: &str, view: &ClusterView) -> Value {
    let instances: Vec<Value> = view
        .endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "address": &*endpoint.address, "healthy": endpoint.usable, "reasons": endpoint.reasons,
                "weight": endpoint.weight, "breaker": endpoint.breaker,
            })
        })
        .collect();
    let healthy = view
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.usable)
        .count();
    json!({
        "service": service, "cluster": &*view.name, "status": if healthy > 0 { "healthy" } else { "unhealthy" },
        "healthy": healthy, "total": instances.len(), "instances": instances,
    })
}

fn success(data: &Value) -> Answer {
    answer(200, &json!({ "status": "success", "data": data }))
}

fn unavailable(details: &str) -> Answer {
    answer(
        503,
        &json!({ "status": "error", "error": "Counter service unavailable", "details": details }),
    )
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer::new(status, JSON, body.to_string().into_bytes())
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
