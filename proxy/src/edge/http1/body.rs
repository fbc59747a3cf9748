//! Reads the body of a request of HTTP/1.1 into the buffer behind its head.
//!
//! The buffer grows with what comes, never with what is announced, and never beyond what the lane
//! takes. The whole body has one deadline.

use std::ops::Range;

use tokio::time::Instant;

use super::{End, Filled, HeadKnown, READ_ROOM, Session};
use crate::edge::Service;
use crate::edge::chunked::Chunked;
use crate::edge::parse::{Body, Framing};
use crate::edge::refusal::Refusal;

/// No single read asks for more room than this.
const MAX_ROOM: usize = 64 * 1024;

impl<S: Service> Session<S> {
    /// Waits for a whole body of at most `max_body` bytes, and says where it is.
    pub(super) async fn read_body(
        &mut self,
        framing: Framing,
        max_body: usize,
    ) -> Result<Range<usize>, End> {
        let body = match framing.body {
            Body::Length(0) => self.head.end..self.head.end,
            Body::Length(length) if length > max_body as u64 => {
                return Err(refused(Refusal::BodyTooLarge));
            }
            Body::Length(length) => self.read_counted(framing, length as usize).await?,
            Body::Chunked => self.read_chunked(framing, max_body).await?,
        };
        self.consumed = body.end;
        Ok(body)
    }

    /// Reads a body that nobody wants; false if the connection must be closed instead.
    pub(super) async fn discard_body(&mut self, framing: Framing) -> Result<bool, End> {
        if framing.expects_continue && self.head.buffer.len() == self.head.end {
            return Ok(false);
        }
        match self
            .read_body(framing, self.worker.limits.discard_bytes)
            .await
        {
            Ok(_) => Ok(true),
            Err(End::Refuse(..)) => Ok(false),
            Err(end) => Err(end),
        }
    }

    async fn read_counted(&mut self, framing: Framing, length: usize) -> Result<Range<usize>, End> {
        let end = self.head.end + length;
        if self.head.buffer.len() < end {
            self.begin_body(framing).await?;
        }
        while self.head.buffer.len() < end {
            let missing = end - self.head.buffer.len();
            self.read_more(missing.clamp(1, MAX_ROOM)).await?;
        }
        Ok(self.head.end..end)
    }

    async fn read_chunked(
        &mut self,
        framing: Framing,
        max_body: usize,
    ) -> Result<Range<usize>, End> {
        let start = self.head.end;
        let mut chunked = Chunked::new();
        let mut written = start;
        let mut begun = false;
        loop {
            let buffer = &mut self.head.buffer;
            let progress = chunked
                .decode(buffer, start, written, written, max_body)
                .map_err(refused)?;
            written = progress.written;
            if progress.done {
                // What lies behind the body moves up to it, so that the request is in one piece.
                buffer.drain(progress.written..progress.read);
                return Ok(start..written);
            }
            buffer.truncate(written);
            if !std::mem::replace(&mut begun, true) {
                self.begin_body(framing).await?;
            }
            let room = self.head.buffer.len().clamp(READ_ROOM, MAX_ROOM);
            self.read_more(room).await?;
        }
    }

    /// Before the first wait for a body: its deadline, and the word that the client may wait for.
    async fn begin_body(&mut self, framing: Framing) -> Result<(), End> {
        if framing.expects_continue && self.head.buffer.len() == self.head.end {
            self.output.push_raw(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.flush().await?;
        self.timer
            .set(Instant::now() + self.worker.limits.body_timeout);
        Ok(())
    }

    async fn read_more(&mut self, room: usize) -> Result<(), End> {
        match self.fill(false, room).await {
            Filled::Some => Ok(()),
            Filled::TimedOut => Err(refused(Refusal::BodyTimeout)),
            Filled::Gone | Filled::Draining => Err(End::Close),
        }
    }
}

fn refused(refusal: Refusal) -> End {
    End::Refuse(refusal, HeadKnown::Yes)
}
