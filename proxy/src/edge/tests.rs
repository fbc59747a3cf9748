//! Socket tests of the edge: real workers on port 0, with a small service behind them.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![expect(
    clippy::disallowed_methods,
    reason = "blocking clients on threads of their own"
)]

mod basics;
mod frames;
mod hostile;
mod http2;
mod pass_through;
mod random;
mod support;
mod time;
