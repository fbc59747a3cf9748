//! What tests share: the real programs as black boxes, real servers on free ports, scripted backends, small clients.
//!
//! Only ever a dev-dependency. Everything binds port 0 of the loopback, every wait is bounded and says what it waited
//! for, and whatever a test started ends with it, even if the test is killed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test's helper fails by panicking, and real time is what black boxes live in"
)]

mod accept;
pub mod backend;
mod child;
pub mod consul;
pub mod contract;
pub mod descriptors;
pub mod echo;
pub mod h2c;
pub mod http1;
pub mod http_backend;
pub mod json;
pub mod kafka;
pub mod mesh;
pub mod metrics;
pub mod program;
pub mod prometheus;
pub mod raw_backend;
pub mod redis;
pub mod reflection;
pub mod stream_backend;
pub mod topic;
pub mod wait;

pub use consul::Consul;
pub use http_backend::HttpBackend;
pub use http1::{Http1, Response};
pub use kafka::Kafka;
pub use metrics::Metrics;
pub use program::{Program, Running};
pub use redis::Redis;
pub use stream_backend::StreamBackend;
pub use wait::eventually;
