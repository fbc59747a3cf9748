//! The one table of all routes: from a request's head to the row that takes it, or why none does.
//!
//! Built whole by [`Plan::activate`] and never changed: a reload makes another one.
//! The order is the router's (host, then path segment by segment, then conditions, then file order); what it
//! cannot know, methods, headers and queries, is asked here of each row that fits the path.

mod activate;
mod compile;
mod conditions;
mod passed;
mod plan;
mod policies;
mod row;
mod sources;
mod transcoded;
mod variables;
mod waiting;
mod words;

use std::ops::ControlFlow;
use std::sync::Arc;

use http::Method;
use transcode::{Captures, Router};

pub use compile::compile;
pub(crate) use compile::compile_as_of;
pub(crate) use conditions::decoded as form_decoded;
pub use conditions::{Conditions, Unmet};
pub use passed::PassedMethod;
pub use plan::{Plan, Planned, PlannedRow, Waiting};
pub use policies::Policies;
pub use row::{Row, Streamed, SystemPage, Target, Transcoded};

use crate::destination::States;
use crate::edge::Head;
use crate::entries::Entries;
use crate::metrics::Metrics;
use crate::mirror::Mirrors;
use crate::rate_limit::RateLimits;
use crate::shedding::Shedding;
use crate::upstream::Upstreams;

/// What outlives every table: a new one takes up what the one before has learnt.
#[derive(Debug)]
pub struct Kept {
    /// The clusters.
    pub upstreams: Arc<Upstreams>,
    /// The numbers of the rows.
    pub metrics: Arc<Metrics>,
    /// What Consul's config entries make of the clusters.
    pub(crate) entries: Arc<Entries>,
    /// What is known of the routes' destinations.
    pub(crate) states: Arc<States>,
    /// The rate limits of the routes.
    pub limits: Arc<RateLimits>,
    /// Who is turned away under overload.
    pub shedding: Arc<Shedding>,
    /// What mirrors have found out.
    pub(crate) mirrors: Arc<Mirrors>,
}

/// All rows of one configuration, compiled.
#[derive(Debug)]
pub struct RouteTable {
    router: Router<u32>,
    rows: Vec<Row>,
    /// What routes without rows of their own wait for.
    waiting: Option<Arc<str>>,
}

/// What the table says of a request.
#[derive(Debug)]
pub enum Found {
    /// This row takes it.
    Row(u32, Captures),
    /// Rows take the path, but none with this method; `row` is the first of them.
    MethodNotAllowed {
        /// The methods that are taken, for `Allow`.
        allow: String,
        /// The row in whose shape to say so.
        row: u32,
    },
    /// No row takes the path.
    NotFound,
}

impl RouteTable {
    /// The row of an index that [`RouteTable::find`] gave.
    pub fn row(&self, index: u32) -> Option<&Row> {
        self.rows.get(index as usize)
    }

    /// All rows, in file order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row that takes a request.
    pub fn find(&self, head: &Head) -> Found {
        self.find_as(head, head.method())
    }

    /// The row that takes a request, as if it had been made by this method.
    pub(crate) fn find_as(&self, head: &Head, method: &Method) -> Found {
        find(
            &self.router,
            |index| self.row(index).map(|row| &row.conditions),
            (head, method),
        )
    }

    /// What a path that no row takes may be waiting for.
    pub fn waiting(&self) -> Option<&Arc<str>> {
        self.waiting.as_ref()
    }

    /// The row whose pattern comes closest to a path that no row takes: an unknown path is answered in the
    /// shape that its neighbours have.
    pub fn closest(&self, path: &str) -> Option<&Row> {
        let shared = |row: &Row| {
            let pairs = row.pattern.split('/').zip(path.split('/'));
            pairs.take_while(|(ours, theirs)| ours == theirs).count()
        };
        let shaped = self.rows.iter().filter(|row| row.shape().is_some());
        // `max_by_key` takes the last of equals; file order says the first.
        shaped.rev().max_by_key(|row| shared(row))
    }
}

/// What a router and the conditions of its rows say of a request.
fn find<'r>(
    router: &'r Router<u32>,
    conditions: impl Fn(u32) -> Option<&'r Conditions>,
    (head, method): (&Head, &Method),
) -> Found {
    let mut allowed: Vec<&str> = Vec::new();
    let mut refused = None;
    let found = router.find(head.host(), head.path(), |index, matched| {
        let Some(conditions) = conditions(*index).filter(|conditions| conditions.hold(head)) else {
            return ControlFlow::Continue(());
        };
        if conditions.takes(head, method.as_str()) {
            return ControlFlow::Break((*index, matched.captures()));
        }
        refused.get_or_insert(*index);
        allowed.extend(conditions.methods());
        ControlFlow::Continue(())
    });
    match (found, refused) {
        (Some((index, captures)), _) => Found::Row(index, captures),
        (None, Some(row)) => Found::MethodNotAllowed {
            allow: allow(allowed),
            row,
        },
        (None, None) => Found::NotFound,
    }
}

/// The value of `Allow`: each method once, `HEAD` where `GET` is taken.
fn allow(mut methods: Vec<&str>) -> String {
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}
