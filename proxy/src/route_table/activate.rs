//! The second step from a snapshot to a routing table: rows get their clusters, policies and numbers. It cannot
//! fail, so that a reload that has come this far is applied whole.

use std::sync::Arc;

use http::HeaderValue;
use mesh_config::model::Route;

use super::compile::{Plan, Planned, PlannedRow};
use super::policies::{Policies, call_policy};
use super::{Kept, RouteTable, Row, Target, Transcoded};
use crate::metrics::RouteLabels;
use crate::system::Served;
use crate::upstream::{Cluster, Upstreams};

/// Whose clusters `/api/v1/health` speaks for.
const COUNTER: &str = "counter.CounterService";

impl Plan {
    /// Makes the clusters be what the plan says, and the table that routes to them.
    pub fn activate(self, kept: &Kept) -> Arc<RouteTable> {
        kept.upstreams.apply(&self.snapshot.clusters);
        kept.upstreams.look_at_new();
        kept.shedding.set(&self.snapshot.overload);
        let served = Arc::new(self.served(&kept.upstreams));
        let policies = Policies::of_routes(&self.snapshot, kept);
        let routes = &self.snapshot.routes;
        let rows = self.rows.into_iter().filter_map(|row| {
            let policies = row.source.and_then(|index| policies.get(index));
            let route = row.source.and_then(|index| routes.get(index));
            let route = route.map(Arc::as_ref);
            row.activate(policies.cloned().unwrap_or_default(), route, kept, &served)
        });
        let table = Arc::new(RouteTable {
            rows: rows.collect(),
            router: self.router,
        });
        kept.states.tell(&table);
        table
    }

    fn served(&self, upstreams: &Upstreams) -> Served {
        let mut served = Served::default();
        for row in &self.rows {
            if let Planned::Transcode { binding, .. } = &row.action {
                for cluster in self
                    .destinations(row)
                    .filter_map(|name| upstreams.get(name))
                {
                    served.add(&binding.service, cluster);
                }
            }
        }
        served
    }
}

impl Served {
    fn add(&mut self, service: &str, cluster: Arc<Cluster>) {
        let known = |(known, other): &(String, Arc<Cluster>)| {
            known == service && Arc::ptr_eq(other, &cluster)
        };
        if self.services.iter().any(known) {
            return;
        }
        if service == COUNTER {
            self.counter.push(cluster.clone());
        }
        self.services.push((service.to_owned(), cluster));
    }
}

impl PlannedRow {
    /// The row with its policies and numbers. `None` cannot be: a profile's content type has been checked.
    fn activate(
        self,
        policies: Arc<Policies>,
        route: Option<&Route>,
        kept: &Kept,
        served: &Arc<Served>,
    ) -> Option<Row> {
        let stats = kept.metrics.route(self.labels());
        let variable = self.variable(policies.destination.variable());
        let target = match self.action {
            Planned::Transcode {
                binding,
                method,
                max_body,
            } => Target::Transcode(Box::new(Transcoded {
                content_type: HeaderValue::from_str(binding.content_type()).ok()?,
                policy: call_policy(route, &binding, binding.dedupe.as_deref(), kept),
                http_policy: call_policy(route, &binding, None, kept),
                binding: *binding,
                method,
                max_body,
            })),
            Planned::Stream(binding) => Target::Stream(binding),
            Planned::PassThrough => Target::PassThrough,
            Planned::Redirect(redirect) => Target::Redirect(redirect),
            Planned::System(page, errors) => Target::System {
                page,
                errors,
                served: served.clone(),
            },
        };
        let Self {
            route,
            pattern,
            conditions,
            timeout,
            ..
        } = self;
        Some(Row {
            route,
            pattern,
            conditions,
            timeout,
            policies,
            variable,
            stats,
            target,
        })
    }

    /// Where the variable of that name stands among those of the path.
    fn variable(&self, name: Option<&str>) -> Option<usize> {
        let Planned::Transcode { binding, .. } = &self.action else {
            return None;
        };
        let variables = binding.template.variables();
        variables
            .iter()
            .position(|variable| Some(&*variable.name()) == name)
    }

    fn labels(&self) -> RouteLabels {
        let method = match self.conditions.methods.as_slice() {
            [method] => method.clone(),
            _ => "*".to_owned(),
        };
        let grpc = match &self.action {
            Planned::Transcode { binding, .. } => {
                Some((binding.service.clone(), binding.method.clone()))
            }
            Planned::Stream(_)
            | Planned::PassThrough
            | Planned::Redirect(_)
            | Planned::System(..) => None,
        };
        RouteLabels {
            method,
            endpoint: self.pattern.clone(),
            grpc,
        }
    }
}
