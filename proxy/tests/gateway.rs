//! The gateway as a black box, beyond the Phase 1 contract: services that it has never seen, reloads under load,
//! plain HTTP passed through, drains, and its commands.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod gateway {
    mod commands;
    mod drain;
    mod health;
    mod library;
    mod passthrough;
    mod reload;
    mod reload_load;
    mod scrape;
}
