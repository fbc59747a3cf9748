//! Policies of clusters and routes, counted at the backends of a real gateway.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod policies {
    mod adaptive;
    mod balancing;
    mod breaker;
    mod browsers;
    mod canary;
    mod checked;
    mod checks;
    mod checks_http;
    mod checks_reload;
    mod connections;
    mod deadlines;
    mod exactly_once;
    mod fallback;
    mod fault;
    mod hedging;
    mod http_destination;
    mod limits;
    mod migration;
    mod mirror;
    mod outliers;
    mod overload;
    mod panic;
    mod pass_elsewhere;
    mod pass_hygiene;
    mod pass_retries;
    mod pass_setup;
    mod rate_limit;
    mod rate_limit_transcoded;
    mod retries;
    mod room;
    mod scripted;
    mod setup;
    mod shaping;
    mod splits;
    mod support;
    mod switch;
}
