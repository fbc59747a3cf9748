//! From a snapshot to a routing table, in two steps: [`compile`], which may refuse and touches nothing, and
//! [`Plan::activate`], which cannot fail.
//!
//! Refused, all mistakes at once with their lines: descriptors that do not hold together, services that they do
//! not have, profiles that do not fit their messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use mesh_config::model::{self, Action, DescriptorSource, PathMatch, Route};
use mesh_config::{Problem, Problems, Snapshot};
use transcode::{
    Binding, CompileError, Entry, Errors, HostPattern, JsonChoices, PathPattern, Profile, Request,
    Router, RouterBuilder, Schema, Transcoder,
};

use super::{Conditions, Found, RouteTable, Row, SystemPage, Target, Transcoded};
use crate::edge::Head;
use crate::metrics::{Metrics, RouteLabels};
use crate::system::Served;
use crate::upstream::{Method, Upstreams};

/// The profile whose routes bring the gateway's own pages with them.
const PHASE1: &str = "phase1";
/// Whose clusters `/api/v1/health` speaks for.
const COUNTER: &str = "counter.CounterService";

/// A compiled configuration that nothing serves yet.
#[derive(Debug)]
pub struct Plan {
    /// What it was compiled from.
    pub snapshot: Arc<Snapshot>,
    /// All messages and services that it knows.
    pub schema: Arc<Schema>,
    /// The rows, in file order.
    pub rows: Vec<PlannedRow>,
    router: Router<u32>,
}

/// A row before it has a cluster and numbers.
#[derive(Debug)]
pub struct PlannedRow {
    /// The route's name.
    pub route: Arc<str>,
    /// Template, path or expression.
    pub pattern: String,
    /// What it asks beside host and path.
    pub conditions: Conditions,
    /// The cluster; none for the gateway's own pages.
    pub cluster: Option<String>,
    /// How long a call may take.
    pub timeout: Duration,
    /// What it does.
    pub action: Planned,
}

/// What a planned row does.
#[derive(Debug)]
pub enum Planned {
    /// Transcodes.
    Transcode {
        /// From request to message and back.
        binding: Box<Binding>,
        /// The method's prepared request head.
        method: Method,
        /// The largest request body.
        max_body: usize,
    },
    /// Would stream, which this version does not: it says so.
    Stream(Box<Binding>),
    /// Passes HTTP through.
    PassThrough,
    /// Answers a page of the gateway's own.
    System(SystemPage, Arc<Errors>),
}

/// Compiles a snapshot.
///
/// # Errors
/// Every mistake that the descriptors, profiles and routes have together.
pub fn compile(snapshot: &Arc<Snapshot>) -> Result<Plan, Problems> {
    let schema = Arc::new(schema(snapshot)?);
    let mut compiler = Compiler {
        snapshot,
        transcoder: Transcoder::new(schema.clone()),
        profiles: BTreeMap::new(),
        router: RouterBuilder::new(),
        rows: Vec::new(),
        problems: Vec::new(),
        most_body: snapshot
            .listeners
            .iter()
            .map(|listener| listener.limits.max_body.get())
            .min()
            .unwrap_or(usize::MAX),
    };
    compiler.listeners();
    compiler.profiles();
    for (index, route) in snapshot.routes.iter().enumerate() {
        compiler.route(&format!("routes[{index}]"), route);
    }
    compiler.system_pages();
    let Compiler {
        router,
        rows,
        mut problems,
        ..
    } = compiler;
    let router = router
        .build()
        .map_err(|error| problems.push(snapshot.positions.problem("routes", error.to_string())));
    match router {
        Ok(router) if problems.is_empty() => Ok(Plan {
            snapshot: snapshot.clone(),
            schema,
            rows,
            router,
        }),
        _ => Err(Problems::new(problems)),
    }
}

/// The schema of all descriptor sources together; each is read by itself first, so that a broken one is named.
fn schema(snapshot: &Snapshot) -> Result<Schema, Problems> {
    let bytes = |source| match source {
        &DescriptorSource::Builtin => proto::DESCRIPTOR_SET,
        DescriptorSource::File(file) => file.content(),
    };
    let alone = snapshot
        .descriptors
        .iter()
        .enumerate()
        .filter_map(|(index, source)| {
            let error = Schema::from_descriptor_sets([bytes(source)]).err()?;
            Some(
                snapshot
                    .positions
                    .problem(format!("descriptors[{index}]"), error.to_string()),
            )
        });
    let problems: Vec<Problem> = alone.collect();
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    Schema::from_descriptor_sets(snapshot.descriptors.iter().map(bytes)).map_err(|error| {
        snapshot
            .positions
            .problem("descriptors", error.to_string())
            .into()
    })
}

/// Collects rows and problems.
struct Compiler<'s> {
    snapshot: &'s Snapshot,
    transcoder: Transcoder,
    profiles: BTreeMap<String, Arc<Profile>>,
    router: RouterBuilder<u32>,
    rows: Vec<PlannedRow>,
    problems: Vec<Problem>,
    /// What every listener lets in.
    most_body: usize,
}

impl Compiler<'_> {
    /// One edge serves all listeners, and it has one set of limits.
    fn listeners(&mut self) {
        let listeners = &self.snapshot.listeners;
        let Some(first) = listeners.first() else {
            return;
        };
        for (index, listener) in listeners.iter().enumerate() {
            if listener.limits != first.limits {
                let why = "limits that differ between listeners are not in this version: give all of them the same";
                self.problem(format!("listeners[{index}].limits"), why);
            }
        }
    }

    fn profiles(&mut self) {
        for name in Profile::builtin_names() {
            if let Some(profile) = Profile::builtin(name) {
                self.profiles.insert(name.to_owned(), Arc::new(profile));
            }
        }
        for (name, source) in &self.snapshot.profiles {
            match Profile::parse(name.as_str(), source) {
                Ok(profile) => {
                    self.profiles
                        .insert(name.as_str().to_owned(), Arc::new(profile));
                }
                Err(errors) => {
                    for error in errors {
                        self.problem(error.path, error.why);
                    }
                }
            }
        }
    }

    fn problem(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.problems
            .push(self.snapshot.positions.problem(path, why));
    }

    fn route(&mut self, at: &str, route: &Route) {
        match &route.action {
            Action::Transcode(transcode) => self.transcode(at, route, transcode),
            Action::PassThrough => {
                let row = planned(
                    route,
                    pattern(&route.matches.path),
                    Conditions::of(route, None),
                    Planned::PassThrough,
                );
                self.insert(at, route, path_pattern(&route.matches.path), false, row);
            }
        }
    }

    fn transcode(&mut self, at: &str, route: &Route, transcode: &model::Transcode) {
        // A profile that is missing or broken has been told of already.
        let Some(profile) = self.profiles.get(transcode.profile.as_str()).cloned() else {
            return;
        };
        let services: Vec<&str> = transcode
            .services
            .iter()
            .map(|service| service.as_str())
            .collect();
        let request = Request {
            services: &services,
            profile: &profile,
            json: choices(transcode),
            unannotated: transcode.unannotated,
        };
        let bindings = match self.transcoder.bindings(&request) {
            Ok(bindings) => bindings,
            Err(errors) => {
                return errors
                    .into_iter()
                    .for_each(|error| self.compile_error(at, error));
            }
        };
        for binding in bindings {
            self.binding(at, route, transcode, binding);
        }
    }

    fn compile_error(&mut self, at: &str, error: CompileError) {
        match error {
            CompileError::Service { index, why } => {
                self.problem(format!("{at}.transcode.services[{index}]"), why)
            }
            CompileError::Profile(error) if error.path.starts_with("profiles.") => {
                self.problem(error.path, error.why)
            }
            CompileError::Profile(error) => {
                self.problem(format!("{at}.transcode.profile"), error.to_string())
            }
        }
    }

    fn binding(&mut self, at: &str, route: &Route, transcode: &model::Transcode, binding: Binding) {
        let method = match Method::new(&binding.grpc_path) {
            Ok(method) => method,
            Err(error) => {
                return self.problem(format!("{at}.transcode.services"), error.to_string());
            }
        };
        let conditions = Conditions::of(route, Some(&binding.http_method));
        let (path, empty_segments) = (
            PathPattern::Template(binding.template.clone()),
            binding.empty_segments,
        );
        let pattern = binding.template.to_string();
        let max_body = transcode.max_body.get().min(self.most_body);
        let streams = binding.client_streaming || binding.server_streaming;
        let action = match streams {
            true => Planned::Stream(Box::new(binding)),
            false => Planned::Transcode {
                binding: Box::new(binding),
                method,
                max_body,
            },
        };
        self.insert(
            at,
            route,
            path,
            empty_segments,
            planned(route, pattern, conditions, action),
        );
    }

    fn insert(
        &mut self,
        at: &str,
        route: &Route,
        path: PathPattern,
        empty_segments: bool,
        row: PlannedRow,
    ) {
        // Rows are counted in 32 bits; a configuration of 512 KiB cannot have so many.
        let value = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let hosts = route.matches.hosts.iter().map(host_pattern).collect();
        let entry = Entry {
            hosts,
            path,
            conditions: route.matches.conditions(),
            empty_segments,
            value,
        };
        if let Err(error) = self.router.insert(entry) {
            self.problem(format!("{at}.match"), error.to_string());
        }
        self.rows.push(row);
    }

    /// The gateway's own pages, for the hosts of the first route with the profile that has them.
    fn system_pages(&mut self) {
        let snapshot = self.snapshot;
        let has_pages = |route: &Route| {
            route
                .transcode()
                .is_some_and(|transcode| transcode.profile.as_str() == PHASE1)
        };
        let Some((index, route)) = snapshot
            .routes
            .iter()
            .enumerate()
            .find(|(_, route)| has_pages(route))
        else {
            return;
        };
        let Some(profile) = self.profiles.get(PHASE1).cloned() else {
            return;
        };
        let errors = Arc::new(self.transcoder.errors(&profile));
        for (page, path) in SystemPage::ALL {
            let row = PlannedRow {
                route: route.name.as_str().into(),
                pattern: path.to_owned(),
                conditions: Conditions {
                    methods: vec!["GET".to_owned()],
                    ..Conditions::default()
                },
                cluster: None,
                timeout: route.timeout.get(),
                action: Planned::System(page, errors.clone()),
            };
            self.insert(
                &format!("routes[{index}]"),
                route,
                PathPattern::Exact(path.to_owned()),
                false,
                row,
            );
        }
    }
}

impl Conditions {
    /// What a route asks; of a transcoded one also the method of the rule, and its own `match` beside the template.
    fn of(route: &Route, rule_method: Option<&str>) -> Self {
        let matches = &route.matches;
        let own: Vec<String> = matches
            .methods
            .iter()
            .map(|method| method.as_str().to_owned())
            .collect();
        let (methods, path) = match rule_method {
            None => (own, PathMatch::Any),
            Some("*") => (own, matches.path.clone()),
            Some(method) => (vec![method.to_owned()], matches.path.clone()),
        };
        Self {
            methods,
            path,
            headers: matches.headers.clone(),
            query: matches.query.clone(),
        }
    }
}

impl Plan {
    /// What the table will say of a request.
    pub fn find(&self, head: &Head) -> Found {
        super::find(
            &self.router,
            |index| self.row(index).map(|row| &row.conditions),
            head,
        )
    }

    /// The row of an index that [`Plan::find`] gave.
    pub fn row(&self, index: u32) -> Option<&PlannedRow> {
        self.rows.get(index as usize)
    }

    /// Makes the clusters be what the plan says, and the table that routes to them.
    pub fn activate(self, upstreams: &Upstreams, metrics: &Metrics) -> Arc<RouteTable> {
        upstreams.apply(&self.snapshot.clusters);
        upstreams.look_at_new();
        let served = Arc::new(self.served(upstreams));
        let rows = self
            .rows
            .into_iter()
            .filter_map(|row| row.activate(upstreams, metrics, &served));
        Arc::new(RouteTable {
            router: self.router,
            rows: rows.collect(),
        })
    }

    fn served(&self, upstreams: &Upstreams) -> Served {
        let mut served = Served::default();
        for row in &self.rows {
            let Planned::Transcode { binding, .. } = &row.action else {
                continue;
            };
            let Some(cluster) = row.cluster.as_deref().and_then(|name| upstreams.get(name)) else {
                continue;
            };
            if served
                .services
                .iter()
                .any(|(service, known)| *service == binding.service && Arc::ptr_eq(known, &cluster))
            {
                continue;
            }
            if binding.service == COUNTER {
                served.counter.push(cluster.clone());
            }
            served.services.push((binding.service.clone(), cluster));
        }
        served
    }
}

impl PlannedRow {
    /// The row with its cluster and numbers. `None` cannot be: a snapshot's clusters have just been applied.
    fn activate(
        self,
        upstreams: &Upstreams,
        metrics: &Metrics,
        served: &Arc<Served>,
    ) -> Option<Row> {
        let cluster = self.cluster.as_deref().map(|name| upstreams.get(name));
        let stats = metrics.route(self.labels());
        let target = match self.action {
            Planned::Transcode {
                binding,
                method,
                max_body,
            } => Target::Transcode(Box::new(Transcoded {
                content_type: HeaderValue::from_str(binding.content_type()).ok()?,
                binding: *binding,
                cluster: cluster??,
                method,
                max_body,
            })),
            Planned::Stream(binding) => Target::Stream(binding),
            Planned::PassThrough => Target::PassThrough(cluster??),
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
            stats,
            target,
        })
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
            Planned::Stream(_) | Planned::PassThrough | Planned::System(..) => None,
        };
        RouteLabels {
            method,
            endpoint: self.pattern.clone(),
            grpc,
        }
    }
}

fn planned(route: &Route, pattern: String, conditions: Conditions, action: Planned) -> PlannedRow {
    PlannedRow {
        route: route.name.as_str().into(),
        pattern,
        conditions,
        cluster: Some(route.to.as_str().to_owned()),
        timeout: route.timeout.get(),
        action,
    }
}

fn pattern(path: &PathMatch) -> String {
    match path {
        PathMatch::Any => "/**".to_owned(),
        PathMatch::Exact(path) => path.clone(),
        PathMatch::Prefix(prefix) if prefix.ends_with('/') => format!("{prefix}**"),
        PathMatch::Prefix(prefix) => format!("{prefix}/**"),
        PathMatch::Regex(expression) => format!("~{}", expression.as_str()),
    }
}

fn path_pattern(path: &PathMatch) -> PathPattern {
    match path {
        PathMatch::Any => PathPattern::Prefix("/".to_owned()),
        PathMatch::Exact(path) => PathPattern::Exact(path.clone()),
        PathMatch::Prefix(prefix) => PathPattern::Prefix(prefix.clone()),
        PathMatch::Regex(expression) => PathPattern::Regex(expression.as_str().to_owned()),
    }
}

fn host_pattern(host: &model::HostPattern) -> HostPattern {
    match host {
        model::HostPattern::Exact(host) => HostPattern::Exact(host.clone()),
        model::HostPattern::Wildcard(parent) => HostPattern::Wildcard(parent.clone()),
    }
}

fn choices(transcode: &model::Transcode) -> JsonChoices {
    JsonChoices {
        int64: transcode.int64.map(|choice| match choice {
            model::Int64::String => transcode::Int64::String,
            model::Int64::Number => transcode::Int64::Number,
        }),
        enums: transcode.enums.map(|choice| match choice {
            model::Enums::Name => transcode::Enums::Name,
            model::Enums::Number => transcode::Enums::Number,
        }),
        names: transcode.names.map(|choice| match choice {
            model::Names::Camel => transcode::Names::Camel,
            model::Names::Original => transcode::Names::Original,
        }),
        defaults: transcode.defaults.map(|choice| match choice {
            model::Defaults::Omit => transcode::Defaults::Omit,
            model::Defaults::Emit => transcode::Defaults::Emit,
        }),
        unknown_fields: transcode.unknown_fields.map(|choice| match choice {
            model::UnknownFields::Reject => transcode::UnknownFields::Reject,
            model::UnknownFields::Ignore => transcode::UnknownFields::Ignore,
        }),
    }
}
