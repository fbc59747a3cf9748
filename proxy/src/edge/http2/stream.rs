//! One stream of HTTP/2: a request, and its answer.
//!
//! A stream that the client resets, or whose connection ends, drops its call at once. Bodies are
//! read within flow control, the lane's limit and one deadline; large answers wait for the client's
//! window, but not for ever.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use pingora_core::protocols::http::ServerSession;
use tokio::time::{Instant, timeout_at};

use super::pass_through::StreamSession;
use super::request::{self, Announced};
use super::streamed::{Begun, Streamed};
use super::{Active, Shared};
use crate::edge::answer::with_date;
use crate::edge::client::Gone;
use crate::edge::head::Head;
use crate::edge::refusal::Refusal;
use crate::edge::{Alarm, Answer, Lane, Service};

/// Answers up to this size are given to the library whole, whatever the window.
const QUEUED: usize = 16 * 1024;

/// Why a body could not be read.
enum BodyError {
    Gone,
    Refused(Refusal),
}

/// A stream whose call runs in a task of its own.
struct Stream<S: Service> {
    shared: Active<S>,
    head: Box<Head>,
    body: RecvStream,
    respond: SendResponse<Bytes>,
}

/// What is left of an answer once its beginning has been given to the library.
type Rest = Option<(Bytes, SendStream<Bytes>)>;

/// Takes a request on: answers it if it can be answered at once, else starts a task for it.
pub(super) fn begin<S: Service>(
    shared: &Arc<Shared<S>>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let worker = &shared.worker;
    let mut head = worker.take_head(shared.peer);
    let is_head = *request.method() == Method::HEAD;
    let read = request::read(&request, &mut head, &worker.limits);
    let routed = read.map(|announced| (announced, worker.service.route(worker.index, &head)));
    let answer = match routed {
        Err(refusal) => worker.refuse(None, refusal),
        Ok((_, Lane::Answer(answer))) => answer,
        Ok((announced, Lane::Unary { call, max_body })) => {
            let (shared, body) = (Active::new(shared), request.into_body());
            let stream = Stream {
                shared,
                head,
                body,
                respond,
            };
            tokio::spawn(unary(stream, call, max_body, announced));
            return;
        }
        // HTTP/2 has streams of its own for both ways, and no request here that would want a WebSocket.
        Ok((_, Lane::WebSocket(_))) => worker.refuse(Some(&head), Refusal::WebSocketVersion),
        Ok((announced, Lane::Stream { call })) => {
            let client = Streamed {
                body: request.into_body(),
                respond,
                expects_continue: announced.expects_continue,
                is_head,
                write_timeout: worker.limits.write_timeout,
                answer: Begun::default(),
            };
            tokio::spawn(streamed(Active::new(shared), call, head, client));
            return;
        }
        Ok((_, Lane::PassThrough { call })) => {
            tokio::spawn(pass_through(
                Active::new(shared),
                call,
                head,
                request,
                respond,
            ));
            return;
        }
    };
    worker.give_head(head);
    if let Ok(Some((rest, stream))) = send(answer, is_head, &mut respond) {
        let shared = Active::new(shared);
        tokio::spawn(async move { send_rest(&shared, rest, stream).await.ok() });
    }
}

/// Reads the body, runs the call and sends its answer.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn would hold the stream twice"
)]
fn unary<S: Service>(
    mut stream: Stream<S>,
    call: S::Call,
    max_body: usize,
    announced: Announced,
) -> impl Future<Output = ()> + Send {
    async move {
        let sent = match stream.read_body(announced, max_body).await {
            Ok(body) => stream.run(call, body).await,
            Err(BodyError::Refused(refusal)) => {
                let answer = stream.shared.worker.refuse(Some(&stream.head), refusal);
                send(
                    answer,
                    *stream.head.method() == Method::HEAD,
                    &mut stream.respond,
                )
            }
            Err(BodyError::Gone) => Err(Gone),
        };
        let done = match sent {
            Ok(Some((rest, writer))) => send_rest(&stream.shared, rest, writer).await,
            Ok(None) => Ok(()),
            Err(Gone) => Err(Gone),
        };
        if done.is_err() {
            stream.shared.was_reset();
        }
        stream.shared.worker.give_head(stream.head);
    }
}

/// Runs a call that reads and writes by itself.
async fn streamed<S: Service>(
    shared: Active<S>,
    call: S::Call,
    head: Box<Head>,
    mut client: Streamed,
) {
    let worker = &shared.worker;
    let answer = worker
        .service
        .stream(worker.index, call, &head, &mut client)
        .await;
    let done = match answer {
        _ if client.answer.has_begun() => client.finish().await.map_err(|_| Gone),
        Some(answer) => match send(answer, client.is_head, &mut client.respond) {
            Ok(Some((rest, writer))) => send_rest(&shared, rest, writer).await,
            Ok(None) => Ok(()),
            Err(Gone) => Err(Gone),
        },
        None => Err(Gone),
    };
    if done.is_err() {
        shared.was_reset();
    }
    worker.give_head(head);
}

/// Serves the stream through pingora.
async fn pass_through<S: Service>(
    shared: Active<S>,
    call: S::Call,
    head: Box<Head>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let worker = &shared.worker;
    let (alarm, digest) = (Alarm::default(), shared.digest.clone());
    let session = StreamSession::new(request, respond, head.authority(), digest, alarm.clone());
    worker.give_head(head);
    let mut session = ServerSession::new_custom(Box::new(session));
    session.set_read_timeout(Some(worker.limits.body_timeout));
    session.set_write_timeout(Some(worker.limits.write_timeout));
    worker
        .service
        .pass_through(worker.index, call, session, alarm, &worker.drain)
        .await;
}

impl<S: Service> Stream<S> {
    /// Runs the call until it ends or the client resets the stream, and begins to send its answer.
    async fn run(&mut self, call: S::Call, body: Bytes) -> Result<Rest, Gone> {
        let Self {
            shared,
            head,
            respond,
            ..
        } = self;
        let worker = &shared.worker;
        let mut future = pin!(worker.service.unary(worker.index, call, head, &body));
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(answer) => {
                Poll::Ready(send(answer, *head.method() == Method::HEAD, respond))
            }
            Poll::Pending => respond.poll_reset(context).map(|_| Err(Gone)),
        })
        .await
    }

    /// Waits for a whole body of at most `max_body` bytes.
    async fn read_body(
        &mut self,
        announced: Announced,
        max_body: usize,
    ) -> Result<Bytes, BodyError> {
        if announced
            .length
            .is_some_and(|length| length > max_body as u64)
        {
            return Err(BodyError::Refused(Refusal::BodyTooLarge));
        }
        if self.body.is_end_stream() {
            return Ok(Bytes::new());
        }
        if announced.expects_continue {
            let sent = self.respond.send_informational(continue_response());
            sent.map_err(|_| BodyError::Gone)?;
        }
        let deadline = self.head.received() + self.shared.worker.limits.body_timeout;
        match timeout_at(deadline, gather(&mut self.body, max_body)).await {
            Ok(gathered) => gathered,
            Err(_) => Err(BodyError::Refused(Refusal::BodyTimeout)),
        }
    }
}

pub(super) fn continue_response() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}

/// A body that comes in one frame is not copied.
async fn gather(body: &mut RecvStream, max_body: usize) -> Result<Bytes, BodyError> {
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|_| BodyError::Gone)?;
        body.flow_control()
            .release_capacity(piece.len())
            .map_err(|_| BodyError::Gone)?;
        if whole.len() + pieces.len() + piece.len() > max_body {
            return Err(BodyError::Refused(Refusal::BodyTooLarge));
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = piece;
            continue;
        }
        if pieces.is_empty() {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
        }
        pieces.extend_from_slice(&piece);
    }
    // Trailers are read to their end and dropped.
    body.trailers().await.map_err(|_| BodyError::Gone)?;
    Ok(if pieces.is_empty() {
        whole
    } else {
        pieces.freeze()
    })
}

/// Sends an answer, but for a body that must wait for the client's window.
fn send(answer: Answer, is_head: bool, respond: &mut SendResponse<Bytes>) -> Result<Rest, Gone> {
    let response = response_head(&answer);
    let empty = is_head || !answer.may_have_body() || answer.body.is_empty();
    let mut stream = respond.send_response(response, empty).map_err(|_| Gone)?;
    if empty {
        return Ok(None);
    }
    let body = Bytes::from(answer.body);
    if body.len() > QUEUED {
        return Ok(Some((body, stream)));
    }
    stream.send_data(body, true).map_err(|_| Gone)?;
    Ok(None)
}

pub(super) fn response_head(answer: &Answer) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = answer.status_code();
    let headers = response.headers_mut();
    headers.reserve(answer.headers.len() + 2);
    for (name, value) in answer.own_headers() {
        headers.append(name, value.clone());
    }
    if let Some(length) = answer.content_length() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(DATE, with_date(Instant::now(), HeaderValue::clone));
    response
}

/// Sends a body as the client's window opens, or gives the stream up.
async fn send_rest<S: Service>(
    shared: &Shared<S>,
    mut body: Bytes,
    mut stream: SendStream<Bytes>,
) -> Result<(), Gone> {
    let limits = &shared.worker.limits;
    let started = Instant::now();
    let whole = body.len();
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let deadline = started + limits.write_allowance(whole - body.len());
        let capacity = poll_fn(|context| {
            if stream.poll_reset(context).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Ready(ready!(stream.poll_capacity(context)))
        });
        match timeout_at(deadline, capacity).await {
            Ok(Some(Ok(capacity))) => {
                let piece = body.split_to(capacity.min(body.len()));
                stream.send_data(piece, body.is_empty()).map_err(|_| Gone)?;
            }
            Ok(_) => return Err(Gone),
            Err(_) => {
                stream.send_reset(Reason::CANCEL);
                return Ok(());
            }
        }
    }
    Ok(())
}
