//! What a pick costs among few and among many endpoints, and what it costs to make the tables.
//!
//!     cargo run --release -p balance --example cost
//!
//! Picks and builds are timed in rounds, and the median round counts, so that another program's turn on the core does not.

use std::hint::black_box;
use std::sync::Arc;

use balance::{Candidates, Load, Maglev, Picker, Policy, Ring, Table, hash};
use tokio::time::Instant;

const PICKS: u32 = 20_000;
const ROUNDS: usize = 31;

struct Endpoints {
    loads: Vec<Load>,
    now: Instant,
}

impl Candidates for Endpoints {
    fn in_flight(&self, index: usize) -> usize {
        self.loads[index].in_flight()
    }
    fn cost(&self, index: usize) -> f64 {
        self.loads[index].cost(self.now, 1.0)
    }
    fn excluded(&self, _: usize) -> bool {
        false
    }
    fn total(&self) -> usize {
        0
    }
}

fn members(count: u64) -> Vec<(u64, f64)> {
    (0..count).map(|n| (hash::nth(3, n), 1.0)).collect()
}

fn ring(count: u64) -> Table {
    Table::Ring(Ring::new(&members(count), 160))
}

fn maglev(count: u64) -> Table {
    Table::Maglev(Maglev::new(&members(count), Maglev::SIZE))
}

fn by_key(table: Table, count: u64) -> Picker {
    let places = (0..count as u32).map(Some);
    Picker::hashed(
        Arc::new(table),
        places,
        Some(1.25),
        &vec![1; count as usize],
    )
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// Nanoseconds of one pick.
fn pick(picker: &Picker, count: u64) -> f64 {
    let now = Instant::now();
    let endpoints = Endpoints {
        loads: (0..count).map(|_| Load::new()).collect(),
        now,
    };
    for load in &endpoints.loads {
        load.answered(now, std::time::Duration::from_millis(5));
    }
    let (mut random, mut turn) = (fastrand::Rng::with_seed(1), 0);
    let mut round = || {
        let began = Instant::now();
        for n in 0..PICKS {
            let next = || {
                turn += 1;
                turn
            };
            let key = Some(hash::nth(9, u64::from(n)));
            black_box(picker.pick(&endpoints, &mut random, next, key));
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(PICKS)
    };
    median((0..ROUNDS).map(|_| round()).collect())
}

/// Milliseconds of making something.
fn make<T>(what: impl Fn() -> T) -> f64 {
    let round = |_| {
        let began = Instant::now();
        black_box(what());
        began.elapsed().as_secs_f64() * 1e3
    };
    median((0..9).map(round).collect())
}

fn main() {
    println!(
        "| policy | ns a pick, 3 endpoints | 1,000 endpoints | ms to make for 1,000 |\n|---|---|---|---|"
    );
    for (name, policy) in [
        ("random", Policy::Random),
        ("round_robin", Policy::RoundRobin),
        ("least_request", Policy::LeastRequest),
        ("p2c", Policy::P2c),
    ] {
        let [few, many] = [3, 1000].map(|count| {
            let weights = vec![1; count];
            pick(&Picker::new(policy, &weights), count as u64)
        });
        let made = make(|| Picker::new(policy, &vec![1; 1000]));
        println!("| `{name}` | {few:.0} | {many:.0} | {made:.3} |");
    }
    row_of_table("ring_hash", ring);
    row_of_table("maglev", maglev);
}

fn row_of_table(name: &str, table: fn(u64) -> Table) {
    let [few, many] = [3, 1000].map(|count| pick(&by_key(table(count), count), count));
    let made = make(|| table(1000));
    println!("| `{name}` | {few:.0} | {many:.0} | {made:.3} |");
}
