//! Which of many endpoints takes a request: policies, consistent hashing, weights that grow, and how much stays near.
//!
//! ```text
//! Picker (pick) over Candidates -> alias tables, turns, load (peak EWMA) or a hash table (ring, maglev)
//! ```
//!
//! Everything is numbers: the gateway's endpoints and the simulation's are the same to it. No pick looks at all
//! endpoints unless nearly all of them are out. Refused: sockets, health, configuration, a clock of its own.

mod alias;
mod bound;
pub mod hash;
mod load;
mod maglev;
mod pick;
mod ring;
mod slow_start;
mod spill;
mod table;

pub use bound::{Bound, UNBOUND};
pub use load::Load;
pub use maglev::Maglev;
pub use pick::{Candidates, Picker, Policy};
pub use ring::Ring;
pub use slow_start::{FLOOR, SlowStart};
pub use spill::{Level, OVERPROVISIONED, shares};
pub use table::Table;
