//! One row of the routing table: what it asks of a request, and what becomes of those it takes.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use mesh_config::model::ResponseMetadata;
use transcode::{Binding, Captures, Errors, Variable};

use super::{Conditions, Policies};
use crate::destination::Chosen;
use crate::edge::Head;
use crate::grpc::{Messages, Passed};
use crate::metrics::RouteStats;
use crate::shaping::Redirect;
use crate::stream::Form;
use crate::system::Served;
use crate::upstream::{CallPolicy, Cluster, Method};

/// A compiled row. Everything that does not change from request to request is prepared here.
#[derive(Debug)]
pub struct Row {
    /// The name of the route in mesh.yaml.
    pub route: Arc<str>,
    /// Template, path or expression: what metrics and people know the row by.
    pub pattern: String,
    /// What it asks beside host and path.
    pub conditions: Conditions,
    /// How long a call may take as a whole.
    pub timeout: Duration,
    /// What else its route does with them; all rows of a route share it.
    pub policies: Arc<Policies>,
    /// Which of the path's variables the split of the route is sticky by, if it is by one.
    pub variable: Option<usize>,
    /// Its numbers.
    pub stats: Arc<RouteStats>,
    /// What becomes of its requests.
    pub target: Target,
}

/// What becomes of the requests that a row takes.
#[derive(Debug)]
pub enum Target {
    /// A gRPC call.
    Transcode(Box<Transcoded>),
    /// A gRPC call that streams.
    Stream(Box<Streamed>),
    /// Calls of clients that speak gRPC themselves, handed on.
    Grpc(Box<Passed>),
    /// The request as it is, to a backend that speaks HTTP.
    PassThrough,
    /// An answer that sends the client elsewhere.
    Redirect(Redirect),
    /// Nothing yet: the descriptors that say how are waited for.
    Waiting {
        /// What is waited for, in words.
        what: Arc<str>,
        /// How failures of its profile look.
        errors: Arc<Errors>,
    },
    /// A page that the gateway answers itself.
    System {
        /// Which.
        page: SystemPage,
        /// How failures of its profile look.
        errors: Arc<Errors>,
        /// What it speaks for.
        served: Arc<Served>,
    },
}

/// A transcoded row.
#[derive(Debug)]
pub struct Transcoded {
    /// From request to message and back.
    pub binding: Binding,
    /// The method's prepared request head.
    pub method: Method,
    /// The same where the request goes to a cluster that speaks HTTP.
    pub http_policy: CallPolicy,
    /// The largest request body.
    pub max_body: usize,
    /// How its calls are repeated.
    pub policy: CallPolicy,
    /// Of its answers.
    pub content_type: HeaderValue,
    /// Headers that cross as metadata beside those that always do.
    pub crossing: Box<[HeaderName]>,
    /// Answers are compressed for clients that want that.
    pub compression: bool,
    /// What becomes of the metadata of replies.
    pub returning: ResponseMetadata,
    /// What clients of Connect send and get as JSON.
    pub(crate) messages: Messages,
}

/// A transcoded row whose method streams.
#[derive(Debug)]
pub struct Streamed {
    /// What it has like any other.
    pub transcoded: Transcoded,
    /// What clients get that do not say what they want.
    pub(crate) form: Form,
    /// How long the next message is waited for.
    pub idle_timeout: Duration,
}

/// The pages of the Phase 1 contract that the gateway answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemPage {
    /// `/api/v1/health`
    Health,
    /// `/api/v1/system/pools`
    Pools,
    /// `/api/v1/system/object-pools`
    ObjectPools,
    /// `/api/v1/system/grpc-pools`
    GrpcPools,
    /// `/api/v1/system/kafka`
    Kafka,
    /// `/api/v1/system/metrics/stats`
    MetricsStats,
    /// `/api/v1/system/services/health`
    ServicesHealth,
}

impl SystemPage {
    /// Every page with its path.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Health, "/api/v1/health"),
        (Self::Pools, "/api/v1/system/pools"),
        (Self::ObjectPools, "/api/v1/system/object-pools"),
        (Self::GrpcPools, "/api/v1/system/grpc-pools"),
        (Self::Kafka, "/api/v1/system/kafka"),
        (Self::MetricsStats, "/api/v1/system/metrics/stats"),
        (Self::ServicesHealth, "/api/v1/system/services/health"),
    ];
}

impl Row {
    /// How the row's failures look; a row that passes HTTP through has no shape of its own.
    pub fn shape(&self) -> Option<&Errors> {
        match &self.target {
            Target::Transcode(transcoded) => Some(&transcoded.binding.errors),
            Target::Stream(streamed) => Some(&streamed.transcoded.binding.errors),
            Target::System { errors, .. } | Target::Waiting { errors, .. } => Some(errors),
            Target::Grpc(_) | Target::PassThrough | Target::Redirect(_) => None,
        }
    }

    /// What it transcodes by, if it does.
    pub(crate) fn transcoded(&self) -> Option<&Transcoded> {
        match &self.target {
            Target::Transcode(transcoded) => Some(transcoded),
            Target::Stream(streamed) => Some(&streamed.transcoded),
            _ => None,
        }
    }

    /// Whether answers that the gateway writes are compressed for clients that want that.
    pub(crate) fn compresses(&self) -> bool {
        match &self.target {
            Target::Grpc(passed) => passed.compression,
            _ => self.transcoded().is_some_and(|row| row.compression),
        }
    }

    /// How long the next message of a stream is waited for.
    pub(crate) fn idle_timeout(&self) -> Duration {
        match &self.target {
            Target::Stream(streamed) => streamed.idle_timeout,
            Target::Grpc(passed) => passed.idle_timeout,
            _ => self.timeout,
        }
    }

    /// Where a request goes.
    pub(crate) fn choose(&self, head: &Head, captures: &Captures) -> Chosen {
        let variable = self
            .variable
            .and_then(|index| captures.raw(head.path(), index));
        self.policies.destination.choose(head, variable)
    }

    /// The variables of its path, in the order of the captures.
    pub(crate) fn variables(&self) -> &[Variable] {
        match &self.target {
            Target::Transcode(transcoded) => transcoded.binding.template.variables(),
            Target::Stream(streamed) => streamed.transcoded.binding.template.variables(),
            Target::Grpc(_)
            | Target::PassThrough
            | Target::Redirect(_)
            | Target::System { .. }
            | Target::Waiting { .. } => &[],
        }
    }

    /// The cluster that it goes to where nothing says otherwise, if it leaves the gateway.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        match &self.target {
            Target::Transcode(_) | Target::Stream(_) | Target::Grpc(_) | Target::PassThrough => {
                self.policies.destination.primary()
            }
            Target::Redirect(_) | Target::System { .. } | Target::Waiting { .. } => None,
        }
    }
}
