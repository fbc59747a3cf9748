//! The byte stream under a session: a TCP socket, or one that has been through pingora.
//!
//! An enum rather than a trait object, so that the usual case is a direct call.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora_core::protocols::l4::stream::Stream as TcpLayer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection to a client.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    /// Came back from a pass-through; pingora does not give the socket itself back.
    Returned(Box<TcpLayer>),
    /// With pingora just now; reads and writes fail.
    Lent,
}

impl Socket {
    /// This end's address, while the socket is here.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            Self::Returned(_) | Self::Lent => None,
        }
    }
}

/// Reads into the spare room of `buffer`, at least `room` bytes; `Ok(0)` is the end of the stream.
pub(super) fn poll_fill<R: AsyncRead + Unpin>(
    socket: &mut R,
    context: &mut Context<'_>,
    buffer: &mut Vec<u8>,
    room: usize,
) -> Poll<io::Result<usize>> {
    if buffer.capacity() - buffer.len() < room {
        buffer.reserve(room);
    }
    std::pin::pin!(socket.read_buf(buffer)).poll(context)
}

macro_rules! delegate {
    ($self:ident, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp(tcp) => {
                let $socket = Pin::new(tcp);
                $call
            }
            Socket::Returned(stream) => {
                let $socket = Pin::new(&mut **stream);
                $call
            }
            Socket::Lent => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, socket => socket.poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, socket => socket.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, socket => socket.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, socket => socket.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, socket => socket.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Returned(stream) => stream.is_write_vectored(),
            Self::Lent => false,
        }
    }
}
