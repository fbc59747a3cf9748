//! Calls of clients that speak gRPC themselves, gRPC-Web or Connect, to clusters that speak gRPC, with the same policies
//! as all other calls. Messages of the first two are handed on as they are, of any size in constant memory.
//!
//! ```text
//! dialect -> metadata -> opening (whole, if it is to be tried again) -> the stream lane's relay -> trailers
//! ```
//!
//! Whether a method streams is known where its descriptor is; else a call that has ended when it is looked at is one
//! that may be tried again. Refused: requests that are no gRPC, methods other than POST (and Connect's GET).
//! Specification: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md> and PROTOCOL-WEB.md beside it.

mod connect;
mod dialect;
mod get;
mod head;
mod native;
mod status;
mod web;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method as Verb;
use tokio::time::{Instant, timeout_at};
use transcode::Idempotency;

use self::connect::{Codings, Connect};
use self::dialect::Dialect;
use self::get::Get;
use self::native::Native;
use crate::edge::{Answer, Client, Head, Refusal};
use crate::error::GatewayError;
use crate::metadata::Metadata;
use crate::metrics::RouteStats;
use crate::route_table::{Row, Target, Transcoded};
use crate::stream::{Asking, Ended, Face, Lane};
use crate::unary::MAX_REPLY;
use crate::upstream::{Await, CallPolicy, Method};

pub(crate) use self::connect::Messages;
pub(crate) use self::dialect::{CONNECT_VERSION, Spoken};
pub(crate) use self::get::is_get;
pub(crate) use self::status::refusal;

/// A request of up to so many bytes is kept, so that it can be tried again.
const KEPT: usize = 1024 * 1024;
/// How long is waited for the end of a request of which nobody knows whether it streams, where it could be tried again.
const GRACE: Duration = Duration::from_millis(5);

/// What a row knows whose requests are calls of gRPC that are handed on.
#[derive(Debug)]
pub struct Passed {
    /// The methods that descriptors tell of, by their paths.
    pub(crate) methods: HashMap<Box<str>, Known>,
    /// How calls of others are repeated.
    pub(crate) policy: CallPolicy,
    /// How long the next message is waited for.
    pub(crate) idle_timeout: Duration,
    /// How large a message may be that is not handed on as it comes.
    pub(crate) max_body: usize,
    /// Answers to clients of Connect are compressed for those that want that.
    pub(crate) compression: bool,
}

/// A method whose descriptor is known.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) method: Method,
    pub(crate) client_streaming: bool,
    pub(crate) server_streaming: bool,
    pub(crate) policy: CallPolicy,
    pub(crate) stats: Arc<RouteStats>,
    pub(crate) messages: Messages,
    /// It changes nothing.
    pub(crate) safe: bool,
}

/// What is known of the method that a request calls.
#[derive(Clone, Copy)]
struct Called<'a> {
    method: &'a Method,
    /// Whether the client and the server stream, if that is known.
    streams: Option<(bool, bool)>,
    policy: &'a CallPolicy,
    stats: &'a RouteStats,
    idle_timeout: Duration,
    /// Its messages, if its descriptor is known.
    messages: Option<&'a Messages>,
    /// How large a message may be that is not handed on as it comes.
    most: usize,
    /// It changes nothing: a client of Connect may call it by GET.
    safe: bool,
}

/// Whether a request to a transcoded row is a call of gRPC, at the path that gRPC has for the row's method.
pub(crate) fn is_native(row: &Row, head: &Head) -> bool {
    row.transcoded()
        .is_some_and(|transcoded| head.path() == transcoded.binding.grpc_path)
        && Spoken::of(head, false).is_some()
}

/// Where a call is counted: with its method's calls, if that is known.
pub(crate) fn stats<'r>(row: &'r Row, head: &Head) -> &'r RouteStats {
    let known = match &row.target {
        Target::Grpc(passed) => passed.methods.get(head.path()),
        _ => None,
    };
    known.map_or(&row.stats, |known| &known.stats)
}

/// Runs a call to its end.
pub(crate) async fn run(lane: &Lane<'_>, client: &mut dyn Client) -> Result<Option<Answer>, Ended> {
    let head = lane.head;
    let only_grpc = matches!(lane.row.target, Target::Grpc(_));
    let spoken = Spoken::of(head, only_grpc).ok_or(GatewayError::NotGrpc)?;
    let unknown;
    let mut called = match (&lane.row.target, lane.row.transcoded()) {
        (_, Some(transcoded)) => Called::of(lane.row, transcoded),
        (Target::Grpc(passed), _) => match passed.methods.get(head.path()) {
            Some(known) => Called::known(passed, known),
            None => {
                unknown = Method::new(head.path())
                    .map_err(|_| GatewayError::NotFound(head.path().to_owned()))?;
                Called::unknown(lane.row, passed, &unknown)
            }
        },
        _ => return Err(GatewayError::NotGrpc.into()),
    };
    called.takes(head)?;
    if matches!(spoken.dialect, Dialect::Connect | Dialect::ConnectStream) {
        called.fit(spoken)?;
        return connected(lane, called, spoken, client).await;
    }
    lane.harm(client).await?;
    let mut native = Native::new(spoken, called.has_one_answer());
    let (first, more) = called.opening(lane, &mut native, client).await?;
    let metadata = |policy: &CallPolicy| head::metadata(lane.row, policy, head, spoken);
    let asking = called.asking((first, more), metadata, None);
    lane.relay(client, &mut native, asking).await
}

/// Runs a call of Connect.
async fn connected(
    lane: &Lane<'_>,
    called: Called<'_>,
    spoken: Spoken<'_>,
    client: &mut dyn Client,
) -> Result<Option<Answer>, Ended> {
    lane.harm(client).await?;
    let json = called.messages.filter(|_| spoken.is_json());
    let asked = Get::of(lane.head)?;
    let codings = Codings::of(lane, spoken, asked.as_ref());
    let mut face = Connect::new(json, spoken, codings, called.most);
    let (first, more) = match asked {
        Some(Get { message, .. }) => {
            face.push(message)?;
            (face.last()?, false)
        }
        None => called.opening(lane, &mut face, client).await?,
    };
    let metadata = |policy: &CallPolicy| head::of_connect(lane.row, policy, lane.head, spoken);
    let asking = called.asking((first, more), metadata, Some(MAX_REPLY));
    lane.relay(client, &mut face, asking).await
}

// === impl Called ===

impl<'a> Called<'a> {
    fn of(row: &'a Row, transcoded: &'a Transcoded) -> Self {
        let binding = &transcoded.binding;
        Self {
            method: &transcoded.method,
            streams: Some((binding.client_streaming, binding.server_streaming)),
            policy: &transcoded.policy,
            stats: &row.stats,
            idle_timeout: row.idle_timeout(),
            messages: Some(&transcoded.messages),
            most: transcoded.max_body,
            safe: binding.idempotency == Idempotency::NoSideEffects,
        }
    }

    fn known(passed: &Passed, known: &'a Known) -> Self {
        Self {
            method: &known.method,
            streams: Some((known.client_streaming, known.server_streaming)),
            policy: &known.policy,
            stats: &known.stats,
            idle_timeout: passed.idle_timeout,
            messages: Some(&known.messages),
            most: passed.max_body,
            safe: known.safe,
        }
    }

    fn unknown(row: &'a Row, passed: &'a Passed, method: &'a Method) -> Self {
        Self {
            method,
            streams: None,
            policy: &passed.policy,
            stats: &row.stats,
            idle_timeout: passed.idle_timeout,
            messages: None,
            most: passed.max_body,
            safe: false,
        }
    }

    /// Whether it may be called so.
    fn takes(&self, head: &Head) -> Result<(), GatewayError> {
        let allow = match (head.method(), self.safe) {
            (&Verb::POST, _) | (&Verb::GET, true) => return Ok(()),
            (_, true) => "GET, POST",
            (_, false) => "POST",
        };
        Err(GatewayError::MethodNotAllowed {
            method: head.method().to_string(),
            allow: allow.to_owned(),
        })
    }

    /// What a client of Connect says of the method has to fit it; of an unknown one it is what is known.
    fn fit(&mut self, spoken: Spoken<'_>) -> Result<(), GatewayError> {
        let unary = spoken.dialect == Dialect::Connect;
        let is_unary = |streams| streams == (false, false);
        if self
            .streams
            .is_some_and(|streams| is_unary(streams) != unary)
            || (spoken.is_json() && self.messages.is_none())
        {
            return Err(GatewayError::NotGrpc);
        }
        self.streams = self.streams.or(unary.then_some((false, false)));
        Ok(())
    }

    fn await_for(&self, more: bool) -> Await {
        match (more, self.has_one_answer()) {
            (true, _) => Await::Nothing,
            (false, true) => Await::Message,
            (false, false) => Await::Head,
        }
    }

    /// What the backend is asked. A request of which more comes is not tried again.
    fn asking(
        &self,
        (first, more): (Bytes, bool),
        metadata: impl Fn(&CallPolicy) -> Metadata,
        max_message: Option<usize>,
    ) -> Asking<'a> {
        let policy = match more {
            true => CallPolicy::NONE,
            false => self.policy,
        };
        Asking {
            method: self.method,
            policy,
            stats: self.stats,
            metadata: metadata(policy),
            first,
            more,
            await_for: self.await_for(more),
            max_message,
            bounded: self.streams == Some((false, false)),
            idle_timeout: self.idle_timeout,
            chats: false,
            compress: false,
        }
    }

    fn has_one_answer(&self) -> bool {
        matches!(self.streams, Some((_, false)))
    }

    /// The beginning of the request, and whether more of it may come: all of it, if it can be tried again and is
    /// not too long to be kept.
    async fn opening(
        &self,
        lane: &Lane<'_>,
        native: &mut dyn Face,
        client: &mut dyn Client,
    ) -> Result<(Bytes, bool), Ended> {
        let deadline = lane.patience().deadline;
        let (until, whole) = match self.streams {
            Some((false, _)) => (deadline, true),
            Some((true, _)) => (Instant::now(), false),
            None if self.policy.repeats() => (deadline.min(Instant::now() + GRACE), false),
            None => (Instant::now(), false),
        };
        let mut first = BytesMut::new();
        let ended = if until > Instant::now() {
            timeout_at(until, gather(native, client, &mut first)).await
        } else {
            Ok(once(native, client, &mut first).await)
        };
        match ended {
            Ok(ended) => Ok((first.freeze(), !ended?)),
            Err(_) if whole => Err(Refusal::BodyTimeout.into()),
            Err(_) => Ok((first.freeze(), true)),
        }
    }
}

/// Reads until the request has ended, or is too long to be kept; says whether it has ended.
async fn gather(
    native: &mut dyn Face,
    client: &mut dyn Client,
    first: &mut BytesMut,
) -> Result<bool, Ended> {
    while first.len() <= KEPT {
        let piece = poll_fn(|cx| client.poll_read(cx)).await?;
        if !take(native, piece, first)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads what is there.
async fn once(
    native: &mut dyn Face,
    client: &mut dyn Client,
    first: &mut BytesMut,
) -> Result<bool, Ended> {
    while first.len() <= KEPT {
        let piece = poll_fn(|cx| match client.poll_read(cx) {
            Poll::Ready(piece) => Poll::Ready(Some(piece)),
            Poll::Pending => Poll::Ready(None),
        });
        let Some(piece) = piece.await else {
            return Ok(false);
        };
        if !take(native, piece?, first)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds a piece of the body; false: it was the end.
fn take(native: &mut dyn Face, piece: Option<Bytes>, first: &mut BytesMut) -> Result<bool, Ended> {
    let goes_on = piece.is_some();
    match piece {
        Some(piece) => native.push(piece)?,
        None => first.extend_from_slice(&native.last()?),
    }
    while let Some(bytes) = native.next()? {
        first.extend_from_slice(&bytes);
    }
    Ok(goes_on)
}
