//! From `mesh.yaml` to an immutable, validated snapshot.
//!
//! ```text
//! text -> yaml (tree with lines) -> section/* (model, each by itself) -> check (cross-references) -> Snapshot
//! ```
//!
//! Over the file may lie a value of Consul's KV store (`sources`), which `centre` follows, keeps and writes the history of.
//!
//! Every mistake is reported at once, with file, line, path and what to do. A key of the format whose feature
//! this version does not have is refused by name; nothing is swallowed. The keys are described in
//! `docs/configuration.md`, and listed for the machine in `schema.rs`.

pub mod centre;
mod check;
mod env;
mod learnt;
mod live;
mod load;
pub mod model;
mod origins;
mod positions;
mod problem;
mod reader;
mod reload;
mod report;
mod schema;
mod section;
mod sources;
mod suggest;
mod yaml;

pub use learnt::{Learnt, Origin, Sets};
pub use live::{Live, Publisher};
pub use load::{data_directory, load, load_from, parse, parse_with, place};
pub use model::Snapshot;
pub use positions::Positions;
pub use problem::{Problem, Problems, problems_text};
pub use reload::{
    Applied, Begun, KeyStatus, Rejected, ReloadHandle, Reloader, Reloads, Status, rfc3339,
};
pub use section::field::is_framing;
pub use sources::{Given, KvKey, Place, Sources};
