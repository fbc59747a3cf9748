//! The first bytes of a connection, and which protocol they are.
//!
//! HTTP/2 by prior knowledge is told by its preface; nothing else is tried. `Upgrade: h2c` is not
//! answered (RFC 9113 section 3.1 has it removed).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::Service;
use super::connections::OpenConnection;
use super::head::Head;
use super::http2::PREFACE;
use super::refusal::Refusal;
use super::socket::{Socket, poll_fill};
use super::timer::Timer;
use super::workers::{Protocols, Worker};
use super::{http1, http2};

/// A connection that has just been accepted.
pub(super) struct Beginning<S> {
    pub(super) worker: Arc<Worker<S>>,
    pub(super) open: OpenConnection,
    pub(super) socket: Socket,
    pub(super) peer: std::net::SocketAddr,
    pub(super) protocols: Protocols,
}

/// What the first bytes have turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    Neither,
}

impl<S: Service> Beginning<S> {
    /// Serves the connection to its end.
    pub(super) async fn serve(mut self) {
        let limits = &self.worker.limits;
        let timer = Timer::new(
            Instant::now() + limits.header_timeout,
            limits.shortest_timeout(),
        );
        let head = Head::new(self.peer, http1::FIRST_ROOM);
        let (spoken, head, timer) = self.listen(head, timer).await;
        let Self {
            worker,
            open,
            socket,
            peer,
            ..
        } = self;
        match spoken {
            Spoken::Http1 => {
                http1::Session::new(worker, open, socket, head, timer)
                    .run()
                    .await
            }
            Spoken::Http2 => {
                // Boxed, so that connections of HTTP/1.1 do not carry its size.
                Box::pin(http2::serve(worker, open, socket, head.buffer, peer, timer)).await;
            }
            Spoken::Neither => {}
        }
    }

    /// Tells the client that there are too many, without reading what it wants.
    pub(super) async fn turn_away(self) {
        let limits = &self.worker.limits;
        let timer = Timer::new(
            Instant::now() + limits.write_timeout,
            limits.shortest_timeout(),
        );
        let head = Head::new(self.peer, 0);
        let session = http1::Session::new(self.worker, self.open, self.socket, head, timer);
        session.turn_away(Refusal::TooManyConnections).await;
    }

    /// Reads until the protocol is clear.
    async fn listen(&mut self, mut head: Head, mut timer: Timer) -> (Spoken, Head, Timer) {
        let spoken = loop {
            if let Some(spoken) = spoken(&head.buffer, self.protocols) {
                break spoken;
            }
            let more = poll_fn(|context| {
                self.open.wake_on_drain(context.waker());
                match poll_fill(
                    &mut self.socket,
                    context,
                    &mut head.buffer,
                    http1::FIRST_ROOM,
                ) {
                    Poll::Ready(read) => {
                        return Poll::Ready(matches!(read, Ok(count) if count > 0));
                    }
                    Poll::Pending => {}
                }
                let silent_in_drain =
                    head.buffer.is_empty() && self.worker.connections.is_draining();
                match timer.poll(context).is_ready() || silent_in_drain {
                    true => Poll::Ready(false),
                    false => Poll::Pending,
                }
            });
            if !more.await {
                // A session of HTTP/1.1 finds its deadline passed, and says so.
                let begun = !head.buffer.is_empty() && self.protocols.http1;
                break if begun {
                    Spoken::Http1
                } else {
                    Spoken::Neither
                };
            }
        };
        (spoken, head, timer)
    }
}

/// What these bytes are, if they are enough to tell.
fn spoken(bytes: &[u8], protocols: Protocols) -> Option<Spoken> {
    if !protocols.h2c {
        return Some(Spoken::Http1);
    }
    let compared = bytes.len().min(PREFACE.len());
    if bytes[..compared] != PREFACE[..compared] {
        return Some(if protocols.http1 {
            Spoken::Http1
        } else {
            Spoken::Neither
        });
    }
    (compared == PREFACE.len()).then_some(Spoken::Http2)
}
