//! The pass-through lane: plain HTTP to a backend that speaks it, on pingora's own upstream pipeline.
//!
//! ```text
//! enter (fault, limits) -> peer (pick) -> connect -> forward -> weigh -> respond -> done
//!                            ^--- not_connected, broken, weigh: another try
//! ```
//!
//! The edge has routed the request already; the decision reaches pingora's callbacks through a task-local,
//! because pingora makes their context itself. Whether there is another try is decided in [`tries`] and [`broken`].
//! Refused: bodies that are kept for another try and were too large to be kept whole.

mod body;
mod broken;
mod client;
mod clock;
mod entry;
mod failure;
mod forward;
mod limit;
mod tries;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use pingora_core::Error;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, Session};
use resilience::limiter::{Limiter, Permit};
use tokio::time::Instant;

use self::body::origin;
use self::client::{answer, asked};
use self::clock::Clock;
use self::tries::Tries;
use crate::compression::Flow;
use crate::destination::Chosen;
use crate::edge::{Alarm, Answer};
use crate::entries::{Asked, Within};
use crate::error::{Blame, GatewayError};
use crate::mirror::Capture;
use crate::rate_limit::Ticket;
use crate::refusals;
use crate::route_table::Row;
use crate::unary::Call;
use crate::upstream::{Attempt, CallPolicy, Cluster, Outcome, RetryTerms, connect, hurry};

/// How long a request whose time is up may take to say so before it is dropped without an answer.
const GRACE: Duration = Duration::from_secs(1);
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
    /// The largest body that is passed through.
    max_body: u64,
    alarm: Alarm,
}

/// One request on its way through pingora.
pub(crate) struct Pass {
    decision: Option<Arc<Decision>>,
    ticket: Ticket,
    clock: Clock,
    /// The cluster that it goes to, and since when it is with it.
    chosen: Chosen,
    /// The part of the cluster that takes it, where Consul's config entries say so.
    within: Option<Within>,
    since: Instant,
    /// Its place within the limits of the cluster.
    permit: Option<Permit<Arc<Limiter>>>,
    tries: Tries,
    /// The endpoint of the next try, if it has been picked already.
    next: Option<(Attempt, SocketAddr)>,
    /// The current try; its endpoint counts it as in flight until it is dropped.
    attempt: Option<Attempt>,
    /// The key that makes the request safe to repeat, if the gateway has to add one.
    key: Option<[(HeaderName, HeaderValue); 2]>,
    /// The answer of the current try is not taken: there is another one.
    declined: bool,
    /// What the head of the answer said, and when.
    answered: Option<(Outcome, Instant)>,
    /// The client waits no longer.
    left: bool,
    /// The copy for the route's mirror.
    copy: Option<Capture>,
    /// What encodes the answer's body, if that is done here.
    flow: Option<Flow>,
}

/// Runs pingora's pipeline for a request that the edge has routed. `None` also if it was dropped, because a
/// backend took neither the request's body nor notice of its deadline.
pub(crate) async fn scope<T>(
    worker: usize,
    mut call: Call,
    max_body: u64,
    alarm: Alarm,
    pipeline: impl Future<Output = Option<T>>,
) -> Option<T> {
    let began = Instant::now();
    let ticket = std::mem::replace(&mut call.ticket, Ticket::Free);
    let decision = Arc::new(Decision {
        worker,
        call,
        ticket: Mutex::new(ticket),
        max_body,
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
        let (decision, now) = (CURRENT.try_with(Arc::clone).ok(), Instant::now());
        let chosen = decision.as_deref().map(|decision| decision.call.chosen);
        let ticket = decision.as_deref().map_or(Ticket::Free, |decision| {
            std::mem::replace(&mut *decision.ticket.lock(), Ticket::Free)
        });
        Self {
            decision,
            ticket,
            clock: Clock::start(now),
            chosen: chosen.unwrap_or(Chosen::NOWHERE),
            within: None,
            since: now,
            permit: None,
            tries: Tries::default(),
            next: None,
            attempt: None,
            key: None,
            declined: false,
            answered: None,
            left: false,
            copy: None,
            flow: None,
        }
    }

    fn row(&self) -> Option<&Row> {
        self.decision.as_deref()?.row()
    }

    /// The thread that serves it.
    fn worker(&self) -> usize {
        let decision = self.decision.as_deref();
        decision.map_or(0, |decision| decision.worker)
    }

    fn cluster(&self) -> Option<&Arc<Cluster>> {
        match &self.within {
            Some(within) => Some(&within.cluster),
            None => self.row()?.policies.destination.cluster(self.chosen),
        }
    }

    /// The part of the chosen cluster that takes the request.
    fn part(&self, session: &Session) -> Option<Within> {
        let chain = self.row()?.policies.destination.chain(self.chosen)?;
        let request = session.req_header();
        let (path, query) = (request.uri.path(), request.uri.query());
        let asked = Asked::new(request.method.as_str(), path, query, &session);
        chain.choose(&asked, fastrand::u32(..))
    }

    /// When it is tried again.
    fn retry(&self) -> Option<&RetryTerms> {
        let within = self.within.as_ref();
        let within = within.and_then(|within| within.options.retry());
        within.or(self.policy().retry.as_ref())
    }

    fn policy(&self) -> &CallPolicy {
        self.row()
            .map_or(CallPolicy::NONE, |row| &row.policies.forwarded)
    }

    fn alarm(&self) -> Option<&Alarm> {
        Some(&self.decision.as_deref()?.alarm)
    }

    /// How long a single try may take, if that is bounded.
    fn try_limit(&self) -> Option<Duration> {
        self.retry().map(|retry| retry.per_try_timeout)
    }

    /// A connection is there: the request as the backend gets it.
    pub(crate) fn forward(
        &mut self,
        session: &mut Session,
        request: &mut RequestHeader,
    ) -> pingora_core::Result<()> {
        forward::introduce(session, request)?;
        if let Some(row) = self.row() {
            row.policies.shaping.request(request)?;
        }
        if let Some(within) = &self.within {
            within.options.request(request)?;
        }
        for (name, value) in self.key.iter().flatten() {
            request.insert_header(name.clone(), value.clone())?;
        }
        let now = Instant::now();
        self.clock
            .try_begins(now, session.as_ref().body_bytes_read());
        if body::is_short(session) || self.clock.is_limited_by_client() {
            hurry(request, self.until(now).saturating_duration_since(now))?;
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.sent(now);
        }
        self.arm(now);
        Ok(())
    }

    /// When the try that is under way is over.
    fn until(&self, now: Instant) -> Instant {
        let deadline = self.clock.deadline();
        self.try_limit()
            .map_or(deadline, |limit| deadline.min(now + limit))
    }

    fn arm(&self, now: Instant) {
        if let Some(alarm) = self.alarm() {
            alarm.set(self.until(now));
        }
    }

    fn disarm(&self) {
        if let Some(alarm) = self.alarm() {
            alarm.clear();
        }
    }

    /// A piece of the request's body has come.
    pub(crate) fn uploading(
        &mut self,
        session: &Session,
        piece: Option<&Bytes>,
        last: bool,
    ) -> pingora_core::Result<()> {
        let uploaded = session.as_ref().body_bytes_read();
        if self.is_too_large(uploaded as u64) {
            return Err(Error::new(failure::TOO_LARGE).into_down());
        }
        if let (Some(decision), Some(copy)) = (self.decision.as_deref(), &mut self.copy)
            && let Some(mirror) = decision.row().and_then(|row| row.policies.mirror.as_ref())
        {
            copy.request_body(mirror, piece.map_or(&[], |piece| piece), last);
        }
        let now = Instant::now();
        if self.answered.is_none() && self.clock.uploading(now, uploaded) {
            self.arm(now);
        }
        Ok(())
    }

    /// Whether a body of so many bytes is more than the listeners take.
    fn is_too_large(&self, bytes: u64) -> bool {
        let decision = self.decision.as_deref();
        decision.is_some_and(|decision| bytes > decision.max_body)
    }

    /// The backend is answering: from here on it is only silence that is bounded.
    pub(crate) fn respond(&mut self, session: &mut Session, response: &mut ResponseHeader) {
        let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if response.status.is_informational() && !upgraded {
            return;
        }
        if !upgraded {
            forward::dismiss(response);
        }
        self.disarm();
        if let Some(copy) = &mut self.copy {
            copy.answering(response.status.as_u16());
        }
        let outcome = Outcome::of_http(response.status.as_u16());
        self.answered = Some((outcome, Instant::now()));
        if let Some(attempt) = &mut self.attempt {
            attempt.answering();
            if upgraded {
                attempt.settle(outcome);
            }
        }
        if upgraded {
            session.as_mut().set_read_timeout(Some(connect::SILENCE));
        }
        self.observe(response.status.is_server_error());
        if let Some(row) = self.row() {
            row.policies.destination.taken(self.chosen);
            row.policies.shaping.response(response);
        }
        if let Some(within) = &self.within {
            within.response(response);
        }
        self.finish_head(session, response);
    }

    /// Judges the canary by what became of the request.
    fn observe(&self, failed: bool) {
        if let Some(destination) = self.row().map(|row| &row.policies.destination)
            && destination.is_judged()
        {
            destination.observe(self.chosen, failed, self.since.elapsed());
        }
    }

    /// A piece of the answer's body has come.
    pub(crate) fn answering(&mut self, piece: &mut Option<Bytes>, last: bool) {
        if let Some(copy) = &mut self.copy {
            copy.answer_body(piece.as_ref().map_or(&[], |piece| piece), last);
        }
        self.encode(piece, last);
        if let (Some((outcome, since)), Some(attempt)) = (self.answered, &mut self.attempt)
            && since.elapsed() > LONG_ANSWER
        {
            attempt.settle(outcome);
        }
    }

    /// Words the failure, if the client can still be told.
    pub(crate) async fn failed(&mut self, session: &mut Session, error: &Error) -> FailToProxy {
        self.disarm();
        let quiet = FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
        if self.left || session.response_written().is_some() {
            return quiet;
        }
        let last = self.tries.last();
        let failure = last.unwrap_or_else(|| GatewayError::Broken(failure::words(error)));
        if !(self.clock.is_impatient() && failure.is_late()) {
            self.observe(failure.blame() == Blame::Upstream);
        }
        let refusal = self.refusal(session, &failure);
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

    /// A failure as an answer of the route.
    fn refusal(&self, session: &Session, failure: &GatewayError) -> Answer {
        let mut refusal = refusals::failed(self.row(), asked(session), failure);
        self.describe(&mut refusal.headers);
        if let Some(row) = self.row() {
            row.policies.shaping.answer(&mut refusal.headers);
            if let Some(cors) = &row.policies.cors {
                cors.answer(origin(session), &mut refusal.headers);
            }
        }
        refusal
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
