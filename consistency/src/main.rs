//! `consistency`: breaks a whole mesh under load and proves that it counted everything exactly once; a table, exit status 0 or 1.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use consistency::{Plan, Verdict, run};

/// Breaks a whole mesh under load (kill -9, freeze, cut off, of gateways, counters and their relays, Redis, Kafka, analytics and
/// Consul) and proves that it counted everything exactly once.
///
/// Needs what `make setup` installs, and the programs built beside this one: `make consistency` does both. Exit status 0: every
/// count is what was acknowledged, and events, rankings and series agree with it; 1: something differs.
#[derive(Debug, Parser)]
#[command(name = "consistency", version)]
struct Arguments {
    /// What the increments and the schedule are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each part is harmed in each way (a round takes about two minutes); 0: a selection, in half a minute
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Clients with keys of their own
    #[arg(long, default_value_t = 24)]
    clients: u32,
    /// Their counters
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=500))]
    counters: u32,
    /// Milliseconds between two increments of a client
    #[arg(long, default_value_t = 3)]
    pause_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = Plan {
        seed: arguments.seed,
        rounds: arguments.rounds,
        clients: arguments.clients,
        counters: arguments.counters,
        pause: Duration::from_millis(arguments.pause_ms),
    };
    let Verdict { table, wrong } = run(&plan).await;
    print!("{table}");
    for line in &wrong {
        println!("WRONG  {line}");
    }
    if wrong.is_empty() {
        println!("everything agrees");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
