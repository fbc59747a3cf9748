//! Descriptors that the gateway learns while it runs: by reflection of a backend, and from a key of Consul.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod descriptors {
    mod kv;
    mod reflection;
    mod setup;
}
