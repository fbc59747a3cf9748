//! What waits to be written to a client of HTTP/1.1.
//!
//! Heads and small bodies are gathered in one buffer; a large body stays where it is and leaves
//! together with what stands before it in one vectored write.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Version};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::edge::Answer;
use crate::edge::head::Head;
use crate::edge::socket::Socket;

/// Copying more than this costs more than a second slice.
const COPIED: usize = 16 * 1024;
/// A buffer larger than this is given back when it has been written.
const KEPT: usize = 64 * 1024;

/// Bytes on their way out.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// Comes after `bytes`.
    large: Vec<u8>,
    sent: usize,
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.large.len() - self.sent
    }

    /// Of what waits or waited since the last time that all was written.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Queues an answer to `head`.
    pub(super) fn push(&mut self, answer: Answer, head: &Head, keep_alive: bool) {
        self.gather();
        answer.write_head(&mut self.bytes, head.version, keep_alive, head.received);
        if !answer.may_have_body() || head.method == http::Method::HEAD {
            return;
        }
        match answer.body.len() > COPIED {
            true => self.large = answer.body,
            false => self.bytes.extend_from_slice(&answer.body),
        }
    }

    /// Queues the head of an answer whose body follows.
    pub(super) fn push_head(
        &mut self,
        answer: &Answer,
        version: Version,
        keep_alive: bool,
        now: Instant,
    ) {
        self.gather();
        answer.write_head(&mut self.bytes, version, keep_alive, now);
    }

    /// Queues a piece of a body in the chunked coding (RFC 9112 section 7.1).
    pub(super) fn push_chunk(&mut self, piece: &[u8]) {
        self.gather();
        // Writing to memory cannot fail.
        let _ = write!(self.bytes, "{:x}\r\n", piece.len());
        self.bytes.extend_from_slice(piece);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Queues the end of a body in the chunked coding, with its trailer section (RFC 9112 section 7.1.2).
    pub(super) fn push_last_chunk(&mut self, trailers: &HeaderMap) {
        self.gather();
        self.bytes.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
            line.iter()
                .for_each(|part| self.bytes.extend_from_slice(part));
        }
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Queues bytes that are no answer, such as `100 Continue`.
    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        self.gather();
        self.bytes.extend_from_slice(bytes);
    }

    /// What is queued next comes after all that is.
    fn gather(&mut self) {
        if !self.large.is_empty() {
            self.bytes.append(&mut self.large);
        }
    }

    /// Ready when all is written.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut Socket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.len() > 0 {
            let socket = Pin::new(&mut *socket);
            let rest = self.bytes.get(self.sent..).unwrap_or_default();
            let count = if self.large.is_empty() {
                ready!(socket.poll_write(context, rest))?
            } else {
                let large = &self.large[self.sent.saturating_sub(self.bytes.len())..];
                let slices = [IoSlice::new(rest), IoSlice::new(large)];
                ready!(socket.poll_write_vectored(context, &slices))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    fn clear(&mut self) {
        self.sent = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.large = Vec::new();
    }
}
