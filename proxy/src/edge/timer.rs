//! One timer for a connection's whole life, whose deadline moves from phase to phase.
//!
//! Moving it on costs a store: the runtime's timer is armed for a short time ahead, and only when it
//! fires is the deadline looked at again.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that can be polled and moved.
#[derive(Debug)]
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
    /// No longer than the shortest timeout, so that the armed time is seldom after the deadline.
    step: Duration,
}

impl Timer {
    pub(super) fn new(deadline: Instant, step: Duration) -> Self {
        Self {
            sleep: Box::pin(sleep_until(deadline)),
            deadline,
            step,
        }
    }

    /// Moves the deadline.
    pub(super) fn set(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            let now = Instant::now();
            if now >= self.deadline {
                return Poll::Ready(());
            }
            self.sleep
                .as_mut()
                .reset(self.deadline.min(now + self.step));
        }
    }
}
