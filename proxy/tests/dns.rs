//! The gateway with name servers: one that answers what a test wants, and Consul's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types
)]

mod dns {
    mod consul;
    mod failures;
    mod lookups;
    mod server;
    mod setup;
}
