//! The second step from a snapshot to a routing table: rows get their clusters, policies and numbers. It cannot
//! fail, so that a reload that has come this far is applied whole.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use mesh_config::model::{Route, Transcode};

use super::passed::PassedMethod;
use super::plan::{Plan, Planned, PlannedRow};
use super::policies::{Policies, call_policy, repeated};
use super::{Kept, RouteTable, Row, Streamed, Target, Transcoded};
use crate::grpc::{Known, Messages, Passed};
use crate::metrics::RouteLabels;
use crate::system::Served;
use crate::upstream::{Cluster, Method, Repeats, Upstreams};
use transcode::Binding;

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
        let waiting = self.waiting.first().map(|waiting| waiting.what.clone());
        let rows = self.rows.into_iter().filter_map(|row| {
            let policies = row.source.and_then(|index| policies.get(index));
            let route = row.source.and_then(|index| routes.get(index));
            let route = route.map(Arc::as_ref);
            row.activate(policies.cloned().unwrap_or_default(), route, kept, &served)
        });
        let table = Arc::new(RouteTable {
            rows: rows.collect(),
            router: self.router,
            waiting,
        });
        kept.states.tell(&table);
        table
    }

    fn served(&self, upstreams: &Upstreams) -> Served {
        let mut served = Served::default();
        for row in &self.rows {
            if let Some(binding) = row.action.binding() {
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
            } => Target::Transcode(Box::new(transcoded(
                (*binding, method, max_body),
                route,
                kept,
            )?)),
            Planned::Stream {
                binding,
                method,
                max_body,
                form,
            } => Target::Stream(Box::new(Streamed {
                transcoded: transcoded((*binding, method, max_body), route, kept)?,
                form,
                idle_timeout: route?.idle_timeout.get(),
            })),
            Planned::Grpc(methods) => Target::Grpc(Box::new(passed(methods, route, kept))),
            Planned::PassThrough => Target::PassThrough,
            Planned::Redirect(redirect) => Target::Redirect(redirect),
            Planned::Waiting(what, errors) => Target::Waiting { what, errors },
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
        let variables = self.action.binding()?.template.variables();
        variables
            .iter()
            .position(|variable| Some(&*variable.name()) == name)
    }

    fn labels(&self) -> RouteLabels {
        let method = match self.conditions.methods.as_slice() {
            [method] => method.clone(),
            _ => "*".to_owned(),
        };
        let binding = self.action.binding();
        let grpc = binding.map(|binding| (binding.service.clone(), binding.method.clone()));
        RouteLabels {
            method,
            endpoint: self.pattern.clone(),
            grpc,
        }
    }
}

fn passed(methods: Vec<PassedMethod>, route: Option<&Route>, kept: &Kept) -> Passed {
    let known = methods.into_iter().map(|method| {
        let path: Box<str> = method.method.path().into();
        let labels = RouteLabels {
            method: "POST".to_owned(),
            endpoint: path.to_string(),
            grpc: Some((method.service, method.name)),
        };
        let repeats = Repeats {
            idempotent: method.idempotent,
            dedupe: method.dedupe.as_deref(),
        };
        let known = Known {
            policy: repeated(route, &path, repeats, kept),
            method: method.method,
            client_streaming: method.streams.0,
            server_streaming: method.streams.1,
            stats: kept.metrics.route(labels),
            messages: method.messages,
            safe: method.safe,
        };
        (path, known)
    });
    Passed {
        methods: known.collect(),
        policy: repeated(route, "gRPC", Repeats::default(), kept),
        compression: route.and_then(|route| route.compression).unwrap_or(true),
        idle_timeout: route
            .map_or(Route::DEFAULT_IDLE_TIMEOUT, |route| route.idle_timeout)
            .get(),
        max_body: Transcode::DEFAULT_MAX_BODY.get(),
    }
}

/// `None` cannot be, as above.
fn transcoded(
    (binding, method, max_body): (Binding, Method, usize),
    route: Option<&Route>,
    kept: &Kept,
) -> Option<Transcoded> {
    let options = route.and_then(Route::transcode);
    let names = options.map(|options| options.request_metadata.iter());
    let name = |name: &String| HeaderName::from_bytes(name.as_bytes()).ok();
    Some(Transcoded {
        crossing: names.into_iter().flatten().filter_map(name).collect(),
        messages: Messages {
            codec: Arc::clone(binding.codec()),
            input: binding.input,
            output: binding.output,
        },
        compression: options.is_some_and(|options| options.compression),
        returning: options.map_or_else(Default::default, |options| options.response_metadata),
        content_type: HeaderValue::from_str(binding.content_type()).ok()?,
        policy: call_policy(route, &binding, binding.dedupe.as_deref(), kept),
        http_policy: call_policy(route, &binding, None, kept),
        binding,
        method,
        max_body,
    })
}
