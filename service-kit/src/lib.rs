//! What every program of the mesh does the same: telemetry, settings, readiness, admin HTTP, metrics, drain,
//! registration in Consul.
//!
//! It knows nothing of counters, routes or gRPC; programs put it together in their `app`. Nothing here is global but the
//! log subscriber and the signal handlers, so several programs can live in one process, each with its own registry,
//! readiness and admin port.

pub mod admin;
pub mod consul;
pub mod deadline;
pub mod drain;
pub mod metrics;
pub mod program;
pub mod readiness;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

pub use admin::{Admin, AdminServer, RequestView, Response};
pub use drain::{Drain, InFlight};
pub use readiness::{Readiness, ReadinessGuard};
pub use settings::{Mistakes, Settings};
