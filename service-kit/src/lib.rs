//! What every program of the mesh does the same: telemetry, settings, readiness, admin HTTP, metrics, drain,
//! registration in Consul.
//!
//! It knows nothing of counters and routes, and of gRPC what every port of it has: health, reflection, deadlines, metrics. Programs
//! put it together in their `app`. Nothing here is global but the
//! log subscriber and the signal handlers, so several programs can live in one process, each with its own registry,
//! readiness and admin port.

pub mod admin;
pub mod centre;
pub mod consul;
pub mod deadline;
pub mod drain;
pub mod grpc;
pub mod metrics;
pub mod program;
pub mod readiness;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

pub use admin::{Admin, AdminServer, RequestView, Response};
pub use drain::{Drain, InFlight, Patience};
pub use readiness::{Readiness, ReadinessGuard};
pub use settings::{Mistakes, Settings};
