//! Policies of clusters and routes, counted at the backends of a real gateway.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod policies {
    mod adaptive;
    mod breaker;
    mod canary;
    mod fallback;
    mod hedging;
    mod migration;
    mod outliers;
    mod overload;
    mod panic;
    mod rate_limit;
    mod retries;
    mod scripted;
    mod splits;
    mod support;
    mod switch;
}
