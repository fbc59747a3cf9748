//! Watches the frames of an HTTP/2 connection go by, and says when a client only makes work, or
//! begins a header and does not end it.
//!
//! SETTINGS, PING, PRIORITY, RST_STREAM, WINDOW_UPDATE and empty frames are free for a client and
//! cost the server an answer or a lookup (CVE-2019-9512, -9515, -9518 and kin). Each takes from a
//! budget that requests, data and time refill.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::PREFACE;
use crate::edge::socket::Socket;

/// Frames that a client may send for nothing at once, and each second from then on.
const BURST: i64 = 2_000;
const PER_SECOND: f64 = 500.0;
/// What a request is worth; and this many bytes written, which the client acknowledges.
const REQUEST_WORTH: i64 = 8;
const BYTES_WORTH: usize = 4 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const FRAME_HEADER: usize = 9;

/// What has been seen of a connection's client.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    flooding: AtomicBool,
    /// A header block or a frame other than DATA has begun and not ended.
    unfinished: AtomicBool,
}

/// The connection's socket, watched; what had been read from it before comes first.
#[derive(Debug)]
pub(super) struct Watched {
    socket: Socket,
    first: Vec<u8>,
    meter: Meter,
}

/// Follows frame boundaries and keeps the budget.
#[derive(Debug)]
struct Meter {
    /// Bytes to pass over until the next frame header.
    skip: usize,
    header: [u8; FRAME_HEADER],
    filled: usize,
    /// HEADERS have come, END_HEADERS has not.
    in_block: bool,
    budget: i64,
    refilled: Instant,
    seen: Seen,
}

pub(super) fn watch(socket: Socket, first: Vec<u8>) -> (Watched, Seen) {
    let seen = Seen::default();
    let meter = Meter {
        skip: PREFACE.len(),
        header: [0; FRAME_HEADER],
        filled: 0,
        in_block: false,
        budget: BURST,
        refilled: Instant::now(),
        seen: seen.clone(),
    };
    (
        Watched {
            socket,
            first,
            meter,
        },
        seen,
    )
}

impl Seen {
    pub(super) fn is_flooding(&self) -> bool {
        self.0.flooding.load(Ordering::Relaxed)
    }

    pub(super) fn is_unfinished(&self) -> bool {
        self.0.unfinished.load(Ordering::Relaxed)
    }
}

impl Meter {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = (FRAME_HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + wanted].copy_from_slice(&bytes[..wanted]);
            self.filled += wanted;
            bytes = &bytes[wanted..];
            if self.filled == FRAME_HEADER {
                self.filled = 0;
                self.frame();
            }
        }
        let in_frame = self.filled > 0 || (self.skip > 0 && self.header[3] != DATA);
        let unfinished = in_frame || self.in_block;
        self.seen.0.unfinished.store(unfinished, Ordering::Relaxed);
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_block = flags & END_HEADERS == 0;
        }
        match kind {
            HEADERS => self.earn(REQUEST_WORTH),
            // The library bounds them by the size of the header list.
            CONTINUATION => {}
            DATA if self.skip > 0 => {}
            _ => self.spend(),
        }
    }

    fn earn(&mut self, worth: i64) {
        self.budget = (self.budget + worth).min(BURST);
    }

    fn spend(&mut self) {
        self.budget -= 1;
        if self.budget >= 0 {
            return;
        }
        // Only who is at the end of the budget costs a look at the clock.
        let now = Instant::now();
        let earned = (now - self.refilled).as_secs_f64() * PER_SECOND;
        self.refilled = now;
        self.budget = (self.budget + earned as i64).min(BURST);
        if self.budget < 0 {
            self.seen.0.flooding.store(true, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.seen.is_flooding() {
            // Nothing more is taken in. The session, whose poll this is, sees the flag next.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
        } else {
            let count = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first[..count]);
            this.first.drain(..count);
        }
        this.meter.read(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.socket).poll_write(context, bytes))?;
        this.meter.earn((count / BYTES_WORTH) as i64);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.socket).poll_write_vectored(context, slices))?;
        this.meter.earn((count / BYTES_WORTH) as i64);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
