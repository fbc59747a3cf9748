//! The HTTP API that descriptors make, as clients meet it: methods and paths, rules from a service configuration, what a changed
//! descriptor breaks, and the OpenAPI document of it all.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod api {
    mod breaks;
    mod explain;
    mod openapi;
    mod paths;
    mod rules;
    mod setup;
}
