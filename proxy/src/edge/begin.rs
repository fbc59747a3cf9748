//! The first bytes of a connection, and which protocol they are.
//!
//! HTTP/2 by prior knowledge is told by its preface; nothing else is tried. `Upgrade: h2c` is not
//! answered (RFC 9113 section 3.1 has it removed).

use std::future::poll_fn;
use std::task::Poll;

use super::Service;
use super::http1::Session;
use super::http2::{self, PREFACE};
use super::refusal::Refusal;
use super::workers::Protocols;

/// What the first bytes have turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    Neither,
}

/// Serves a connection from its first byte to its end.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn would hold the session twice"
)]
pub(super) fn serve<S: Service>(
    mut session: Session<S>,
    protocols: Protocols,
) -> impl Future<Output = ()> + Send {
    async move {
        match session.listen(protocols).await {
            Spoken::Http1 => session.run().await,
            // Boxed, so that connections of HTTP/1.1 do not carry its size.
            Spoken::Http2 => Box::pin(http2::serve(session)).await,
            Spoken::Neither => {}
        }
    }
}

/// Tells a client that there are too many, without reading what it wants.
pub(super) async fn turn_away<S: Service>(mut session: Session<S>) {
    session.refuse(Refusal::TooManyConnections).await;
}

impl<S: Service> Session<S> {
    /// Reads until the protocol is clear.
    async fn listen(&mut self, protocols: Protocols) -> Spoken {
        loop {
            if let Some(spoken) = spoken(&self.head.buffer, protocols) {
                return spoken;
            }
            let more = poll_fn(|context| {
                self.open.wake_on_drain(context.waker());
                let read = self.poll_fill(context);
                if let Poll::Ready(read) = read {
                    return Poll::Ready(matches!(read, Ok(count) if count > 0));
                }
                let silent_in_drain =
                    self.head.buffer.is_empty() && self.worker.connections.is_draining();
                match self.timer.poll(context).is_ready() || silent_in_drain {
                    true => Poll::Ready(false),
                    false => Poll::Pending,
                }
            });
            if !more.await {
                // A session of HTTP/1.1 finds its deadline passed, and says so.
                let begun = !self.head.buffer.is_empty() && protocols.http1;
                return if begun {
                    Spoken::Http1
                } else {
                    Spoken::Neither
                };
            }
        }
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
