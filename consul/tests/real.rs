//! A real Consul, real agents: what is registered is seen, at once; what is refused says why; what is forgotten comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_types)]

mod real {
    mod health;
    mod keys;
    mod registration;
    mod rights;
    mod setup;
}
