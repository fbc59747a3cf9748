//! One stream of HTTP/2: a request, and its answer.
//!
//! A stream that the client resets, or whose connection ends, drops its call at once. Bodies are
//! read within flow control, the lane's limit and one deadline; large answers wait for the client's
//! window, but not for ever.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Request, Response};
use pingora_core::protocols::http::ServerSession;
use tokio::time::{Instant, timeout_at};

use super::Active;
use super::pass_through::StreamSession;
use super::request::{self, Announced};
use crate::edge::answer::with_date;
use crate::edge::head::Head;
use crate::edge::refusal::Refusal;
use crate::edge::{Answer, Lane, Service};

/// Answers up to this size are given to the library whole, whatever the window.
const QUEUED: usize = 16 * 1024;

/// The client has reset the stream, or the connection is gone.
struct Gone;

/// Why a body could not be read.
enum BodyError {
    Gone,
    Refused(Refusal),
}

/// Serves one stream to its end.
pub(super) async fn serve<S: Service>(
    shared: Active<S>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let mut head = shared.worker.take_head(shared.peer);
    let answered = run(&shared, &mut head, request, respond).await;
    if answered.is_err() {
        shared.was_reset();
    }
    shared.worker.give_head(head);
}

async fn run<S: Service>(
    shared: &Active<S>,
    head: &mut Head,
    mut request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), Gone> {
    let worker = &shared.worker;
    let is_head = request.method() == http::Method::HEAD;
    let announced = match request::read(&request, head, &worker.limits) {
        Ok(announced) => announced,
        Err(refusal) => {
            let answer = worker.refuse(None, refusal);
            return send(shared, answer, is_head, &mut respond).await;
        }
    };
    let head = &*head;
    let answer = match worker.service.route(worker.index, head) {
        Lane::Answer(answer) => answer,
        Lane::Unary { call, max_body } => {
            let body = read_body(
                shared,
                announced,
                head,
                max_body,
                request.body_mut(),
                &mut respond,
            );
            match body.await {
                Ok(body) => {
                    let call = worker.service.unary(worker.index, call, head, &body);
                    while_connected(call, &mut respond).await?
                }
                Err(BodyError::Refused(refusal)) => worker.refuse(Some(head), refusal),
                Err(BodyError::Gone) => return Err(Gone),
            }
        }
        Lane::PassThrough { call } => {
            pass_through(shared, call, head, request, respond).await;
            return Ok(());
        }
    };
    send(shared, answer, is_head, &mut respond).await
}

/// Serves the stream through pingora.
async fn pass_through<S: Service>(
    shared: &Active<S>,
    call: S::Call,
    head: &Head,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let worker = &shared.worker;
    let session = StreamSession::new(request, respond, head.authority(), shared.digest.clone());
    let mut session = ServerSession::new_custom(Box::new(session));
    session.set_read_timeout(Some(worker.limits.body_timeout));
    session.set_write_timeout(Some(worker.limits.write_timeout));
    worker
        .service
        .pass_through(worker.index, call, session, &worker.drain)
        .await;
}

fn continue_response() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::CONTINUE;
    response
}

/// Runs a call until it ends or the client resets the stream.
async fn while_connected<F: Future<Output = Answer>>(
    call: F,
    respond: &mut SendResponse<Bytes>,
) -> Result<Answer, Gone> {
    let mut call = pin!(call);
    poll_fn(|context| {
        if let Poll::Ready(answer) = call.as_mut().poll(context) {
            return Poll::Ready(Ok(answer));
        }
        respond.poll_reset(context).map(|_| Err(Gone))
    })
    .await
}

/// Waits for a whole body of at most `max_body` bytes.
async fn read_body<S: Service>(
    shared: &Active<S>,
    announced: Announced,
    head: &Head,
    max_body: usize,
    body: &mut RecvStream,
    respond: &mut SendResponse<Bytes>,
) -> Result<Bytes, BodyError> {
    if announced
        .length
        .is_some_and(|length| length > max_body as u64)
    {
        return Err(BodyError::Refused(Refusal::BodyTooLarge));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if announced.expects_continue {
        respond
            .send_informational(continue_response())
            .map_err(|_| BodyError::Gone)?;
    }
    let deadline = head.received() + shared.worker.limits.body_timeout;
    match timeout_at(deadline, gather(body, max_body)).await {
        Ok(gathered) => gathered,
        Err(_) => Err(BodyError::Refused(Refusal::BodyTimeout)),
    }
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

/// Sends an answer whole.
async fn send<S: Service>(
    shared: &Active<S>,
    answer: Answer,
    is_head: bool,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Gone> {
    let response = response_head(&answer);
    let empty = is_head || !answer.may_have_body() || answer.body.is_empty();
    let mut stream = respond.send_response(response, empty).map_err(|_| Gone)?;
    match empty {
        true => Ok(()),
        false if answer.body.len() <= QUEUED => {
            stream.send_data(answer.body.into(), true).map_err(|_| Gone)
        }
        false => send_large(shared, answer.body.into(), stream).await,
    }
}

fn response_head(answer: &Answer) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = answer.status_code();
    let headers = response.headers_mut();
    headers.reserve(answer.headers.len() + 2);
    for (name, value) in answer.own_headers() {
        headers.append(name, value.clone());
    }
    if answer.may_have_body() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
    }
    headers.insert(DATE, with_date(Instant::now(), HeaderValue::clone));
    response
}

/// Sends a body as the client's window opens, or gives the stream up.
async fn send_large<S: Service>(
    shared: &Active<S>,
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
