//! A retry storm, with and without what keeps it small: `cargo run -p resilience --example storm`.
//!
//! Clients, a gateway and a backend that is slow for a while, in virtual time: the clients and the backend are made
//! up, the gateway decides with the types that production uses. Prints a table and writes `docs/storm.svg`; the
//! seed is fixed and paused time stands still, so both come out the same each time. `docs/resilience.md` explains them.

mod backend;
mod gateway;
mod plot;
mod report;
mod simulation;
#[cfg(test)]
mod tests;

use std::path::Path;

use simulation::{Policies, Run};

/// The curves of the plot and the rows of the table.
const SCENARIOS: [(&str, Policies); 3] = [
    (
        "no budget",
        Policies {
            budget: false,
            breaker: false,
        },
    ),
    (
        "budget",
        Policies {
            budget: true,
            breaker: false,
        },
    ),
    (
        "budget and breaker",
        Policies {
            budget: true,
            breaker: true,
        },
    ),
];

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> std::io::Result<()> {
    let runs = SCENARIOS.map(|(name, policies)| Run::of(name, policies));
    print!("{}", report::table(&runs));
    let plot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/storm.svg");
    std::fs::write(&plot, plot::svg(&runs))?;
    println!("\nplotted in docs/storm.svg");
    Ok(())
}
