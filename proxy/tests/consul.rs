//! The gateway with a real Consul: endpoints that come and go under load, and a Consul that does so itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types
)]

mod consul {
    mod away;
    mod changes;
    mod checks;
    mod datacenters;
    mod entries;
    mod entries_balancing;
    mod held;
    mod load;
    mod locality;
    mod rights;
    mod setup;
    mod tls;
}
