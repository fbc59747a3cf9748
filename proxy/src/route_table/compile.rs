//! From a snapshot to a routing table, in two steps: [`compile`], which may refuse and touches nothing, and
//! [`Plan::activate`], which cannot fail.
//!
//! Refused, all mistakes at once with their lines: descriptors that do not hold together, services that they do
//! not have, profiles that do not fit their messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::{self, Action, DescriptorSource, PathMatch, Route};
use mesh_config::{Problem, Problems, Snapshot};
use transcode::{
    Binding, CompileError, Entry, Errors, PathPattern, Profile, Request, Router, RouterBuilder,
    Schema, Transcoder,
};

use super::words::{choices, host_pattern, path_pattern, pattern};
use super::{Conditions, Found, SystemPage, policies, variables};
use crate::edge::Head;
use crate::shaping::Redirect;
use crate::upstream::Method;

/// The profile whose routes bring the gateway's own pages with them.
const PHASE1: &str = "phase1";

/// A compiled configuration that nothing serves yet.
#[derive(Debug)]
pub struct Plan {
    /// What it was compiled from.
    pub snapshot: Arc<Snapshot>,
    /// All messages and services that it knows.
    pub schema: Arc<Schema>,
    /// The rows, in file order.
    pub rows: Vec<PlannedRow>,
    pub(super) router: Router<u32>,
}

/// A row before it has clusters and numbers.
#[derive(Debug)]
pub struct PlannedRow {
    /// The route's name.
    pub route: Arc<str>,
    /// Template, path or expression.
    pub pattern: String,
    /// What it asks beside host and path.
    pub conditions: Conditions,
    /// Which route of the snapshot it is of; none for the gateway's own pages.
    pub source: Option<usize>,
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
    /// Sends the client elsewhere.
    Redirect(Redirect),
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
        compiler.route(&Source::new(index, route));
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

/// A route and where it stands.
struct Source<'s> {
    index: usize,
    at: String,
    route: &'s Route,
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

impl<'s> Source<'s> {
    fn new(index: usize, route: &'s Route) -> Self {
        Self {
            index,
            at: format!("routes[{index}]"),
            route,
        }
    }

    fn planned(&self, pattern: String, conditions: Conditions, action: Planned) -> PlannedRow {
        PlannedRow {
            route: self.route.name.as_str().into(),
            pattern,
            conditions,
            source: Some(self.index),
            timeout: self.route.timeout.get(),
            action,
        }
    }
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

    fn route(&mut self, source: &Source<'_>) {
        match &source.route.action {
            Action::Transcode(transcode) => self.transcode(source, transcode),
            Action::PassThrough => {
                let path = &source.route.matches.path;
                let conditions = Conditions::of(source.route, None);
                let row = source.planned(pattern(path), conditions, Planned::PassThrough);
                self.insert(source, path_pattern(path), false, row);
            }
            Action::Redirect(redirect) => {
                let path = &source.route.matches.path;
                let conditions = Conditions::of(source.route, None);
                let redirect = Planned::Redirect(Redirect::new(source.route, redirect));
                let row = source.planned(pattern(path), conditions, redirect);
                self.insert(source, path_pattern(path), false, row);
            }
        }
    }

    fn transcode(&mut self, source: &Source<'_>, transcode: &model::Transcode) {
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
                    .for_each(|error| self.compile_error(&source.at, error));
            }
        };
        for (path, why) in variables::unknown(source.route, &bindings) {
            self.problem(format!("{}.{path}", source.at), why);
        }
        for binding in bindings {
            self.binding(source, transcode, binding);
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

    fn binding(&mut self, source: &Source<'_>, transcode: &model::Transcode, binding: Binding) {
        let method = match Method::new(&binding.grpc_path) {
            Ok(method) => method,
            Err(error) => {
                let at = format!("{}.transcode.services", source.at);
                return self.problem(at, error.to_string());
            }
        };
        let conditions = Conditions::of(source.route, Some(&binding.http_method));
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
        let row = source.planned(pattern, conditions, action);
        self.insert(source, path, empty_segments, row);
    }

    fn insert(
        &mut self,
        source: &Source<'_>,
        path: PathPattern,
        empty_segments: bool,
        row: PlannedRow,
    ) {
        // Rows are counted in 32 bits; a configuration of 512 KiB cannot have so many.
        let value = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let matches = &source.route.matches;
        let hosts = matches.hosts.iter().map(host_pattern).collect();
        let entry = Entry {
            hosts,
            path,
            conditions: matches.conditions(),
            empty_segments,
            value,
        };
        if let Err(error) = self.router.insert(entry) {
            self.problem(format!("{}.match", source.at), error.to_string());
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
                source: None,
                timeout: route.timeout.get(),
                action: Planned::System(page, errors.clone()),
            };
            let path = PathPattern::Exact(path.to_owned());
            self.insert(&Source::new(index, route), path, false, row);
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

    /// The route of a row; none for the gateway's own pages.
    pub fn route(&self, row: &PlannedRow) -> Option<&Route> {
        self.snapshot.routes.get(row.source?).map(Arc::as_ref)
    }

    /// The names of the clusters that answer a row's requests, the first one's first.
    pub fn destinations(&self, row: &PlannedRow) -> impl Iterator<Item = &str> {
        self.route(row).into_iter().flat_map(policies::destinations)
    }

    /// The names of the clusters that a row's requests or their copies go to, the first one's first.
    pub fn clusters(&self, row: &PlannedRow) -> impl Iterator<Item = &str> {
        self.route(row).into_iter().flat_map(policies::clusters)
    }
}
