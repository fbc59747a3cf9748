//! From a snapshot to a routing table, in two steps: [`compile`], which may refuse and touches nothing, and
//! [`Plan::activate`], which cannot fail.
//!
//! Refused, all mistakes at once with their lines: descriptors that do not hold together, services that they do
//! not have, profiles that do not fit their messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_config::model::{self, Action, Route};
use mesh_config::{Problem, Problems, Snapshot};
use transcode::{
    Entry, JsonOptions, PathPattern, Profile, RouterBuilder, Schema, Transcoder, UnknownFields,
};

use super::passed;
use super::plan::{Plan, Planned, PlannedRow, Waiting};
use super::words::{host_pattern, path_pattern, pattern};
use super::{Conditions, SystemPage, policies, sources, waiting};
use crate::shaping::Redirect;

/// The profile whose routes bring the gateway's own pages with them.
const PHASE1: &str = "phase1";

/// Compiles a snapshot.
///
/// # Errors
/// Every mistake that the descriptors, profiles and routes have together.
pub fn compile(snapshot: &Arc<Snapshot>) -> Result<Plan, Problems> {
    let schema = Arc::new(sources::schema(snapshot)?);
    compile_with(snapshot, schema, waiting::unknown(snapshot))
}

/// Compiles what a snapshot would be with the descriptors of another one; services that they do not have are left out.
///
/// # Errors
/// Every mistake but that.
pub(crate) fn compile_as_of(snapshot: &Arc<Snapshot>, schema: Schema) -> Result<Plan, Problems> {
    let schema = sources::with_rules(snapshot, schema)?;
    compile_with(snapshot, Arc::new(schema), Some("not there".to_owned()))
}

fn compile_with(
    snapshot: &Arc<Snapshot>,
    schema: Arc<Schema>,
    unknown: Option<String>,
) -> Result<Plan, Problems> {
    let mut compiler = Compiler {
        snapshot,
        transcoder: Transcoder::new(schema.clone()).growing(unknown.is_some()),
        unknown,
        profiles: BTreeMap::new(),
        router: RouterBuilder::new(),
        rows: Vec::new(),
        waiting: Vec::new(),
        problems: Vec::new(),
        most_body: snapshot
            .listeners
            .iter()
            .map(|listener| listener.limits.max_body.get())
            .min()
            .unwrap_or(usize::MAX),
    };
    compiler.log();
    compiler.listeners();
    compiler.profiles();
    for (index, route) in snapshot.routes.iter().enumerate() {
        compiler.route(&Source::new(index, route));
    }
    compiler.system_pages();
    let Compiler {
        router,
        rows,
        waiting,
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
            waiting,
            router,
        }),
        _ => Err(Problems::new(problems)),
    }
}

/// A route and where it stands.
pub(super) struct Source<'s> {
    pub(super) index: usize,
    pub(super) at: String,
    pub(super) route: &'s Route,
}

/// Collects rows and problems.
pub(super) struct Compiler<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) transcoder: Transcoder,
    /// Where services may still come from.
    pub(super) unknown: Option<String>,
    pub(super) profiles: BTreeMap<String, Arc<Profile>>,
    router: RouterBuilder<u32>,
    pub(super) rows: Vec<PlannedRow>,
    pub(super) waiting: Vec<Waiting>,
    problems: Vec<Problem>,
    /// What every listener lets in.
    pub(super) most_body: usize,
}

impl<'s> Source<'s> {
    fn new(index: usize, route: &'s Route) -> Self {
        Self {
            index,
            at: format!("routes[{index}]"),
            route,
        }
    }

    pub(super) fn planned(
        &self,
        pattern: String,
        conditions: Conditions,
        action: Planned,
    ) -> PlannedRow {
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
    fn log(&mut self) {
        if let Some(filter) = &self.snapshot.log
            && let Err(why) = service_kit::telemetry::check_filter(filter)
        {
            self.problems
                .push(self.snapshot.positions.problem("log", why));
        }
    }

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

    pub(super) fn problem(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.problems
            .push(self.snapshot.positions.problem(path, why));
    }

    fn route(&mut self, source: &Source<'_>) {
        let path = &source.route.matches.path;
        let action = match &source.route.action {
            Action::Transcode(transcode) => return self.transcode(source, transcode),
            Action::PassThrough if self.goes_to_grpc(source.route) => {
                // Clients of Connect may know more of a message than the descriptors here.
                let options = JsonOptions {
                    unknown_fields: UnknownFields::Ignore,
                    ..JsonOptions::default()
                };
                let codec = self.transcoder.codec(options);
                Planned::Grpc(passed::methods(&codec, path))
            }
            Action::PassThrough => Planned::PassThrough,
            Action::Redirect(redirect) => Planned::Redirect(Redirect::new(source.route, redirect)),
        };
        let conditions = Conditions::of(source.route, None);
        let row = source.planned(pattern(path), conditions, action);
        self.insert(source, path_pattern(path), false, row);
    }

    /// Whether the clusters of a route that passes requests on speak gRPC; either all of them do, or none.
    fn goes_to_grpc(&self, route: &Route) -> bool {
        let first = policies::destinations(route).next();
        let is_it = |cluster: &&Arc<model::Cluster>| Some(cluster.name.as_str()) == first;
        let cluster = self.snapshot.clusters.iter().find(is_it);
        cluster.is_some_and(|cluster| cluster.protocol == model::Protocol::Grpc)
    }

    pub(super) fn insert(
        &mut self,
        source: &Source<'_>,
        path: PathPattern,
        empty_segments: bool,
        row: PlannedRow,
    ) {
        self.entry(source, path, empty_segments, self.rows.len());
        self.rows.push(row);
    }

    /// Leads paths to a row.
    pub(super) fn entry(
        &mut self,
        source: &Source<'_>,
        path: PathPattern,
        empty_segments: bool,
        row: usize,
    ) {
        // Rows are counted in 32 bits; a configuration of 512 KiB cannot have so many.
        let value = u32::try_from(row).unwrap_or(u32::MAX);
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
