//! An accepted HTTP/2 stream as a session that pingora can proxy.
//!
//! Pingora can make its own HTTP/2 session only from a connection that it accepts from itself, so
//! this is a "custom" one. The request has been validated before; what pingora adds for a standard
//! session (Host from `:authority`, one Cookie field for HTTP/1.1) is done when the header is built.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::body_buffer::FixedBuffer;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::v2::write_body;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::ErrorType::{
    H2Error, InternalError, ReadError, ReadTimedout, WriteError, WriteTimedout,
};
use pingora_error::{Error, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::timeout;
use tokio_stream::Stream;

use crate::edge::Alarm;

/// Of a request body, what is kept so that another endpoint can be tried.
const RETRIED_BODY: usize = 64 * 1024;

type Messages = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// One stream, as pingora sees a client.
pub(super) struct StreamSession {
    header: RequestHeader,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    writer: Option<SendStream<Bytes>>,
    written: Option<Box<ResponseHeader>>,
    /// END_STREAM has been sent.
    ended: bool,
    body_read: usize,
    body_sent: usize,
    retry_buffer: Option<FixedBuffer>,
    digest: Arc<Digest>,
    /// Reads fail once it has struck.
    alarm: Alarm,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
}

impl StreamSession {
    /// A session of a request that has been found valid, with this authority.
    pub(super) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        authority: &str,
        digest: Arc<Digest>,
        alarm: Alarm,
    ) -> Self {
        let (mut parts, body) = request.into_parts();
        parts.version = Version::HTTP_2;
        if let Ok(host) = HeaderValue::from_str(authority) {
            parts.headers.insert(HOST, host);
        }
        join_cookies(&mut parts.headers);
        Self {
            header: parts.into(),
            body,
            respond,
            writer: None,
            written: None,
            ended: false,
            body_read: 0,
            body_sent: 0,
            retry_buffer: None,
            digest,
            alarm,
            read_timeout: None,
            write_timeout: None,
            drain_timeout: None,
        }
    }

    fn send_header(&mut self, mut header: Box<ResponseHeader>, end: bool) -> Result<()> {
        let already = self.ended || self.written.is_some();
        // The library sends informational headers only of its own making.
        if already || header.status.is_informational() {
            return Ok(());
        }
        for name in [TRANSFER_ENCODING, CONNECTION, UPGRADE] {
            header.remove_header(&name);
        }
        header.remove_header(&HeaderName::from_static("keep-alive"));
        header.remove_header(&HeaderName::from_static("proxy-connection"));
        let response = Response::from_parts(header.as_owned_parts(), ());
        let writer = self.respond.send_response(response, end);
        self.writer = Some(writer.or_err(WriteError, "cannot write the header to the stream")?);
        self.written = Some(header);
        self.ended = end;
        Ok(())
    }

    async fn send_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let writer = self.writer.as_mut();
        let writer = writer.ok_or_else(|| Error::explain(H2Error, "a body before the header"))?;
        let length = data.len();
        write_body(writer, data, end, self.write_timeout)
            .await
            .map_err(|error| error.into_down())?;
        self.body_sent += length;
        self.ended = end;
        Ok(())
    }

    async fn send_task(&mut self, task: HttpTask) -> Result<bool> {
        match task {
            HttpTask::Header(header, end) => {
                self.send_header(header, end)
                    .map_err(|error| error.into_down())?;
                Ok(end)
            }
            HttpTask::Body(Some(data), end) if !data.is_empty() => {
                self.send_body(data, end)
                    .await
                    .map_err(|error| error.into_down())?;
                Ok(end)
            }
            HttpTask::Body(_, end) => Ok(end),
            HttpTask::UpgradedBody(..) => {
                Error::e_explain(InternalError, "an upgraded body for a stream of HTTP/2")
            }
            HttpTask::Trailer(Some(trailers)) => {
                self.write_trailers(*trailers).await?;
                Ok(true)
            }
            HttpTask::Trailer(None) | HttpTask::Done => Ok(true),
            HttpTask::Failed(error) => Err(error),
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>> {
        let data = unless_struck(&self.alarm, self.body.data())
            .await?
            .transpose();
        let data = data.or_err(ReadError, "cannot read the stream's body")?;
        if let Some(data) = &data {
            self.body_read += data.len();
            if let Some(buffer) = &mut self.retry_buffer {
                buffer.write_to_buffer(data);
            }
            // It fails only for a stream that has ended.
            self.body.flow_control().release_capacity(data.len()).ok();
        }
        Ok(data)
    }

    /// Waits for the client to give the stream up.
    async fn closed(&mut self) -> Result<Option<Bytes>> {
        let reason = poll_fn(|context| match &mut self.writer {
            Some(writer) => writer.poll_reset(context),
            None => self.respond.poll_reset(context),
        });
        let reason = unless_struck(&self.alarm, reason).await?;
        let reason = reason.or_err(H2Error, "the connection ended")?;
        Error::e_explain(H2Error, format!("the client reset the stream: {reason}"))
    }
}

/// RFC 9113 section 8.2.3: cookies that came in pieces go on in one.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// What `read` gives, or an error once the alarm has struck.
async fn unless_struck<T>(alarm: &Alarm, read: impl Future<Output = T>) -> Result<T> {
    let mut read = pin!(read);
    poll_fn(|context| match read.as_mut().poll(context) {
        Poll::Ready(read) => Poll::Ready(Ok(read)),
        Poll::Pending if alarm.has_struck() => {
            Poll::Ready(Error::e_explain(ReadTimedout, "no answer in time"))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    match limit {
        None => work.await,
        Some(limit) => match timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Error::e_explain(ReadTimedout, "the stream's body did not come in time"),
        },
    }
}

#[async_trait]
impl Session for StreamSession {
    fn req_header(&self) -> &RequestHeader {
        &self.header
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.header
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        within(self.read_timeout, self.read()).await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        let limit = self.drain_timeout;
        within(limit, async {
            while !self.is_body_done() && self.read().await?.is_some() {}
            Ok(())
        })
        .await
    }

    async fn write_response_header(
        &mut self,
        header: Box<ResponseHeader>,
        end: bool,
    ) -> Result<()> {
        self.send_header(header, end)
    }

    async fn write_response_header_ref(
        &mut self,
        header: &ResponseHeader,
        end: bool,
    ) -> Result<()> {
        self.send_header(Box::new(header.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        match self.write_timeout {
            None => self.send_body(data, end).await,
            Some(limit) => match timeout(limit, self.send_body(data, end)).await {
                Ok(sent) => sent,
                Err(_) => {
                    Error::e_explain(WriteTimedout, "the client did not take the body in time")
                }
            },
        }
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let writer = self.writer.as_mut();
        let writer = writer.ok_or_else(|| Error::explain(H2Error, "trailers before the header"))?;
        writer
            .send_trailers(trailers)
            .or_err(WriteError, "cannot write the trailers to the stream")?;
        self.ended = true;
        Ok(())
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut end = false;
        for task in tasks {
            end |= self.send_task(task).await?;
        }
        if end {
            self.finish().await.map_err(|error| error.into_down())?;
        }
        Ok(end)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_timeout = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    fn request_summary(&self) -> String {
        let host = self
            .header
            .headers
            .get(HOST)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let host = String::from_utf8_lossy(host);
        format!(
            "{} {}, Host: {host}",
            self.header.method,
            self.header.uri.path()
        )
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        if !self.ended {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.is_body_empty() || self.body.is_end_stream()
    }

    async fn finish(&mut self) -> Result<()> {
        if let (false, Some(writer)) = (self.ended, &mut self.writer) {
            let sent = writer.send_data(Bytes::new(), true);
            sent.or_err(WriteError, "cannot end the stream")?;
            self.ended = true;
        }
        // Without a header the stream is reset when it is dropped.
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        let announced = self.header.headers.get(CONTENT_LENGTH);
        let none_announced = announced.is_some_and(|length| length.as_bytes() == b"0");
        self.body_read == 0 && (none_announced || self.body.is_end_stream())
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        match no_body_expected || self.is_body_done() {
            true => self.closed().await,
            false => self.read_body_bytes().await,
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.body_sent
    }

    fn body_bytes_read(&self) -> usize {
        self.body_read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        // Asked for by subrequests only, which belong to pingora's cache.
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {
        self.retry_buffer
            .get_or_insert_with(|| FixedBuffer::new(RETRIED_BODY));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.retry_buffer
            .as_ref()
            .is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        let buffer = self.retry_buffer.as_ref()?;
        if buffer.is_truncated() {
            None
        } else {
            buffer.get_buffer()
        }
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: Messages) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }
}
