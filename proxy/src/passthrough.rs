//! The pass-through lane: plain HTTP to a backend that speaks it, on pingora's own upstream pipeline.
//!
//! ```text
//! enter (limits) -> peer (pick) -> connect -> forward -> responded -> done
//!                     ^------------- not_connected, broken: another try
//! ```
//!
//! The edge has routed the request already; the decision reaches pingora's callbacks through a task-local,
//! because pingora makes their context itself. A connection that could not be made is tried again at another
//! endpoint while there is one; what may have reached a backend is repeated only if its method is idempotent.

mod client;
mod clock;
mod forward;
mod limit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, Session};
use resilience::limiter::{Limiter, Permit};
use tokio::time::{Instant, sleep_until};

use self::client::{answer, asked, while_it_waits};
use self::clock::Clock;
use crate::edge::Alarm;
use crate::error::GatewayError;
use crate::rate_limit::Ticket;
use crate::refusals;
use crate::route_table::Row;
use crate::unary::Call;
use crate::upstream::{Attempt, CallError, Cluster, Endpoint, Outcome, Tried, connect, hurry};

/// How long a request whose time is up may take to say so before it is dropped without an answer.
const GRACE: Duration = Duration::from_secs(1);
/// How long is waited for a connection to become free before the endpoints are asked again.
const CROWDED: Duration = Duration::from_millis(5);
/// An answer that goes on for longer is no longer expected to break: its outcome is what its head said.
const LONG_ANSWER: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The request that this task passes through.
    static CURRENT: Arc<Decision>;
}

/// What the edge's routing decided.
#[derive(Debug)]
struct Decision {
    worker: usize,
    call: Call,
    /// What the rate limit said at the door, until a `Pass` takes it.
    ticket: Mutex<Ticket>,
    alarm: Alarm,
}

/// One request on its way through pingora.
#[derive(Debug)]
pub(crate) struct Pass {
    decision: Option<Arc<Decision>>,
    ticket: Ticket,
    clock: Clock,
    /// Its place within the limits of the cluster.
    permit: Option<Permit<Arc<Limiter>>>,
    /// The endpoint of the next try, if it has been picked already.
    next: Option<(Attempt, SocketAddr)>,
    /// The current try; its endpoint counts it as in flight until it is dropped.
    attempt: Option<Attempt>,
    /// What the head of the answer said, and when.
    answered: Option<(Outcome, Instant)>,
    /// Endpoints that are not asked again.
    tried: Tried,
    /// Those of `tried` that only had no connection free.
    crowded: Tried,
    error: Option<GatewayError>,
}

/// Why a request does not go on.
enum Stop {
    /// Nobody waits for it any more.
    Left(Box<Error>),
    /// The client is told.
    Refused(GatewayError),
}

/// Runs pingora's pipeline for a request that the edge has routed. `None` also if it was dropped, because a
/// backend took neither the request's body nor notice of its deadline.
pub(crate) async fn scope<T>(
    worker: usize,
    mut call: Call,
    alarm: Alarm,
    pipeline: impl Future<Output = Option<T>>,
) -> Option<T> {
    let began = Instant::now();
    let ticket = std::mem::replace(&mut call.ticket, Ticket::Free);
    let decision = Arc::new(Decision {
        worker,
        call,
        ticket: Mutex::new(ticket),
        alarm: alarm.clone(),
    });
    let exchange = CURRENT.scope(decision.clone(), pipeline);
    let ended = alarm.watch(GRACE, exchange).await;
    if ended.is_none()
        && let Some(row) = decision.row()
    {
        tracing::warn!(
            route = &*row.route,
            "dropped: the backend takes nothing and the time is up"
        );
        row.stats.answered(worker, 504, began.elapsed());
    }
    ended?
}

impl Decision {
    fn row(&self) -> Option<&Row> {
        self.call.table.row(self.call.row)
    }
}

// === impl Pass ===

impl Pass {
    /// The context of the request that the current task passes through.
    pub(crate) fn current() -> Self {
        let decision = CURRENT.try_with(Arc::clone).ok();
        let ticket = decision.as_deref().map_or(Ticket::Free, |decision| {
            std::mem::replace(&mut *decision.ticket.lock(), Ticket::Free)
        });
        Self {
            decision,
            ticket,
            clock: Clock::start(Instant::now()),
            permit: None,
            next: None,
            attempt: None,
            answered: None,
            tried: Tried::new(),
            crowded: Tried::new(),
            error: None,
        }
    }

    fn row(&self) -> Option<&Row> {
        self.decision.as_deref()?.row()
    }

    fn cluster(&self) -> Option<&Arc<Cluster>> {
        let chosen = self.decision.as_deref()?.call.chosen;
        self.row()?.policies.destination.cluster(chosen)
    }

    fn alarm(&self) -> Option<&Alarm> {
        Some(&self.decision.as_deref()?.alarm)
    }

    fn has_run_out_of_time(&self) -> bool {
        self.alarm().is_some_and(Alarm::has_struck)
    }

    /// Lets the request in. True if it has been answered instead.
    pub(crate) async fn enter(&mut self, session: &mut Session) -> pingora_core::Result<bool> {
        match self.admitted(session).await {
            Ok(()) => Ok(false),
            Err(Stop::Left(error)) => Err(error),
            Err(Stop::Refused(error)) => {
                let mut refusal = refusals::failed(self.row(), asked(session), &error);
                self.describe(&mut refusal.headers);
                // A body that is there already need not cost the client its connection.
                while_it_waits(session, tokio::task::yield_now()).await?;
                answer(session, refusal).await.map(|()| true)
            }
        }
    }

    /// Waits for a slot within the limits, and for an endpoint.
    async fn admitted(&mut self, session: &mut Session) -> Result<(), Stop> {
        self.count(session).await?;
        let (Some(cluster), Some(row)) = (self.cluster().cloned(), self.row()) else {
            return Err(Stop::Left(Error::new(ErrorType::InternalError)));
        };
        let timeout = row.timeout;
        self.clock.wind(timeout, &session.req_header().headers);
        let admitted = while_it_waits(session, cluster.admit(self.clock.deadline())).await?;
        self.permit = Some(admitted?);
        self.next = Some(self.pick(&cluster, session).await?);
        Ok(())
    }

    /// The endpoint of the next try.
    pub(crate) async fn peer(
        &mut self,
        session: &mut Session,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        let Some(cluster) = self.cluster().cloned() else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let picked = match self.next.take() {
            Some(picked) => Ok(picked),
            None => self.pick(&cluster, session).await,
        };
        let (attempt, address) = match picked {
            Ok(picked) => picked,
            Err(Stop::Left(error)) => return Err(error),
            Err(Stop::Refused(error)) => {
                self.error = Some(error);
                return Err(Error::new(ErrorType::ConnectNoRoute));
            }
        };
        let left = self
            .clock
            .deadline()
            .saturating_duration_since(Instant::now());
        let peer = connect::peer(&cluster, attempt.endpoint(), address, left);
        self.attempt = Some(attempt);
        Ok(Box::new(peer))
    }

    /// An endpoint that has an address. Where none is left but such as have no connection free, they are waited
    /// for; otherwise the first error is the one that stands.
    async fn pick(
        &mut self,
        cluster: &Arc<Cluster>,
        session: &mut Session,
    ) -> Result<(Attempt, SocketAddr), Stop> {
        loop {
            let now = Instant::now();
            let error = match self.pick_now(cluster) {
                Ok(picked) => return Ok(picked),
                Err(error) => error,
            };
            let deadline = self.clock.deadline();
            if self.crowded.is_empty() || now >= deadline {
                let first = self.error.take();
                return Err(Stop::Refused(first.unwrap_or(error.into())));
            }
            while_it_waits(session, sleep_until(deadline.min(now + CROWDED))).await?;
            let again = std::mem::take(&mut self.crowded);
            self.tried
                .retain(|tried| !again.iter().any(|other| Arc::ptr_eq(other, tried)));
        }
    }

    /// Endpoints whose names have no address yet are passed over.
    fn pick_now(&mut self, cluster: &Arc<Cluster>) -> Result<(Attempt, SocketAddr), CallError> {
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

    /// A connection is there: the request as the backend gets it.
    pub(crate) fn forward(
        &mut self,
        session: &mut Session,
        request: &mut RequestHeader,
    ) -> pingora_core::Result<()> {
        self.error = None;
        forward::introduce(session, request)?;
        let now = Instant::now();
        self.clock
            .try_begins(now, session.as_ref().body_bytes_read());
        let deadline = self.clock.deadline();
        if session.as_mut().is_body_done() || self.clock.is_limited_by_client() {
            hurry(request, deadline.saturating_duration_since(now))?;
        }
        if let Some(alarm) = self.alarm() {
            alarm.set(deadline);
        }
        Ok(())
    }

    /// A piece of the request's body has come.
    pub(crate) fn uploading(&mut self, session: &Session) {
        if self.answered.is_some() {
            return;
        }
        let uploaded = session.as_ref().body_bytes_read();
        if self.clock.uploading(Instant::now(), uploaded)
            && let Some(alarm) = self.alarm()
        {
            alarm.set(self.clock.deadline());
        }
    }

    /// The backend is answering: from here on it is only silence that is bounded.
    pub(crate) fn responded(&mut self, session: &mut Session, response: &ResponseHeader) {
        let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if response.status.is_informational() && !upgraded {
            return;
        }
        if let Some(alarm) = self.alarm() {
            alarm.clear();
        }
        if upgraded {
            session.as_mut().set_read_timeout(Some(connect::SILENCE));
        }
        let outcome = match response.status.is_server_error() {
            true => Outcome::BackendError,
            false => Outcome::Ok,
        };
        self.answered = Some((outcome, Instant::now()));
        if let Some(attempt) = &mut self.attempt {
            attempt.answering();
            if upgraded {
                attempt.settle(outcome);
            }
        }
    }

    /// A piece of the answer's body has come.
    pub(crate) fn answering(&mut self) {
        if let (Some((outcome, since)), Some(attempt)) = (self.answered, &mut self.attempt)
            && since.elapsed() > LONG_ANSWER
        {
            attempt.settle(outcome);
        }
    }

    /// A connection could not be made: another endpoint is tried, if there is one.
    pub(crate) fn not_connected(&mut self, mut error: Box<Error>) -> Box<Error> {
        // Without another endpoint the next `peer` says so, and the first error stands.
        error.set_retry(true);
        let Some(attempt) = self.attempt.take() else {
            return error;
        };
        let endpoint = attempt.endpoint().clone();
        if Instant::now() >= self.clock.deadline() {
            attempt.finish(Outcome::Timeout);
            self.error = Some(CallError::DeadlineExceeded.into());
            error.set_retry(false);
        } else if connect::is_unreachable(&error) {
            let why = connect::why(&error);
            self.note(unconnected(&endpoint, &why));
            attempt.connect_failed(&why);
            self.tried.push(endpoint);
        } else {
            self.note(match connect::is_full(&error) {
                true => CallError::Overloaded,
                false => unconnected(&endpoint, &connect::why(&error)),
            });
            attempt.withdraw();
            self.tried.push(endpoint.clone());
            self.crowded.push(endpoint);
        }
        error
    }

    fn note(&mut self, error: CallError) {
        self.error.get_or_insert(error.into());
    }

    /// A connection broke: a request on a reused one is repeated if its method is idempotent.
    pub(crate) fn broken(
        &mut self,
        session: &Session,
        mut error: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        let untouched = self.answered.is_none()
            && session.response_written().is_none()
            && !session.as_ref().retry_buffer_truncated();
        let late = self.has_run_out_of_time() && self.answered.is_none();
        let left = *error.esource() == ErrorSource::Downstream;
        let again = reused && untouched && !left && is_repeatable(&session.req_header().method);
        error.set_retry(again);
        if late {
            self.error = Some(CallError::DeadlineExceeded.into());
        }
        if let Some(mut attempt) = self.attempt.take() {
            match (late, left) {
                (true, _) => attempt.settle(Outcome::Timeout),
                (false, true) => {} // Its own end says what became of it.
                (false, false) => attempt.settle(match error.etype() {
                    ErrorType::ReadTimedout | ErrorType::WriteTimedout => Outcome::Timeout,
                    _ => Outcome::Reset,
                }),
            }
        }
        error
    }

    /// Words the failure, if the client can still be told.
    pub(crate) async fn failed(&mut self, session: &mut Session, error: &Error) -> FailToProxy {
        if let Some(alarm) = self.alarm() {
            alarm.clear();
        }
        let quiet = FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
        let left = *error.esource() == ErrorSource::Downstream && self.error.is_none();
        if left || session.response_written().is_some() {
            return quiet;
        }
        let failure = self.error.take().unwrap_or_else(|| gateway_error(error));
        let mut refusal = refusals::failed(self.row(), asked(session), &failure);
        self.describe(&mut refusal.headers);
        let status = refusal.status;
        // Whoever reads the answer and comes again finds the slot free.
        (self.permit, self.attempt) = (None, None);
        // Pingora does not take the connection back after an error.
        session.as_mut().set_keepalive(None);
        match answer(session, refusal).await {
            Ok(()) => FailToProxy {
                error_code: status,
                can_reuse_downstream: false,
            },
            Err(_) => quiet,
        }
    }

    /// Counts the request.
    pub(crate) fn done(&mut self, session: &Session) {
        if let (Some((outcome, _)), Some(mut attempt)) = (self.answered, self.attempt.take()) {
            attempt.settle(outcome);
        }
        let status = session
            .response_written()
            .map_or(499, |response| response.status.as_u16());
        if let (Some(row), Some(decision)) = (self.row(), &self.decision) {
            let took = self.clock.began.elapsed();
            row.stats.answered(decision.worker, status, took);
        }
    }
}

// === impl Stop ===

impl From<Box<Error>> for Stop {
    fn from(error: Box<Error>) -> Self {
        Self::Left(error)
    }
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        Self::Refused(error.into())
    }
}

/// Whether it does no harm to send such a request twice (RFC 9110 section 9.2.2).
fn is_repeatable(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

fn unconnected(endpoint: &Endpoint, why: &str) -> CallError {
    CallError::Connect {
        endpoint: endpoint.name().clone(),
        why: why.into(),
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
