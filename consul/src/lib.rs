//! Consul's HTTP API as far as the mesh needs it: the health of services and keys of the KV store, watched by blocking
//! queries; KV writes with check-and-set; registration with an agent.
//!
//! Written for a server that may be away, paused, without a leader, behind a proxy that answers HTML, or wrong: every
//! answer is bounded in size and time, nothing in it can panic, and what was known stays known. It knows nothing of
//! gateways, counters or configuration files. Refused: a server whose certificate is not its own, and anything that would
//! put the token into a log line.
//!
//! - API: <https://developer.hashicorp.com/consul/api-docs>
//! - blocking queries: <https://developer.hashicorp.com/consul/api-docs/features/blocking>

mod address;
mod advertise;
mod agent;
mod answer;
mod client;
mod connection;
mod entry;
mod error;
mod index;
mod instance;
mod kv;
mod pace;
mod prepared;
mod registrar;
mod registration;
mod request;
mod service;
mod status;
mod tls;
mod watch;

pub use address::{Address, AddressError};
pub use advertise::Advertise;
pub use agent::Agent;
pub use answer::Meta;
pub use client::{Client, TokenError};
pub use entry::{EntryKind, EntryQuery};
pub use error::{Error, Rule};
pub use instance::{Health, Instance, Instances, Weights};
pub use kv::{Entry, Expect, KeyQuery, MAX_VALUE};
pub use prepared::PreparedQuery;
pub use registrar::{Registrar, Vitals};
pub use registration::{Announced, Check, Registration};
pub use service::ServiceQuery;
pub use status::{State, Status, StatusHandle};
pub use tls::{TlsError, TlsFiles};
pub use watch::{Query, Seen, Watch};
