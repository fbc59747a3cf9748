//! The unary lane, for requests whose body is whole: what a route's policies do with them, one step after the
//! other, around one call.
//!
//! ```text
//! may it pass? -> where to? -> call (encode -> gRPC -> decode) -> the answer as the route wants it
//! ```
//!
//! Each step has its own kind of error; whatever fails is worded by the route's profile. A call that the client
//! no longer waits for is dropped, and counted as 499.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_config::model::Protocol;
use tokio::time::Instant;
use transcode::Captures;

use crate::destination::Chosen;
use crate::edge::{Answer, Head};
use crate::error::{Blame, GatewayError};
use crate::forward;
use crate::metadata::{self, Metadata};
use crate::mirror;
use crate::rate_limit::{self, Ticket};
use crate::refusals;
use crate::route_table::{Row, Target, Transcoded};
use crate::upstream::{self, CallError, CallPolicy, Cluster, Reply};
use crate::worker_table::WorkerTable;

/// Bytes of the prefix of a gRPC message: a flag and the length.
const PREFIX: usize = 5;
/// The largest reply that is read from a backend.
const MAX_REPLY: usize = 64 << 20;
/// What proxies log when the client closes before it is answered.
const CLIENT_CLOSED: u16 = 499;

/// A request that a row of the table takes: what the lanes need beside head and body.
#[derive(Debug)]
pub(crate) struct Call {
    /// The table that the request was routed by; it stays with it to the end.
    pub table: Arc<WorkerTable>,
    /// The row that takes it.
    pub row: u32,
    /// Where the path's variables stand.
    pub captures: Captures,
    /// Where it goes: chosen once, whatever becomes of it.
    pub chosen: Chosen,
    /// What its route's rate limit said.
    pub ticket: Ticket,
}

/// A request whose body is there: what every step of the lane may ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The thread that serves it.
    pub worker: usize,
    /// How it was routed.
    pub call: &'a Call,
    /// The row that takes it.
    pub row: &'a Row,
    /// Its head.
    pub head: &'a Head,
    /// Its body.
    pub body: &'a [u8],
    /// How a copy for a mirror is called, which is not counted among the route's calls; `None`: it is no copy.
    pub copy: Option<&'a CallPolicy>,
}

/// Counts the answer when it is there, or that nobody waited for it.
struct Counted<'a> {
    row: &'a Row,
    worker: usize,
    began: Instant,
    status: u16,
}

/// Runs a call to its answer.
pub(crate) async fn answer(worker: usize, mut call: Call, head: &Head, body: &[u8]) -> Answer {
    let mut ticket = std::mem::replace(&mut call.ticket, Ticket::Free);
    let Some(row) = call.table.row(call.row) else {
        return refusals::lost_row();
    };
    let mut counted = Counted {
        row,
        worker,
        began: head.received(),
        status: CLIENT_CLOSED,
    };
    let request = Request {
        worker,
        call: &call,
        row,
        head,
        body,
        copy: None,
    };
    let limit = row.policies.rate_limit.as_ref();
    let answered = match rate_limit::settle(limit, &mut ticket).await {
        Ok(()) => request.answer().await,
        Err(error) => Err(error),
    };
    let mut answer =
        answered.unwrap_or_else(|error| refusals::failed(Some(row), head.into(), &error));
    if let Some(limit) = limit {
        limit.describe(&ticket, &mut answer.headers);
    }
    row.policies.shaping.answer(&mut answer.headers);
    counted.status = answer.status;
    answer
}

/// Sends the client elsewhere, if that is what the row does.
pub(crate) fn redirected(worker: usize, call: &Call, head: &Head) -> Answer {
    let Some(row) = call.table.row(call.row) else {
        return refusals::lost_row();
    };
    let mut answer = match &row.target {
        Target::Redirect(redirect) => redirect.answer(head),
        _ => refusals::lost_row(),
    };
    row.policies.shaping.answer(&mut answer.headers);
    row.stats
        .answered(worker, answer.status, head.received().elapsed());
    answer
}

// === impl Call ===

impl Call {
    /// The request that `row` takes.
    pub(crate) fn new(
        table: Arc<WorkerTable>,
        row: u32,
        captures: Captures,
        ticket: Ticket,
        head: &Head,
    ) -> Self {
        let chosen = table
            .row(row)
            .map_or(Chosen::NOWHERE, |row| row.choose(head, &captures));
        Self {
            table,
            row,
            captures,
            chosen,
            ticket,
        }
    }

    /// The same for a copy of the request, which has no rate limit of its own.
    pub(crate) fn copied(&self) -> Self {
        Self {
            table: self.table.clone(),
            row: self.row,
            captures: self.captures.clone(),
            chosen: self.chosen,
            ticket: Ticket::Free,
        }
    }
}

// === impl Request ===

impl Request<'_> {
    async fn answer(&self) -> Result<Answer, GatewayError> {
        match &self.row.target {
            Target::Transcode(transcoded) => self.served(transcoded).await,
            Target::System { page, served, .. } => {
                let system = &self.call.table.system;
                Ok(system.answer(self.worker, *page, served).await)
            }
            Target::Stream(binding) => Err(GatewayError::Streams(binding.grpc_path.clone())),
            Target::PassThrough | Target::Redirect(_) => Ok(refusals::lost_row()),
        }
    }

    /// A backend's answer, if the route's policies let the request get to one.
    async fn served(&self, transcoded: &Transcoded) -> Result<Answer, GatewayError> {
        let policies = &self.row.policies;
        if let Some(fault) = &policies.fault {
            let deadline = terms(self.row, CallPolicy::NONE, self.head).deadline;
            let carries = |name: &str| self.head.header(name).is_some();
            fault.inject(carries, deadline).await?;
        }
        let mirror = policies.mirror.as_ref();
        let copy = mirror.and_then(|mirror| mirror.copy(self));
        let mut chosen = self.call.chosen;
        let result = loop {
            let result = self.ask(transcoded, chosen).await;
            let next = match &result {
                Err(GatewayError::Call(error)) => policies.destination.fall_back(chosen, error),
                _ => None,
            };
            match next {
                Some(next) => chosen = next,
                None => break result,
            }
        };
        if let Some(copy) = copy {
            copy.answered(self.row, &result);
        }
        result
    }

    /// What the chosen cluster answers, in the language that it speaks.
    async fn ask(&self, transcoded: &Transcoded, chosen: Chosen) -> Result<Answer, GatewayError> {
        let destination = &self.row.policies.destination;
        let Some(cluster) = destination.cluster(chosen) else {
            return Ok(refusals::lost_row());
        };
        let began = destination.is_judged().then(Instant::now);
        let result = self.exchange(transcoded, cluster).await;
        if let (Some(began), Some(failed)) = (began, is_servers_fault(&result)) {
            destination.observe(chosen, failed, began.elapsed());
        }
        let turned_away = |error: &CallError| error.never_executed();
        if !matches!(&result, Err(GatewayError::Call(error)) if turned_away(error)) {
            destination.taken(chosen);
        }
        result
    }

    /// What a cluster answers.
    pub(crate) async fn exchange(
        &self,
        transcoded: &Transcoded,
        cluster: &Arc<Cluster>,
    ) -> Result<Answer, GatewayError> {
        match cluster.protocol() {
            Protocol::Grpc => self.call(transcoded, cluster).await,
            Protocol::Http1 | Protocol::Http2 => {
                let policy = self.copy.unwrap_or(&transcoded.http_policy);
                self.forward(policy, cluster).await
            }
        }
    }

    /// What an HTTP cluster answers to the request as it is.
    pub(crate) async fn forward(
        &self,
        policy: &CallPolicy,
        cluster: &Arc<Cluster>,
    ) -> Result<Answer, GatewayError> {
        let Some(mut request) = forward::request(self.head, self.body.len()) else {
            return Ok(refusals::lost_row());
        };
        // A line that cannot be set leaves the request as it came, which the edge has found fit to be sent.
        let _ = self.row.policies.shaping.request(&mut request);
        if self.copy.is_some() {
            // As above: a copy without its mark is a copy still.
            let _ = request.insert_header(mirror::MARK, mirror::MARKED);
        }
        if let Some(name) = policy.dedupe()
            && !request.headers.contains_key(name)
        {
            for (name, value) in policy.own_key(&[]).into_iter().flatten() {
                // A head takes a few headers more; one without them is only not tried again as safely.
                let _ = request.insert_header(name, value);
            }
        }
        let call = upstream::HttpCall {
            request: &request,
            body: &Bytes::copy_from_slice(self.body),
            max_response: MAX_REPLY,
            terms: terms(self.row, policy, self.head),
        };
        let reply = cluster.http(self.worker, call).await?;
        Ok(forward::answer(reply, self.head.method()))
    }

    /// What a gRPC cluster answers, as JSON.
    async fn call(
        &self,
        transcoded: &Transcoded,
        cluster: &Arc<Cluster>,
    ) -> Result<Answer, GatewayError> {
        let message = self.encode(transcoded)?;
        let policy = self.copy.unwrap_or(&transcoded.policy);
        let mut metadata = metadata(self.row, policy, self.head);
        metadata.extend(self.copy.map(|_| (mirror::MARK, mirror::MARKED)));
        let began = Instant::now();
        let call = upstream::Call {
            method: &transcoded.method,
            metadata: &metadata,
            message,
            max_response: MAX_REPLY,
            terms: terms(self.row, policy, self.head),
        };
        let reply = cluster.unary(self.worker, call).await;
        let code = reply
            .as_ref()
            .map_or_else(|error| error.grpc_code(), |reply| reply.code);
        if self.copy.is_none() {
            self.row.stats.called(self.worker, code, began.elapsed());
        }
        let reply = reply?;
        let returned = metadata::returning(&metadata, &reply.headers);
        let json = decode(transcoded, reply)?;
        let mut answer = Answer::new(200, transcoded.content_type.clone(), json);
        answer.headers.extend(returned);
        Ok(answer)
    }

    /// The request's message with its gRPC prefix.
    fn encode(&self, transcoded: &Transcoded) -> Result<Bytes, GatewayError> {
        let (head, body) = (self.head, self.body);
        let mut wire = Vec::with_capacity(PREFIX + head.path().len() + body.len() + 16);
        wire.extend_from_slice(&[0; PREFIX]);
        transcoded.binding.encode_request(
            head.path(),
            &self.call.captures,
            head.query(),
            body,
            &mut wire,
        )?;
        // The body's limit keeps a message far below 4 GiB.
        let length = u32::try_from(wire.len() - PREFIX).unwrap_or(u32::MAX);
        wire[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        Ok(wire.into())
    }
}

/// Whether a cluster failed, rather than the caller: what canaries are judged by. `None`: it was not asked.
fn is_servers_fault(result: &Result<Answer, GatewayError>) -> Option<bool> {
    match result {
        Ok(answer) => Some(answer.status >= 500),
        Err(GatewayError::Call(_)) => Some(true),
        Err(error) => (error.blame() == Blame::Upstream).then(|| !error.is_callers_own()),
    }
}

/// What crosses of the headers, and a key of the gateway's own where repeating needs one.
fn metadata(row: &Row, policy: &CallPolicy, head: &Head) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in head.headers() {
        let key = || metadata::named(name, value, policy.dedupe());
        metadata.extend(metadata::crossing(name, value).or_else(key));
    }
    row.policies.shaping.metadata(&mut metadata);
    metadata.extend(policy.own_key(&metadata).into_iter().flatten());
    metadata
}

/// Until when the caller waits, the route's time or less if it asks, and when its call may be repeated.
fn terms<'p>(row: &Row, policy: &'p CallPolicy, head: &Head) -> upstream::Terms<'p> {
    let asked = head
        .headers()
        .filter_map(|(name, value)| metadata::caller_timeout(name, value));
    let timeout = asked.fold(row.timeout, Duration::min);
    upstream::Terms {
        policy,
        repeatable: policy.may_repeat(head.method().as_str()),
        deadline: head.received() + timeout,
        impatient: timeout < row.timeout,
        elsewhere: row.policies.destination.has_fallback(),
    }
}

fn decode(transcoded: &Transcoded, reply: Reply) -> Result<Vec<u8>, GatewayError> {
    if reply.code != 0 {
        return Err(GatewayError::Backend(Box::new(reply)));
    }
    let mut json = Vec::with_capacity(reply.body.len() * 3 + 64);
    transcoded.binding.decode_response(&reply.body, &mut json)?;
    Ok(json)
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.row
            .stats
            .answered(self.worker, self.status, self.began.elapsed());
    }
}
