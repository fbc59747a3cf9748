//! The analytics service: rankings and time series of the counters.
//!
//! `source -> events -> state -> queries`: a [`source::Source`] delivers events in order with positions, the
//! [`consumer`] applies each to the [`tally::Tally`] exactly once and stores it, the gRPC service answers from it and from
//! those of its [`peers`]. [`app`]
//! puts it together for the program and for a process that holds the whole mesh.

pub mod app;
pub mod consumer;
mod dispatch;
pub mod event;
mod gather;
pub mod kafka;
mod metrics;
pub mod peers;
mod query;
mod service;
pub mod settings;
pub mod source;
pub mod state;
pub mod status;
pub mod tally;

pub use app::App;
