//! The unary lane: one JSON request becomes one gRPC call, and its reply becomes the answer.
//!
//! route → encode → call → decode, each with its own kind of error; whatever fails is worded by the route's
//! profile. A call that the client no longer waits for is dropped, and counted as 499.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use transcode::Captures;

use crate::edge::{Answer, Head};
use crate::error::GatewayError;
use crate::metadata::{self, Metadata};
use crate::refusals;
use crate::route_table::{Row, Target, Transcoded};
use crate::upstream::{self, Reply};
use crate::worker_table::WorkerTable;

/// Bytes of the prefix of a gRPC message: a flag and the length.
const PREFIX: usize = 5;
/// The largest reply that is read from a backend.
const MAX_REPLY: usize = 64 << 20;
/// What proxies log when the client closes before it is answered.
const CLIENT_CLOSED: u16 = 499;

/// A request that a row of the table takes: what the lane needs beside head and body.
#[derive(Debug)]
pub(crate) struct Call {
    /// The table that the request was routed by; it stays with it to the end.
    pub table: Arc<WorkerTable>,
    /// The row that takes it.
    pub row: u32,
    /// Where the path's variables stand.
    pub captures: Captures,
}

/// Counts the answer when it is there, or that nobody waited for it.
struct Counted<'a> {
    row: &'a Row,
    worker: usize,
    began: Instant,
    status: u16,
}

/// Runs a call to its answer.
pub(crate) async fn answer(worker: usize, call: Call, head: &Head, body: &[u8]) -> Answer {
    let Some(row) = call.table.row(call.row) else {
        return refusals::lost_row();
    };
    let mut counted = Counted {
        row,
        worker,
        began: head.received(),
        status: CLIENT_CLOSED,
    };
    let answer = match &row.target {
        Target::Transcode(transcoded) => {
            transcode(worker, &call, row, transcoded, head, body).await
        }
        Target::System { page, served, .. } => {
            call.table.system.answer(worker, *page, served).await
        }
        Target::Stream(binding) => refusals::failed(
            Some(row),
            head.into(),
            &GatewayError::Streams(binding.grpc_path.clone()),
        ),
        Target::PassThrough(_) => refusals::lost_row(),
    };
    counted.status = answer.status;
    answer
}

async fn transcode(
    worker: usize,
    call: &Call,
    row: &Row,
    transcoded: &Transcoded,
    head: &Head,
    body: &[u8],
) -> Answer {
    match exchange(worker, call, row, transcoded, head, body).await {
        Ok(json) => Answer::new(200, transcoded.content_type.clone(), json),
        Err(error) => refusals::failed(Some(row), head.into(), &error),
    }
}

async fn exchange(
    worker: usize,
    call: &Call,
    row: &Row,
    transcoded: &Transcoded,
    head: &Head,
    body: &[u8],
) -> Result<Vec<u8>, GatewayError> {
    let message = encode(call, transcoded, head, body)?;
    let (metadata, deadline) = terms(row, head);
    let began = Instant::now();
    let method = &transcoded.method;
    let call = upstream::Call {
        method,
        metadata: &metadata,
        message,
        deadline,
        max_response: MAX_REPLY,
    };
    let reply = transcoded.cluster.unary(worker, call).await;
    let code = reply
        .as_ref()
        .map_or_else(|error| error.grpc_code(), |reply| reply.code);
    row.stats.called(worker, code, began.elapsed());
    decode(transcoded, reply?)
}

/// The request's message with its gRPC prefix.
fn encode(
    call: &Call,
    transcoded: &Transcoded,
    head: &Head,
    body: &[u8],
) -> Result<Bytes, GatewayError> {
    let mut wire = Vec::with_capacity(PREFIX + head.path().len() + body.len() + 16);
    wire.extend_from_slice(&[0; PREFIX]);
    transcoded.binding.encode_request(
        head.path(),
        &call.captures,
        head.query(),
        body,
        &mut wire,
    )?;
    // The body's limit keeps a message far below 4 GiB.
    let length = u32::try_from(wire.len() - PREFIX).unwrap_or(u32::MAX);
    wire[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(wire.into())
}

/// What crosses of the headers, and until when the caller waits: the route's time, or less if it asks.
fn terms(row: &Row, head: &Head) -> (Metadata, Instant) {
    let mut metadata = Metadata::new();
    let mut timeout = row.timeout;
    for (name, value) in head.headers() {
        if let Some(entry) = metadata::crossing(name, value) {
            metadata.push(entry);
        } else if let Some(asked) = metadata::caller_timeout(name, value) {
            timeout = timeout.min(asked);
        }
    }
    (metadata, head.received() + timeout)
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
