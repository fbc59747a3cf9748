//! Policies of clusters and routes, counted at the backends of a real gateway.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod policies {
    mod canary;
    mod fallback;
    mod migration;
    mod splits;
    mod support;
    mod switch;
}
