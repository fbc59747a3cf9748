//! Socket tests of the edge: real workers on port 0, with a small service behind them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod basics;
mod http2;
mod pass_through;
mod support;
mod time;
