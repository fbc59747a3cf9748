//! The whole mesh as it is run: a real Consul, counters that register themselves and count in one real Redis, and the gateway that
//! finds them, under load. Whatever happens to one of them, no request fails and every increment counts once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types
)]

mod mesh_with_consul {
    mod consul_away;
    mod deployed;
    mod instances;
    mod keys;
    mod load;
    mod mesh;
    mod reaped;
    mod rights;
}
