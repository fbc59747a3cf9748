//! The counter service: likes, views, follows.
//!
//! A call goes `server` (HTTP/2, deadline, metrics) -> `dispatch` (which service) -> `service` (checks, answers; the
//! increment by way of `unary`) -> `store` (memory, embedded, Redis). [`app`] puts it together for the program and for a
//! process that holds the whole mesh.

pub mod app;
mod dispatch;
mod error;
pub mod id;
pub mod idempotency;
mod metrics;
mod outbox;
pub mod relay;
mod server;
mod service;
pub mod settings;
pub mod status;
pub mod store;
pub mod tools;
mod unary;

pub use app::App;
pub use service::MAX_BATCH;
