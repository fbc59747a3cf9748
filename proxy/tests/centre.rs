//! The configuration centre: real Consul, real gateways, keys that people edit well and badly while requests flow.

#![expect(
    clippy::too_many_lines,
    reason = "each test is one story of a key, told from its beginning to its end"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types
)]

mod centre {
    mod away;
    mod commands;
    mod edits;
    mod hangups;
    mod history;
    mod rights;
    mod services;
    mod setup;
    mod switches;
}
