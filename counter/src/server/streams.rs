//! The streams of one connection, run by the connection's own task.
//!
//! hyper asks an executor to run each stream. Spawned, each would be a task that wakes other threads and is woken one by one;
//! here many answers that become ready together (a batch of the store's) are one wake-up and one write. Handlers must not block,
//! and a connection uses one core: callers that need more open more connections.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;
use parking_lot::Mutex;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes streams from hyper.
#[derive(Clone, Default)]
pub(super) struct Streams {
    new: Arc<Mutex<Vec<Stream>>>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.new.lock().push(Box::pin(stream));
    }
}

impl Streams {
    /// Drives the connection together with its streams, to the connection's end.
    pub(super) async fn run<C: Future>(self, connection: C) -> C::Output {
        let mut connection = pin!(connection);
        let mut running = FuturesUnordered::new();
        std::future::poll_fn(move |context| {
            if let Poll::Ready(end) = connection.as_mut().poll(context) {
                return Poll::Ready(end);
            }
            running.extend(self.new.lock().drain(..));
            // What they answer wakes the connection, which then writes all of it at once.
            while let Poll::Ready(Some(())) = running.poll_next_unpin(context) {}
            Poll::Pending
        })
        .await
    }
}
