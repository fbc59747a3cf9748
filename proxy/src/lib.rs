//! The gateway: HTTP/JSON at the door, gRPC inside.
//!
//! The life of a request, by file:
//!
//! ```text
//! edge/          accept, read and validate a head          (HTTP/1.1, HTTP/2, limits)
//!   gateway      the table of contents: which lane?
//!     route_table  host, path, method, headers, query -> row
//!     door         turned away under overload (shedding), or by a rate limit?
//!     unary        step by step: destination, encode -> call -> decode
//!       upstream/    limits, pick, connection, attempts
//!       mirror     copies of requests, whose answers may be compared
//!     stream       messages one by one: encode -> stream -> decode, in the form the client wants
//!     passthrough  plain HTTP, on pingora's pipeline
//!     system       pages that the gateway answers itself
//!   refusals     every failure, in the route's shape
//! ```
//!
//! `app` puts it together; `error` and `metrics` are leaves.

pub mod admin;
pub mod announce;
pub mod app;
mod bodies;
mod boot;
mod breaks;
pub mod cli;
pub mod commands;
mod compression;
mod configure;
mod cors;
mod counted;
mod descriptors;
mod destination;
mod discovery;
mod door;
pub mod edge;
mod entries;
mod error;
mod explain;
mod fault;
mod forward;
mod gateway;
mod grpc;
mod metadata;
pub mod metrics;
mod mirror;
mod openapi;
mod passthrough;
pub mod rate_limit;
mod refusals;
pub mod route_table;
mod shaping;
pub mod shedding;
mod state_metrics;
mod stream;
pub mod system;
mod unary;
pub mod upstream;
mod worker_table;
