//! Compares the policies: the production types decide, a small model of queues answers.
//!
//!     cargo run --release -p balance --example simulate -- docs/balancing.svg
//!
//! prints the tables of `docs/balancing.md` and writes its plot. Ten endpoints serve four requests at once each; the others wait. Random numbers
//! come from a seed, so that every run says the same.

#![allow(clippy::expect_used, reason = "an example may end so")]

#[path = "simulate/model.rs"]
mod model;
#[path = "simulate/plot.rs"]
mod plot;

use std::time::Duration;

use balance::{Bound, Policy};
use model::{Outcome, Rule, Scenario};

const RULES: [(&str, Rule); 6] = [
    ("random", Rule::Compete(Policy::Random)),
    ("round_robin", Rule::Compete(Policy::RoundRobin)),
    ("least_request", Rule::Compete(Policy::LeastRequest)),
    ("p2c", Rule::Compete(Policy::P2c)),
    ("ring_hash", Rule::Ring(Some(1.25))),
    ("maglev", Rule::Maglev(Some(1.25))),
];

/// One of ten takes five times as long as the others.
fn one_slow(rule: Rule) -> Outcome {
    Scenario {
        rule,
        slow: 5.0,
        ..Scenario::default()
    }
    .run()
}

/// An endpoint joins whose first requests take long.
fn one_cold(window: Option<Duration>) -> Outcome {
    Scenario {
        rule: Rule::Compete(Policy::RoundRobin),
        joins: Some(Duration::from_secs(20)),
        slow_start: window,
        rate: 1500.0,
        ..Scenario::default()
    }
    .run()
}

/// A quarter of all requests have the same key.
fn one_hot(factor: Option<f64>) -> Outcome {
    Scenario {
        rule: Rule::Ring(factor),
        hot: 0.25,
        rate: 1500.0,
        ..Scenario::default()
    }
    .run()
}

fn main() {
    let slow: Vec<(&str, Outcome)> = RULES
        .into_iter()
        .map(|(name, rule)| (name, one_slow(rule)))
        .collect();
    println!(
        "| policy | p50 ms | p99 ms | p99.9 ms | requests to the slow one |\n|---|---|---|---|---|"
    );
    for (name, outcome) in &slow {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| outcome.quantile(q));
        let share = outcome.share(0) * 100.0;
        println!("| `{name}` | {p50:.1} | {p99:.1} | {p999:.1} | {share:.1} % |");
    }
    let cold = [("none", None), ("10 s", Some(Duration::from_secs(10)))];
    let cold = cold.map(|(name, window)| (name, one_cold(window)));
    println!(
        "\n| slow_start | p99 ms, 10 s from the start of the new one | worst second |\n|---|---|---|"
    );
    for (name, outcome) in &cold {
        let p99 = outcome.quantile_between(20..30, 0.99);
        let worst = (20..30).map(|second| outcome.quantile_between(second..second + 1, 0.99));
        let worst = worst.fold(0.0, f64::max);
        println!("| {name} | {p99:.1} | {worst:.1} |");
    }
    println!("\n| bounded_load | p99 ms | most in flight at one, of the bound |\n|---|---|---|");
    for (name, factor) in [("off", None), ("125%", Some(1.25))] {
        let outcome = one_hot(factor);
        let (p99, worst) = (outcome.quantile(0.99), outcome.worst_of_bound);
        println!("| {name} | {p99:.1} | {worst:.2} |");
    }
    if let Some(path) = std::env::args().nth(1) {
        std::fs::write(&path, plot::svg(&slow, &cold)).expect("the plot can be written");
    }
}

/// What the bound on load would be, whether or not it is heeded.
fn bound(count: usize) -> Bound {
    Bound::new(1.25, count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_at_load_or_latency_keeps_away_from_the_slow_one() {
        let p99 = |rule| one_slow(rule).quantile(0.99);
        let blind = p99(Rule::Compete(Policy::RoundRobin));
        for policy in [Policy::P2c, Policy::LeastRequest] {
            let seeing = p99(Rule::Compete(policy));
            assert!(
                seeing < blind * 0.7,
                "{policy:?}: {seeing}, {blind} in turn"
            );
        }
        let p2c = one_slow(Rule::Compete(Policy::P2c)).share(0);
        assert!(p2c < 0.05, "{p2c} of all requests go to the slow one");
    }

    #[test]
    fn a_slow_start_spares_those_who_meet_a_cold_endpoint() {
        let worst = |window| one_cold(window).quantile_between(20..22, 0.99);
        let (without, with) = (worst(None), worst(Some(Duration::from_secs(10))));
        assert!(with < without * 0.8, "{with} with it, {without} without");
    }

    #[test]
    fn a_bound_is_kept_to() {
        assert!(one_hot(None).worst_of_bound > 1.5);
        assert!(one_hot(Some(1.25)).worst_of_bound <= 1.0);
    }
}
