//! A compiled configuration: rows before they have clusters, and a router that finds them.

use std::sync::Arc;
use std::time::Duration;

use mesh_config::Snapshot;
use mesh_config::model::Route;
use transcode::{Binding, Errors, Router, Schema};

use super::passed::PassedMethod;
use super::{Conditions, Found, SystemPage, policies};
use crate::edge::Head;
use crate::shaping::Redirect;
use crate::stream::Form;
use crate::upstream::Method;

/// A compiled configuration that nothing serves yet.
#[derive(Debug)]
pub struct Plan {
    /// What it was compiled from.
    pub snapshot: Arc<Snapshot>,
    /// All messages and services that it knows.
    pub schema: Arc<Schema>,
    /// The rows, in file order.
    pub rows: Vec<PlannedRow>,
    /// Services of routes that nobody has described yet.
    pub waiting: Vec<Waiting>,
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
    /// Transcodes a method that streams.
    Stream {
        /// From request to message and back.
        binding: Box<Binding>,
        /// The method's prepared request head.
        method: Method,
        /// The largest message of the request.
        max_body: usize,
        /// What clients get that do not say what they want.
        form: Form,
    },
    /// Hands calls of gRPC on; of these methods more is known.
    Grpc(Vec<PassedMethod>),
    /// Passes HTTP through.
    PassThrough,
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Answers a page of the gateway's own.
    System(SystemPage, Arc<Errors>),
    /// Waits for descriptors.
    Waiting(Arc<str>, Arc<Errors>),
}

/// Services of a route that may be in descriptors that have not been learnt yet.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The route's name.
    pub route: Arc<str>,
    /// What is waited for, in words.
    pub what: Arc<str>,
}

impl Planned {
    /// What a transcoded row goes by.
    pub fn binding(&self) -> Option<&Binding> {
        match self {
            Self::Transcode { binding, .. } | Self::Stream { binding, .. } => Some(binding),
            Self::Grpc(_)
            | Self::PassThrough
            | Self::Redirect(_)
            | Self::System(..)
            | Self::Waiting(..) => None,
        }
    }
}

impl Plan {
    /// What the table will say of a request.
    pub fn find(&self, head: &Head) -> Found {
        super::find(
            &self.router,
            |index| self.row(index).map(|row| &row.conditions),
            (head, head.method()),
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
