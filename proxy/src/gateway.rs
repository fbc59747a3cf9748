//! The gateway's two faces, as tables of contents: what the edge asks of it, and what pingora asks of it.
//!
//! Every callback names the function that does the work. Refused here: logic.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session};
use transcode::Captures;

use crate::edge::{self, Alarm, Answer, Client, Head, Lane, Refusal};
use crate::metrics::{Metrics, RouteLabels, RouteStats};
use crate::passthrough::{self, Pass};
use crate::route_table::{Found, Target};
use crate::shedding::Shedding;
use crate::stream::websocket;
use crate::unary::{self, Call};
use crate::worker_table::{Published, WorkerTable};
use crate::{cors, door, error::GatewayError, grpc, refusals, stream};

/// Idle connections to backends that speak HTTP that are kept, of all clusters together.
const IDLE_CONNECTIONS: usize = 4096;

/// What the edge talks to: one value for all workers.
pub(crate) struct Gateway {
    published: Arc<Published>,
    shedding: Arc<Shedding>,
    /// Requests that no row takes.
    unmatched: Arc<RouteStats>,
    /// The largest body of a request that is passed through.
    max_body: u64,
    proxy: Arc<HttpProxy<PassThrough>>,
}

/// What pingora talks to, for requests that are passed through.
pub(crate) struct PassThrough;

impl Gateway {
    /// A gateway that routes by what is published.
    pub(crate) fn new(
        published: Arc<Published>,
        shedding: Arc<Shedding>,
        metrics: &Metrics,
        max_body: u64,
    ) -> Self {
        let labels = RouteLabels {
            method: "*".into(),
            endpoint: "unmatched".into(),
            grpc: None,
        };
        let mut proxy = HttpProxy::new(PassThrough, Arc::new(upstream_side()));
        proxy.handle_init_modules();
        Self {
            published,
            shedding,
            unmatched: metrics.route(labels),
            max_body,
            proxy: Arc::new(proxy),
        }
    }

    fn enter(
        &self,
        worker: usize,
        table: Arc<WorkerTable>,
        index: u32,
        captures: Captures,
        head: &Head,
    ) -> Lane<Call> {
        let Some(row) = table.row(index) else {
            return Lane::Answer(refusals::lost_row());
        };
        match door::enter(worker, &self.shedding, row, head, &captures) {
            Ok(ticket) => lane(
                worker,
                Call::new(table, index, captures, ticket, head),
                head,
            ),
            Err(answer) => Lane::Answer(*answer),
        }
    }

    /// Rows take the path, but not with this method. What methods there are is for the gateway to say where it transcodes.
    fn other_method(
        &self,
        worker: usize,
        head: &Head,
        table: &WorkerTable,
        (allow, row): (String, u32),
    ) -> Answer {
        let own = table.row(row).filter(|row| row.shape().is_some());
        match own {
            Some(row) if *head.method() == Method::OPTIONS => {
                let mut answer = refusals::methods(&allow);
                row.policies.answer(head, &mut answer.headers);
                row.stats
                    .answered(worker, answer.status, head.received().elapsed());
                answer
            }
            _ => {
                let method = head.method().to_string();
                let error = GatewayError::MethodNotAllowed { method, allow };
                self.refused(worker, head, &error, Some(row))
            }
        }
    }

    fn refused(
        &self,
        worker: usize,
        head: &Head,
        error: &GatewayError,
        row: Option<u32>,
    ) -> Answer {
        let table = self.published.load(worker);
        let known = row.or_else(|| match table.find(head) {
            Found::Row(row, _) => Some(row),
            _ => None,
        });
        let known = known.and_then(|row| table.row(row));
        let shape = known.or_else(|| table.closest(head.path()));
        let mut answer = refusals::failed(shape, head.into(), error);
        if let Some(row) = known {
            row.policies.answer(head, &mut answer.headers);
        }
        self.unmatched
            .answered(worker, answer.status, head.received().elapsed());
        answer
    }
}

impl edge::Service for Gateway {
    type Call = Call;

    fn route(&self, worker: usize, head: &Head) -> Lane<Call> {
        let table = self.published.load(worker);
        if let Some(answer) = preflight(&table, head) {
            return Lane::Answer(answer);
        }
        let found = match head.wants_websocket() {
            false => table.find(head),
            true => websocket::find(&table, head),
        };
        match found {
            Found::Row(row, captures) => self.enter(worker, table, row, captures, head),
            Found::MethodNotAllowed { allow, row } => {
                Lane::Answer(self.other_method(worker, head, &table, (allow, row)))
            }
            Found::NotFound => {
                let error = match table.waiting() {
                    Some(what) => GatewayError::DescriptorsUnknown(what.to_string()),
                    None => GatewayError::NotFound(head.path().to_owned()),
                };
                Lane::Answer(self.refused(worker, head, &error, None))
            }
        }
    }

    async fn unary(&self, worker: usize, call: Call, head: &Head, body: &[u8]) -> Answer {
        unary::answer(worker, call, head, body).await
    }

    async fn stream(
        &self,
        worker: usize,
        call: Call,
        head: &Head,
        client: &mut dyn Client,
    ) -> Option<Answer> {
        stream::answer(worker, call, head, client).await
    }

    async fn pass_through(
        &self,
        worker: usize,
        call: Call,
        session: ServerSession,
        alarm: Alarm,
        drain: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let pipeline = self.proxy.process_new_http(session, drain);
        passthrough::scope(worker, call, self.max_body, alarm, pipeline).await
    }

    fn refuse(&self, worker: usize, head: Option<&Head>, refusal: Refusal) -> Answer {
        let error = GatewayError::Refused(refusal);
        match head {
            Some(head) => self.refused(worker, head, &error, None),
            None => refusals::headless(&error),
        }
    }
}

/// The answer to a browser that asks before it lets a script call a route, where the route has words for browsers.
fn preflight(table: &WorkerTable, head: &Head) -> Option<Answer> {
    let method = cors::asked(head)?;
    let Found::Row(row, _) = table.find_as(head, &method) else {
        return None;
    };
    let cors = table.row(row)?.policies.cors.as_ref()?;
    Some(cors.preflight(head, &method))
}

/// Pingora's settings. How often a request is tried is decided in `passthrough`.
fn upstream_side() -> ServerConf {
    ServerConf {
        max_retries: usize::MAX,
        upstream_keepalive_pool_size: IDLE_CONNECTIONS,
        ..ServerConf::default()
    }
}

/// The lane of a row's target.
fn lane(worker: usize, call: Call, head: &Head) -> Lane<Call> {
    let row = call.table.row(call.row);
    match row.map(|row| &row.target) {
        Some(Target::Transcode(_)) if row.is_some_and(|row| grpc::is_native(row, head)) => {
            Lane::Stream { call }
        }
        Some(Target::Transcode(transcoded)) => {
            let max_body = transcoded.max_body;
            Lane::Unary { call, max_body }
        }
        Some(Target::Stream(_)) if head.wants_websocket() => websocket::lane(call, head),
        Some(Target::PassThrough) => Lane::PassThrough { call },
        Some(Target::Stream(_) | Target::Grpc(_)) => Lane::Stream { call },
        Some(Target::System { .. }) => Lane::Unary { call, max_body: 0 },
        Some(Target::Redirect(_) | Target::Waiting { .. }) => {
            Lane::Answer(unary::at_once(worker, &call, head))
        }
        None => Lane::Answer(refusals::lost_row()),
    }
}

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = Pass;

    fn new_ctx(&self) -> Pass {
        Pass::current()
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        pass: &mut Pass,
    ) -> pingora_core::Result<bool> {
        pass.enter(session).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        pass: &mut Pass,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        pass.peer(session).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        pass: &mut Pass,
    ) -> pingora_core::Result<()> {
        pass.forward(session, request)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        piece: &mut Option<Bytes>,
        last: bool,
        pass: &mut Pass,
    ) -> pingora_core::Result<()> {
        pass.uploading(session, piece.as_ref(), last)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        pass: &mut Pass,
    ) -> pingora_core::Result<()> {
        pass.weigh(session, response)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        pass: &mut Pass,
    ) -> pingora_core::Result<()> {
        pass.describe_in(response)?;
        pass.respond(session, response);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        piece: &mut Option<Bytes>,
        last: bool,
        pass: &mut Pass,
    ) -> pingora_core::Result<Option<Duration>> {
        pass.answering(piece, last);
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        pass: &mut Pass,
        error: Box<pingora_core::Error>,
    ) -> Box<pingora_core::Error> {
        pass.not_connected(error)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<pingora_core::Error>,
        pass: &mut Pass,
        reused: bool,
    ) -> Box<pingora_core::Error> {
        pass.broken(session, error, reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &pingora_core::Error,
        pass: &mut Pass,
    ) -> FailToProxy {
        pass.failed(session, error).await
    }

    fn suppress_error_log(&self, _: &Session, _: &Pass, _: &pingora_core::Error) -> bool {
        true // `Pass::failed` has logged it, with the route's name
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Pass,
        _: &pingora_core::Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true // tries are counted, not logged
    }

    async fn logging(
        &self,
        session: &mut Session,
        _: Option<&pingora_core::Error>,
        pass: &mut Pass,
    ) {
        pass.done(session)
    }
}
