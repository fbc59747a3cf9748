//! The upstream half against scripted backends, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod upstream {
    mod calls;
    mod clusters;
    mod connections;
    mod support;
    mod workers;
}
