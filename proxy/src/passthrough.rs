//! The pass-through lane: plain HTTP to a backend that speaks it, on pingora's own upstream pipeline.
//!
//! The edge has routed the request already; the decision reaches pingora's callbacks through a task-local,
//! because pingora makes their context itself. A connection that could not be made is tried again at another
//! endpoint while there is one; what may have reached a backend is repeated only if its method is idempotent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use mesh_config::model::Protocol;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, Session};
use tokio::time::Instant;

use crate::edge::Answer;
use crate::error::GatewayError;
use crate::refusals::{self, Asked, REQUEST_ID};
use crate::route_table::Row;
use crate::unary::Call;
use crate::upstream::{Attempt, CallError, Cluster, Outcome, Tried};

/// How long an idle connection to a backend is kept for the next request.
const POOL_IDLE: Duration = Duration::from_secs(60);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

tokio::task_local! {
    /// The request that this task passes through.
    static CURRENT: Arc<Decision>;
}

/// What the edge's routing decided.
#[derive(Debug)]
struct Decision {
    worker: usize,
    call: Call,
}

/// One request on its way through pingora.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    decision: Option<Arc<Decision>>,
    began: Option<Instant>,
    /// The current try; its endpoint counts it as in flight until it is dropped.
    attempt: Option<Attempt>,
    tried: Tried,
    error: Option<GatewayError>,
}

/// Runs pingora's pipeline for a request that the edge has routed.
pub(crate) async fn scope<T>(worker: usize, call: Call, pipeline: impl Future<Output = T>) -> T {
    CURRENT
        .scope(Arc::new(Decision { worker, call }), pipeline)
        .await
}

// === impl Pass ===

impl Pass {
    /// The context of the request that the current task passes through.
    pub(crate) fn current() -> Self {
        let decision = CURRENT.try_with(Arc::clone).ok();
        Self {
            decision,
            began: Some(Instant::now()),
            ..Self::default()
        }
    }

    fn row(&self) -> Option<&Row> {
        let decision = self.decision.as_deref()?;
        decision.call.table.row(decision.call.row)
    }

    fn cluster(&self) -> Option<&Arc<Cluster>> {
        let chosen = self.decision.as_deref()?.call.chosen;
        self.row()?.policies.destination.cluster(chosen)
    }

    /// The endpoint of the next try.
    pub(crate) fn peer(&mut self) -> pingora_core::Result<Box<HttpPeer>> {
        let (Some(cluster), Some(row)) = (self.cluster().cloned(), self.row()) else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let timeout = row.timeout;
        let (attempt, address) = match self.pick(&cluster) {
            Ok(picked) => picked,
            Err(error) => {
                self.error.get_or_insert(GatewayError::Call(error));
                return Err(Error::new(ErrorType::ConnectNoRoute));
            }
        };
        self.attempt = Some(attempt);
        let config = cluster.config();
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.connection_timeout = Some(config.connect_timeout.get());
        peer.options.total_connection_timeout = Some(config.connect_timeout.get());
        peer.options.read_timeout = Some(timeout);
        peer.options.write_timeout = Some(timeout);
        peer.options.idle_timeout = Some(POOL_IDLE);
        if config.protocol == Protocol::Http2 {
            peer.options.set_http_version(2, 2);
        }
        Ok(Box::new(peer))
    }

    /// An endpoint that has an address; those that have none yet are passed over.
    fn pick(&mut self, cluster: &Arc<Cluster>) -> Result<(Attempt, SocketAddr), CallError> {
        let worker = self
            .decision
            .as_deref()
            .map_or(0, |decision| decision.worker);
        loop {
            let attempt = cluster.pick(worker, &self.tried)?;
            if let Some(address) = attempt.endpoint().socket_addr() {
                return Ok((attempt, address));
            }
            self.tried.push(attempt.endpoint().clone());
            attempt.connect_failed("its host name has no address");
        }
    }

    /// The request as the backend gets it: who asked, by which door, under which id.
    pub(crate) fn forward(
        &mut self,
        session: &Session,
        request: &mut RequestHeader,
    ) -> pingora_core::Result<()> {
        let headers = &session.req_header().headers;
        let peer = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|address| address.ip().to_string());
        if let Some(peer) = peer {
            let before = headers
                .get_all(FORWARDED_FOR)
                .iter()
                .filter_map(|value| value.to_str().ok());
            let chain: Vec<&str> = before.chain([peer.as_str()]).collect();
            request.insert_header(FORWARDED_FOR, chain.join(", "))?;
        }
        if !headers.contains_key(FORWARDED_PROTO) {
            request.insert_header(FORWARDED_PROTO, "http")?;
        }
        if let Some(host) = headers
            .get(http::header::HOST)
            .filter(|_| !headers.contains_key(FORWARDED_HOST))
        {
            request.insert_header(FORWARDED_HOST, host.clone())?;
        }
        if !headers.contains_key(REQUEST_ID) {
            request.insert_header(REQUEST_ID, &*refusals::request_id(None))?;
        }
        Ok(())
    }

    /// The backend is answering: from here on it is only silence that is bounded.
    pub(crate) fn responded(&mut self, response: &ResponseHeader) {
        let failed = response.status.is_server_error();
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(if failed {
                Outcome::BackendError
            } else {
                Outcome::Ok
            });
        }
    }

    /// A connection could not be made: another endpoint is tried, if there is one.
    pub(crate) fn not_connected(&mut self, mut error: Box<Error>) -> Box<Error> {
        if let Some(attempt) = self.attempt.take() {
            let endpoint = attempt.endpoint().clone();
            let why = error.etype().as_str();
            let failure = CallError::Connect {
                endpoint: endpoint.name().clone(),
                why: why.into(),
            };
            self.error = Some(GatewayError::Call(failure));
            self.tried.push(endpoint);
            attempt.connect_failed(why);
        }
        // Without another endpoint the next `peer` says so, and the first error stands.
        error.set_retry(true);
        error
    }

    /// A connection broke: a request on a reused one is repeated if its method is idempotent.
    pub(crate) fn broken(
        &mut self,
        session: &Session,
        mut error: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        let repeatable = matches!(
            session.req_header().method,
            Method::GET
                | Method::HEAD
                | Method::PUT
                | Method::DELETE
                | Method::OPTIONS
                | Method::TRACE
        );
        let untouched =
            session.response_written().is_none() && !session.as_ref().retry_buffer_truncated();
        error.set_retry(reused && repeatable && untouched);
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(match error.etype() {
                ErrorType::ReadTimedout | ErrorType::WriteTimedout => Outcome::Timeout,
                _ => Outcome::Reset,
            });
        }
        error
    }

    /// Words the failure, if the client can still be told.
    pub(crate) async fn failed(&mut self, session: &mut Session, error: &Error) -> FailToProxy {
        let quiet = FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
        if *error.esource() == ErrorSource::Downstream || session.response_written().is_some() {
            return quiet;
        }
        let failure = self.error.take().unwrap_or_else(|| gateway_error(error));
        let answer = refusals::failed(self.row(), asked(session), &failure);
        let status = answer.status;
        match write(session, answer).await {
            Ok(()) => FailToProxy {
                error_code: status,
                can_reuse_downstream: false,
            },
            Err(_) => quiet,
        }
    }

    /// Counts the request.
    pub(crate) fn done(&self, session: &Session) {
        let status = session
            .response_written()
            .map_or(499, |response| response.status.as_u16());
        if let (Some(row), Some(decision), Some(began)) = (self.row(), &self.decision, self.began) {
            row.stats.answered(decision.worker, status, began.elapsed());
        }
    }
}

fn asked(session: &Session) -> Asked<'_> {
    let request = session.req_header();
    let header = |name: HeaderName| request.headers.get(name).map(http::HeaderValue::as_bytes);
    Asked {
        method: request.method.as_str(),
        path: request.uri.path(),
        id: header(REQUEST_ID),
        accept: header(http::header::ACCEPT),
    }
}

fn gateway_error(error: &Error) -> GatewayError {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout | ErrorType::ConnectTimedout => {
            GatewayError::Call(CallError::DeadlineExceeded)
        }
        _ => GatewayError::Broken(error.to_string()),
    }
}

async fn write(session: &mut Session, answer: Answer) -> pingora_core::Result<()> {
    let mut header = ResponseHeader::build(answer.status, Some(answer.headers.len() + 1))?;
    for (name, value) in answer.headers {
        header.append_header(name, value)?;
    }
    header.insert_header(http::header::CONTENT_LENGTH, answer.body.len())?;
    session
        .write_response_header(Box::new(header), false)
        .await?;
    session
        .write_response_body(Some(answer.body.into()), true)
        .await
}
