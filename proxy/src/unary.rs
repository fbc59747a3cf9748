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
use http::HeaderValue;
use mesh_config::model::Protocol;
use tokio::time::Instant;
use transcode::Captures;

use crate::bodies::{framed, type_of, upload};
use crate::compression;
use crate::counted::Counted;
use crate::destination::Chosen;
use crate::edge::{Answer, Head};
use crate::entries::{Asked, Within};
use crate::error::{Blame, GatewayError};
use crate::forward;
use crate::metadata::{self, Metadata};
use crate::mirror;
use crate::rate_limit::{self, Ticket};
use crate::refusals::{self, REQUEST_ID};
use crate::route_table::{Row, Target, Transcoded};
use crate::upstream::{self, CallError, CallPolicy, Cluster, Reply};
use crate::worker_table::WorkerTable;

/// The largest reply that is read from a backend.
pub(crate) const MAX_REPLY: usize = 64 << 20;

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
    /// How long its caller waits.
    pub patience: Patience,
    /// What backends know it by, if its caller gave it no id and there is a copy, which has the same.
    pub id: Option<&'a HeaderValue>,
    /// What Consul's config entries say of it, where they do.
    pub within: Option<&'a Within>,
    /// How a copy for a mirror is called, which is not counted among the route's calls; `None`: it is no copy.
    pub copy: Option<&'a CallPolicy>,
}

/// Until when the caller of a request waits: the route's time, or less if it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) deadline: Instant,
    /// It asked for less.
    pub(crate) impatient: bool,
}

/// Runs a call to its answer.
pub(crate) async fn answer(worker: usize, mut call: Call, head: &Head, body: &[u8]) -> Answer {
    let mut ticket = std::mem::replace(&mut call.ticket, Ticket::Free);
    let Some(row) = call.table.row(call.row) else {
        return refusals::lost_row();
    };
    let mut counted = Counted::new(&row.stats, worker, head);
    let request = Request {
        worker,
        call: &call,
        row,
        head,
        body,
        patience: Patience::of(row, head),
        id: None,
        within: None,
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
    row.policies.answer(head, &mut answer.headers);
    if row.compresses() {
        compression::encode(head, &mut answer);
    }
    counted.status = answer.status;
    answer
}

/// Sends the client elsewhere, or says that it has to wait, if that is what the row does.
pub(crate) fn at_once(worker: usize, call: &Call, head: &Head) -> Answer {
    let Some(row) = call.table.row(call.row) else {
        return refusals::lost_row();
    };
    let mut answer = match &row.target {
        Target::Redirect(redirect) => redirect.answer(head),
        Target::Waiting { what, .. } => {
            let error = GatewayError::DescriptorsUnknown(what.to_string());
            refusals::failed(Some(row), head.into(), &error)
        }
        _ => refusals::lost_row(),
    };
    row.policies.answer(head, &mut answer.headers);
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

// === impl Patience ===

impl Patience {
    /// What a request asks for, if that is less than its route has.
    pub(crate) fn of(row: &Row, head: &Head) -> Self {
        let mut timeout = row.timeout;
        for (name, value) in head.headers() {
            if let Some(asked) = metadata::caller_timeout(name, value) {
                timeout = timeout.min(asked);
            }
        }
        Self {
            deadline: head.received() + timeout,
            impatient: timeout < row.timeout,
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
            Target::Stream(_)
            | Target::Grpc(_)
            | Target::PassThrough
            | Target::Redirect(_)
            | Target::Waiting { .. } => Ok(refusals::lost_row()),
        }
    }

    /// A backend's answer, if the route's policies let the request get to one.
    async fn served(&self, transcoded: &Transcoded) -> Result<Answer, GatewayError> {
        let policies = &self.row.policies;
        if let Some(fault) = &policies.fault {
            let carries = |name: &str| self.head.header(name).is_some();
            fault.inject(carries, self.patience.deadline).await?;
        }
        let mirror = policies.mirror.as_ref();
        let mirror = mirror.filter(|mirror| mirror.selects(self.head.method()));
        let id = mirror.and_then(|_| self.fresh_id());
        let request = Request {
            id: id.as_ref(),
            ..*self
        };
        let copy = mirror.and_then(|mirror| mirror.copy(&request));
        let mut chosen = self.call.chosen;
        let result = loop {
            let result = request.ask(transcoded, chosen).await;
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

    /// An id for a request that has none.
    fn fresh_id(&self) -> Option<HeaderValue> {
        let has_one = self.head.header(REQUEST_ID.as_str()).is_some();
        let fresh = || HeaderValue::from_str(&refusals::request_id(None)).ok();
        (!has_one).then(fresh)?
    }

    /// What the chosen cluster answers, in the language that it speaks.
    async fn ask(&self, transcoded: &Transcoded, chosen: Chosen) -> Result<Answer, GatewayError> {
        let destination = &self.row.policies.destination;
        let Some(cluster) = destination.cluster(chosen) else {
            return Ok(refusals::lost_row());
        };
        let within = self.chosen_within(chosen);
        let (result, took) = match &within {
            None => self.exchange(transcoded, cluster).await,
            Some(within) => self.within(transcoded, within).await,
        };
        if let Some(failed) = is_servers_fault(&result)
            && !(self.patience.impatient && result.as_ref().is_err_and(GatewayError::is_late))
        {
            destination.observe(chosen, failed, took);
        }
        let turned_away = |error: &CallError| error.never_executed();
        if !matches!(&result, Err(GatewayError::Call(error)) if turned_away(error)) {
            destination.taken(chosen);
        }
        result
    }

    /// The part of the chosen cluster that takes the request, where Consul's config entries say so.
    pub(crate) fn chosen_within(&self, chosen: Chosen) -> Option<Within> {
        let chain = self.row.policies.destination.chain(chosen)?;
        let point = fastrand::u32(..);
        Asked::of(self.head, |asked| chain.choose(asked, point))
    }

    /// What a part of a cluster answers, as Consul's config entries have it, and how long that took.
    async fn within(
        &self,
        transcoded: &Transcoded,
        within: &Within,
    ) -> (Result<Answer, GatewayError>, Duration) {
        let request = Request {
            within: Some(within),
            ..*self
        };
        let (mut answer, took) = request.exchange(transcoded, &within.cluster).await;
        if let Ok(answer) = &mut answer {
            within.answer(&mut answer.headers);
        }
        (answer, took)
    }

    /// What a cluster answers, and how long that took.
    pub(crate) async fn exchange(
        &self,
        transcoded: &Transcoded,
        cluster: &Arc<Cluster>,
    ) -> (Result<Answer, GatewayError>, Duration) {
        let began = Instant::now();
        match cluster.protocol() {
            Protocol::Grpc => match self.encode(transcoded) {
                Ok(message) => self.call(transcoded, cluster, message, began).await,
                Err(error) => (Err(error), Duration::ZERO),
            },
            Protocol::Http1 | Protocol::Http2 => {
                let policy = self.copy.unwrap_or(&transcoded.http_policy);
                let result = self.forward(policy, cluster).await;
                (result, began.elapsed())
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
        if let Some(id) = self.id {
            // As below: without it the backend knows it by another one.
            let _ = request.insert_header(REQUEST_ID, id.clone());
        }
        // A line that cannot be set leaves the request as it came, which the edge has found fit to be sent.
        let _ = self.row.policies.shaping.request(&mut request);
        if let Some(within) = self.within {
            let _ = within.options.request(&mut request);
        }
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
            terms: self.terms(policy, cluster),
        };
        let reply = cluster.http(self.worker, call).await?;
        Ok(forward::answer(reply, self.head.method()))
    }

    /// What a gRPC cluster answers, as JSON, and how long it took to.
    async fn call(
        &self,
        transcoded: &Transcoded,
        cluster: &Arc<Cluster>,
        message: Bytes,
        began: Instant,
    ) -> (Result<Answer, GatewayError>, Duration) {
        let policy = self.copy.unwrap_or(&transcoded.policy);
        let mut metadata = metadata(self.row, policy, self.head);
        metadata.extend(self.id.map(|id| (REQUEST_ID, id.clone())));
        if let Some(within) = self.within {
            within.options.shaping().metadata(&mut metadata);
        }
        metadata.extend(self.copy.map(|_| (mirror::MARK, mirror::MARKED)));
        let call = upstream::Call {
            method: &transcoded.method,
            metadata: &metadata,
            message,
            coding: None,
            max_response: MAX_REPLY,
            terms: self.terms(policy, cluster),
        };
        let reply = cluster.unary(self.worker, call).await;
        let took = began.elapsed();
        let code = reply.as_ref();
        let code = code.map_or_else(CallError::grpc_code, |reply| reply.code);
        if self.copy.is_none() {
            self.row.stats.called(self.worker, code, took);
        }
        let answer = match reply {
            Ok(reply) => answered(transcoded, &metadata, reply),
            Err(error) => Err(error.into()),
        };
        (answer, took)
    }

    /// How long there is time for a call, when it may be repeated, and which endpoints it is for: as the route says, and then as the
    /// config entries do.
    pub(crate) fn terms<'p>(
        &'p self,
        policy: &'p CallPolicy,
        cluster: &Arc<Cluster>,
    ) -> upstream::Terms<'p> {
        let destination = &self.row.policies.destination;
        let method = self.head.method().as_str();
        let mut terms = upstream::Terms {
            policy,
            retry: policy.retry.as_ref(),
            repeatable: policy.may_repeat(method),
            deadline: self.patience.deadline,
            impatient: self.patience.impatient,
            elsewhere: destination.has_fallback(),
            copy: self.copy.is_some(),
            aim: destination.aim(self.call.chosen, cluster),
        };
        let Some(within) = self.within else {
            return terms;
        };
        terms.aim = within.aim(terms.aim);
        if let Some(timeout) = within.options.timeout {
            terms.deadline = terms.deadline.min(self.head.received() + timeout);
        }
        if let Some(retry) = within.options.retry() {
            terms.retry = Some(retry);
            terms.repeatable = terms.repeatable || policy.may_repeat_without_key(method);
        }
        terms
    }

    /// The request's message with its gRPC prefix.
    pub(crate) fn encode(&self, transcoded: &Transcoded) -> Result<Bytes, GatewayError> {
        let head = self.head;
        let body = compression::decode(head, self.body, transcoded.max_body)?;
        let body = &*body;
        let (path, captures, query) = (head.path(), &self.call.captures, head.query());
        let binding = &transcoded.binding;
        if binding.takes_any_body() {
            let upload = upload(head, body);
            let encode = |wire: &mut _| binding.encode_upload(path, captures, query, upload, wire);
            return Ok(framed(path.len() + body.len(), encode)?);
        }
        let encode = |wire: &mut _| binding.encode_request(path, captures, query, body, wire);
        Ok(framed(path.len() + body.len(), encode)?)
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
pub(crate) fn metadata(row: &Row, policy: &CallPolicy, head: &Head) -> Metadata {
    let mut metadata = Metadata::new();
    let crossing = row
        .transcoded()
        .map_or(&[][..], |transcoded| &transcoded.crossing);
    for (name, value) in head.end_to_end() {
        let key = || metadata::named(name, value, policy.dedupe());
        let listed = || {
            crossing
                .iter()
                .find_map(|listed| metadata::named(name, value, Some(listed)))
        };
        let entry = metadata::crossing(name, value).or_else(key).or_else(listed);
        metadata.extend(entry);
    }
    row.policies.shaping.metadata(&mut metadata);
    if let Some(key) = policy.own_key(&metadata) {
        key.into_iter().for_each(|entry| metadata.push(entry));
    }
    metadata
}

/// A reply of a gRPC backend as JSON.
fn answered(
    transcoded: &Transcoded,
    sent: &Metadata,
    reply: Reply,
) -> Result<Answer, GatewayError> {
    if reply.code != 0 {
        return Err(GatewayError::Backend(Box::new(reply)));
    }
    let mut answer = match transcoded.binding.gives_any_body() {
        false => {
            let mut json = Vec::with_capacity(reply.body.len() * 3 + 64);
            transcoded.binding.decode_response(&reply.body, &mut json)?;
            Answer::new(200, transcoded.content_type.clone(), json)
        }
        true => {
            let download = transcoded.binding.decode_download(&reply.body)?;
            Answer::new(200, type_of(download), download.data.to_vec())
        }
    };
    let (rule, entries) = (transcoded.returning, (&reply.headers, &reply.trailers));
    metadata::returning(rule, sent, entries, &mut answer.headers);
    Ok(answer)
}
