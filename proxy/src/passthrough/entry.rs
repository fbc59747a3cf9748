//! The way of a request to a backend: through the limits of its route and of a cluster to an endpoint.
//!
//! Every wait here ends when the client leaves or the time is up. Where nothing of a cluster takes the request and
//! nobody can have executed it, the way begins again at the next fallback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;
use tokio::time::{Instant, sleep_until};

use super::client::{answer, while_it_waits};
use super::failure::Failure;
use super::tries::Tries;
use super::{Decision, Pass, broken, forward};
use crate::edge::Refusal;
use crate::error::{Blame, GatewayError};
use crate::mirror::Capture;
use crate::upstream::{Aim, Attempt, CallError, Cluster, connect};

/// How long is waited for a connection to become free before the endpoints are asked again.
const CROWDED: Duration = Duration::from_millis(5);

/// Why a request does not go on.
pub(super) enum Stop {
    /// Nobody waits for it any more.
    Left(Box<Error>),
    /// The client is told.
    Refused(GatewayError),
}

impl Pass {
    /// Lets the request in. True if it has been answered instead.
    pub(crate) async fn enter(&mut self, session: &mut Session) -> pingora_core::Result<bool> {
        // One id for all: every try, the copy for a mirror, and what is said of a failure.
        forward::name(session.req_header_mut())?;
        match self.admitted(session).await {
            Ok(()) => {
                self.copy = self.copied(session);
                Ok(false)
            }
            Err(Stop::Left(error)) => {
                self.left = true;
                Err(error)
            }
            Err(Stop::Refused(error)) => {
                self.observe(error.blame() == Blame::Upstream);
                let refusal = self.refusal(session, &error);
                // A body that is there already need not cost the client its connection.
                while_it_waits(session, tokio::task::yield_now()).await?;
                answer(session, refusal).await.map(|()| true)
            }
        }
    }

    /// A copy for the route's mirror, if there is to be one.
    fn copied(&self, session: &mut Session) -> Option<Capture> {
        let (row, decision) = (self.row()?, self.decision.as_deref()?);
        Capture::of(decision.worker, &decision.call, row, session)
    }

    /// Waits for a slot within the limits, and for an endpoint.
    async fn admitted(&mut self, session: &mut Session) -> Result<(), Stop> {
        self.within = self.part(session);
        let Some(row) = self.row() else {
            return Err(Stop::Left(Error::new(ErrorType::InternalError)));
        };
        let within = self
            .within
            .as_ref()
            .and_then(|within| within.options.timeout);
        let timeout = within.map_or(row.timeout, |within| within.min(row.timeout));
        let request = session.req_header();
        let length = request.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length| self.is_too_large(length)) {
            return Err(Stop::Refused(GatewayError::Refused(Refusal::BodyTooLarge)));
        }
        self.clock.wind(timeout, &request.headers);
        self.key = forward::key(self.policy(), request);
        self.count(session).await?;
        self.harmed(session).await?;
        self.let_in(session).await?;
        self.next = Some(self.pick(session).await?);
        Ok(())
    }

    /// Waits for a slot within the limits of the cluster.
    async fn let_in(&mut self, session: &mut Session) -> Result<(), Stop> {
        let Some(cluster) = self.cluster().cloned() else {
            return Err(Stop::Left(Error::new(ErrorType::InternalError)));
        };
        self.since = Instant::now();
        let admitted = while_it_waits(session, cluster.admit(self.clock.deadline())).await?;
        self.permit = Some(admitted?);
        Ok(())
    }

    /// Does to the request what the route wants done to some.
    async fn harmed(&self, session: &mut Session) -> Result<(), Stop> {
        let Some(fault) = self.row().and_then(|row| row.policies.fault.as_ref()) else {
            return Ok(());
        };
        let headers = session.req_header().headers.clone();
        let carries = |name: &str| headers.contains_key(name);
        let fault = fault.inject(carries, self.clock.deadline());
        while_it_waits(session, fault).await?.map_err(Stop::Refused)
    }

    /// The endpoint of the next try.
    pub(crate) async fn peer(
        &mut self,
        session: &mut Session,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        let picked = match self.next.take() {
            Some(picked) => Ok(picked),
            None => self.pick(session).await,
        };
        let (mut attempt, address) = match picked {
            Ok(picked) => picked,
            Err(Stop::Left(error)) => {
                self.left = true;
                return Err(error);
            }
            Err(Stop::Refused(error)) => {
                self.tries.keep(error);
                return Err(Error::new(ErrorType::ConnectNoRoute));
            }
        };
        let Some(cluster) = self.cluster() else {
            return Err(Error::new(ErrorType::InternalError));
        };
        attempt.set_deadline(self.clock.deadline(), self.clock.is_impatient());
        let left = self
            .clock
            .deadline()
            .saturating_duration_since(Instant::now());
        let patience = self.try_limit().map_or(left, |limit| limit.min(left));
        let worker = self.worker();
        let peer = connect::peer(cluster, (attempt.endpoint(), worker), address, patience);
        self.attempt = Some(attempt);
        Ok(Box::new(peer))
    }

    /// An endpoint for the next try, when it is time for it. Where none is left but such as have no connection
    /// free, they are waited for; where none is left at all, the next fallback is asked.
    async fn pick(&mut self, session: &mut Session) -> Result<(Attempt, SocketAddr), Stop> {
        let worker = self.worker();
        let mut place = None;
        loop {
            if let Some(moment) = self.tries.not_before() {
                while_it_waits(session, sleep_until(moment)).await?;
            }
            let (now, deadline) = (Instant::now(), self.clock.deadline());
            if now >= deadline {
                return Err(CallError::DeadlineExceeded.into());
            }
            let Some(cluster) = self.cluster().cloned() else {
                return Err(Stop::Left(Error::new(ErrorType::InternalError)));
            };
            let decision = self.decision.clone();
            let row = decision.as_deref().and_then(Decision::row);
            let aim = row.map_or_else(Aim::default, |row| {
                row.policies.destination.aim(self.chosen, &cluster)
            });
            let aim = self.within.as_ref().map_or(aim, |within| within.aim(aim));
            let error = match self.tries.start(&cluster, worker, aim) {
                Ok(picked) => return Ok(picked),
                Err(error) => error,
            };
            if matches!(error, CallError::Overloaded) && self.tries.is_fresh() {
                // Every endpoint has as much as it may.
                match &place {
                    None => place = cluster.concurrency().join(),
                    Some(place) => while_it_waits(session, place.called(deadline)).await?,
                }
                if place.is_some() {
                    continue;
                }
            }
            if self.tries.is_closed() {
                while_it_waits(session, sleep_until(deadline.min(now + CROWDED))).await?;
                self.tries.ask_again();
                continue;
            }
            if self.tries.is_crowded() {
                if self.has_room(session, &cluster).await? {
                    continue;
                }
            } else {
                let elsewhere = row.is_some_and(|row| row.policies.destination.has_fallback());
                if self.may(session, |tries, terms| {
                    tries.nowhere(&error, elsewhere, terms)
                }) {
                    continue;
                }
            }
            let failure = self.tries.last().unwrap_or(error.into());
            if !self.falls_back(session, &failure) {
                return Err(Stop::Refused(failure));
            }
            place = None;
            self.let_in(session).await?;
        }
    }

    /// Waits until there may be room for a connection; false if `pending` others do already.
    async fn has_room(
        &mut self,
        session: &mut Session,
        cluster: &Arc<Cluster>,
    ) -> Result<bool, Stop> {
        cluster.make_room();
        self.tries.ask_again();
        let concurrency = cluster.concurrency();
        if self.tries.has_waited() {
            let place = concurrency.join_again();
            let called = place.called(self.clock.deadline());
            while_it_waits(session, called).await?;
            return Ok(true);
        }
        // There may be room by now; whoever finds none has the right to wait.
        let may_wait = concurrency.join().is_some();
        if may_wait {
            self.tries.waits();
        }
        Ok(may_wait)
    }

    /// Whether a request that no backend has executed goes to another cluster.
    fn falls_back(&mut self, session: &Session, failure: &GatewayError) -> bool {
        let (Some(row), GatewayError::Call(error)) = (self.row(), failure) else {
            return false;
        };
        if !broken::is_replayable(session) {
            return false;
        }
        let Some(next) = row.policies.destination.fall_back(self.chosen, error) else {
            return false;
        };
        self.chosen = next;
        self.within = self.part(session);
        (self.tries, self.permit) = (Tries::default(), None);
        true
    }
}

// === impl Stop ===

impl From<Box<Error>> for Stop {
    fn from(error: Box<Error>) -> Self {
        match Failure::of(&error) {
            Failure::Invalid(refusal) => Self::Refused(GatewayError::Refused(refusal)),
            _ => Self::Left(error),
        }
    }
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        Self::Refused(error.into())
    }
}
