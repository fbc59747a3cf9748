//! From `mesh.yaml` to an immutable, validated snapshot.
//!
//! ```text
//! text -> yaml (tree with lines) -> section/* (model, each by itself) -> check (cross-references) -> Snapshot
//! ```
//!
//! Every mistake is reported at once, with file, line, path and what to do. A key of the format whose feature
//! this version does not have is refused by name; nothing is swallowed. The keys are described in
//! `docs/configuration.md`, and listed for the machine in `schema.rs`.

mod check;
mod env;
mod live;
mod load;
pub mod model;
mod positions;
mod problem;
mod reader;
mod reload;
mod report;
mod schema;
mod section;
mod suggest;
mod yaml;

pub use live::{Live, Publisher};
pub use load::{load, parse, parse_with};
pub use model::Snapshot;
pub use positions::Positions;
pub use problem::{Problem, Problems, problems_text};
pub use reload::{Applied, Rejected, ReloadHandle, Reloader, Reloads, Status, rfc3339};
