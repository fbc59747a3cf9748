//! The streaming lanes: calls whose messages go one by one, whatever the client speaks.
//!
//! ```text
//! may it pass? -> where to? -> the stream begins (or fails like any call) -> messages until either side ends
//! ```
//!
//! Until there is a first message the client has seen nothing, so that a failure is told with its status; after it,
//! in the form that the stream has. What a slow client has not taken is not asked of the backend. What the client
//! speaks is its [`Face`]'s: JSON ([`json`]) or gRPC ([`crate::grpc`]). Refused: streams to clusters that speak HTTP.

mod elements;
mod face;
mod form;
mod gathered;
mod json;
mod relay;
pub(crate) mod websocket;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use mesh_config::model::Protocol;
use tokio::time::Instant;

use crate::compression;
use crate::counted::Counted;
use crate::destination::Chosen;
use crate::edge::{Answer, Client, Head, ReadError, Refusal};
use crate::error::GatewayError;
use crate::grpc;
use crate::metadata::Metadata;
use crate::metrics::RouteStats;
use crate::rate_limit;
use crate::refusals;
use crate::route_table::{Row, Target};
use crate::unary::{Call, Patience, Request};
use crate::upstream::{Await, CallError, CallPolicy, Cluster, Method, Opened, StreamCall};

pub(crate) use self::face::{BrokenOff, Face, Finish};
pub(crate) use self::form::Form;
use self::relay::Relay;

/// Why a stream has no answer that the client could be told.
pub(crate) enum Ended {
    /// The client went away.
    Gone,
    /// It failed before it had begun.
    Failed(GatewayError),
}

/// A call that streams, as far as all kinds of them are alike.
pub(crate) struct Lane<'a> {
    pub(crate) worker: usize,
    pub(crate) call: &'a Call,
    pub(crate) row: &'a Row,
    pub(crate) head: &'a Head,
    /// Adds what the route's policies say to the head of an answer.
    pub(crate) decorate: &'a (dyn Fn(&mut Answer) + Sync),
    /// When the call began, if that was not with its head.
    began: OnceLock<Instant>,
}

/// What a backend is asked.
pub(crate) struct Asking<'a> {
    /// What is called.
    pub(crate) method: &'a Method,
    /// How its calls are repeated.
    pub(crate) policy: &'a CallPolicy,
    /// Its numbers.
    pub(crate) stats: &'a RouteStats,
    pub(crate) metadata: Metadata,
    /// Messages with their prefixes, or nothing.
    pub(crate) first: Bytes,
    /// The client has more to send.
    pub(crate) more: bool,
    pub(crate) await_for: Await,
    /// How large each message of the answer may be; `None`: its bytes are for the client to read.
    pub(crate) max_message: Option<usize>,
    /// The time of the route is for all of the call, not only until its answer begins.
    pub(crate) bounded: bool,
    /// How long each further message is waited for.
    pub(crate) idle_timeout: Duration,
    /// The client sends its messages when it likes to.
    pub(crate) chats: bool,
    /// An answer that streams is encoded if the client likes that.
    pub(crate) compress: bool,
}

/// Runs a call to its end. What it gives is whole; a stream has been written to the client.
pub(crate) async fn answer(
    worker: usize,
    mut call: Call,
    head: &Head,
    client: &mut dyn Client,
) -> Option<Answer> {
    let mut ticket = std::mem::replace(&mut call.ticket, rate_limit::Ticket::Free);
    let Some(row) = call.table.row(call.row) else {
        return Some(refusals::lost_row());
    };
    let mut counted = Counted::new(grpc::stats(row, head), worker, head);
    let limit = row.policies.rate_limit.as_ref();
    let settled = rate_limit::settle(limit, &mut ticket).await;
    let decorate = |answer: &mut Answer| {
        if let Some(limit) = limit {
            limit.describe(&ticket, &mut answer.headers);
        }
        row.policies.answer(head, &mut answer.headers);
    };
    let lane = Lane {
        worker,
        call: &call,
        row,
        head,
        decorate: &decorate,
        began: OnceLock::new(),
    };
    let ended = match settled {
        Ok(()) => lane.run(client).await,
        Err(error) => Err(Ended::Failed(error)),
    };
    let mut answer = match ended {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            counted.status = if head.is_websocket() { 101 } else { 200 };
            return None;
        }
        Err(Ended::Gone) => return None,
        Err(Ended::Failed(error)) => refusals::failed(Some(row), head.into(), &error),
    };
    decorate(&mut answer);
    if !head.is_websocket() && row.compresses() {
        compression::encode(head, &mut answer);
    }
    counted.status = answer.status;
    Some(answer)
}

// === impl Lane ===

impl Lane<'_> {
    async fn run(&self, client: &mut dyn Client) -> Result<Option<Answer>, Ended> {
        match &self.row.target {
            Target::Stream(streamed) if !grpc::is_native(self.row, self.head) => {
                json::run(self, streamed, client).await
            }
            _ => grpc::run(self, client).await,
        }
    }

    /// Until when the client waits for an answer to begin. A limit of its own is a moment, whenever the call begins.
    pub(crate) fn patience(&self) -> Patience {
        let mut patience = Patience::of(self.row, self.head);
        if let Some(began) = self.began.get()
            && !patience.impatient
        {
            patience.deadline = *began + self.row.timeout;
        }
        patience
    }

    /// The call begins now: until then its client had nothing to ask.
    fn begins_now(&self) {
        self.began.get_or_init(Instant::now);
    }

    /// Does to the request what the route wants done to some.
    pub(crate) async fn harm(&self, client: &mut dyn Client) -> Result<(), Ended> {
        if let Some(fault) = &self.row.policies.fault {
            let carries = |name: &str| self.head.header(name).is_some();
            watched(client, fault.inject(carries, self.patience().deadline)).await??;
        }
        Ok(())
    }

    /// Opens the stream and relays it. Nothing: all of the answer has been written.
    pub(crate) async fn relay(
        &self,
        client: &mut dyn Client,
        face: &mut dyn Face,
        asking: Asking<'_>,
    ) -> Result<Option<Answer>, Ended> {
        let (patience, began) = (self.patience(), Instant::now());
        let opened = watched(client, self.open(&asking)).await?;
        let code = match &opened {
            Ok(Opened::Over(reply)) => Some(reply.code),
            Ok(Opened::Live(_)) => None,
            Err(error) => Some(error.code()),
        };
        if let Some(code) = code {
            asking.stats.called(self.worker, code, began.elapsed());
        }
        let mut relay = Relay::new(self, client, face, &asking);
        match opened? {
            Opened::Over(reply) => relay.over(reply),
            Opened::Live(stream) => {
                relay.take(stream);
                relay.wait_until(patience.deadline, patience.impatient || asking.bounded);
                let ended = poll_fn(|cx| relay.poll(cx)).await;
                let code = relay.code(&ended);
                asking.stats.called(self.worker, code, began.elapsed());
                ended
            }
        }
    }

    /// The request as a unary call would have it.
    pub(crate) fn request<'b>(&'b self, body: &'b [u8]) -> Request<'b> {
        Request {
            worker: self.worker,
            call: self.call,
            row: self.row,
            head: self.head,
            body,
            patience: self.patience(),
            id: None,
            within: None,
            copy: None,
        }
    }

    /// Begins the stream at the chosen cluster, or at one that it falls back to.
    async fn open(&self, asking: &Asking<'_>) -> Result<Opened, GatewayError> {
        let destination = &self.row.policies.destination;
        let mut chosen = self.call.chosen;
        loop {
            let Some(cluster) = destination.cluster(chosen) else {
                return Err(CallError::NoHealthyUpstream("the route has no cluster".into()).into());
            };
            let mut request = self.request(&[]);
            let within = request.chosen_within(chosen);
            let cluster = within.as_ref().map_or(cluster, |within| &within.cluster);
            request.within = within.as_ref();
            let began = Instant::now();
            let result = ask(&request, cluster, asking).await;
            self.judge(chosen, &result, began.elapsed());
            let next = match &result {
                Err(GatewayError::Call(error)) => destination.fall_back(chosen, error),
                _ => None,
            };
            match next {
                Some(next) => chosen = next,
                None => return result,
            }
        }
    }

    /// Tells the destination how its side did, as far as a beginning shows it.
    fn judge(&self, chosen: Chosen, result: &Result<Opened, GatewayError>, took: Duration) {
        let destination = &self.row.policies.destination;
        let (failed, executed) = match result {
            Ok(Opened::Live(_)) => (false, true),
            Ok(Opened::Over(reply)) => (reply.code != 0 && !reply.is_callers_own(), true),
            Err(GatewayError::Call(error)) => (true, !error.never_executed()),
            Err(_) => return,
        };
        let is_late = result.as_ref().is_err_and(GatewayError::is_late);
        if !(self.patience().impatient && is_late) {
            destination.observe(chosen, failed, took);
        }
        if executed {
            destination.taken(chosen);
        }
    }
}

async fn ask(
    request: &Request<'_>,
    cluster: &Arc<Cluster>,
    asking: &Asking<'_>,
) -> Result<Opened, GatewayError> {
    if cluster.protocol() != Protocol::Grpc {
        return Err(GatewayError::StreamOverHttp {
            method: asking.method.path().to_owned(),
            cluster: cluster.name().to_string(),
        });
    }
    let terms = request.terms(asking.policy, cluster);
    let mut metadata = asking.metadata.clone();
    if let Some(within) = request.within {
        within.options.shaping().metadata(&mut metadata);
    }
    let call = StreamCall {
        method: asking.method,
        metadata: &metadata,
        first: asking.first.clone(),
        await_for: asking.await_for,
        max_message: asking.max_message,
        coding: None,
        ends: (terms.impatient || asking.bounded).then_some(terms.deadline),
        terms,
    };
    Ok(cluster.stream(request.worker, call).await?)
}

impl From<GatewayError> for Ended {
    fn from(error: GatewayError) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(GatewayError::Refused(refusal))
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Gone,
            ReadError::Refused(refusal) => refusal.into(),
        }
    }
}

/// Runs what does not read from the client, and gives it up when the client goes away.
async fn watched<T>(client: &mut dyn Client, work: impl Future<Output = T>) -> Result<T, Ended> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        client.poll_gone(cx).map(|()| Err(Ended::Gone))
    })
    .await
}
