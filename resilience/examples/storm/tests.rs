#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::backend::CAPACITY;
use crate::simulation::{DEMAND, FAULT, LENGTH};

fn run(scenario: usize) -> Run {
    let (name, policies) = SCENARIOS[scenario];
    Run::of(name, policies)
}

#[tokio::test(start_paused = true)]
async fn before_the_fault_all_are_alike_and_well() {
    for scenario in 0..SCENARIOS.len() {
        let run = run(scenario);
        assert!(run.answered(1..FAULT.start) > 0.99, "{}", run.name);
        assert!(run.tries_per_request(0..FAULT.start) < 1.01, "{}", run.name);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_the_storm_outlives_its_cause() {
    let run = run(0);
    assert!(run.tries_per_request(FAULT.end..LENGTH) > 2.5);
    assert!(run.answered(FAULT.end..LENGTH) < 0.1);
    assert_eq!(run.normal_again(), None);
}

#[tokio::test(start_paused = true)]
async fn with_a_budget_the_backend_sees_a_fifth_more_and_recovers() {
    for scenario in [1, 2] {
        let run = run(scenario);
        for end in 1..=LENGTH {
            // The share of ten seconds before a try was made, and up to a second of backoff between the two.
            let start = end.saturating_sub(10);
            let requests = run.count(start.saturating_sub(11)..end, |second| second.requests);
            let tries = run.count(start..end, |second| second.tries);
            let first = run.count(start..end, |second| second.requests);
            assert!(
                tries - first.min(tries) <= requests / 5 + 11 * 3,
                "second {end}"
            );
        }
        assert!(run.tries_per_request(FAULT) < 1.21, "{}", run.name);
        assert!(run.normal_again().unwrap() <= 15, "{}", run.name);
    }
}

#[tokio::test(start_paused = true)]
async fn the_breaker_spares_the_backend_work_that_nobody_waits_for() {
    let wasted = |scenario| run(scenario).count(0..LENGTH, |second| second.wasted);
    assert!(wasted(2) < wasted(1) / 2);
    assert!(wasted(1) < wasted(0) / 2);
}

#[tokio::test(start_paused = true)]
async fn the_documents_show_what_comes_out() {
    let runs = SCENARIOS.map(|(name, policies)| Run::of(name, policies));
    let again = "run `cargo run -p resilience --example storm`";
    let plot = include_str!("../../../docs/storm.svg");
    assert!(plot == plot::svg(&runs), "docs/storm.svg is old: {again}");
    let text = include_str!("../../../docs/resilience.md");
    let table = report::table(&runs);
    assert!(
        text.contains(&table),
        "the table of docs/resilience.md is old: {again}"
    );
}

#[test]
fn the_demand_fits_the_backend_but_not_three_times() {
    assert!((DEMAND as f64) < CAPACITY);
    assert!((DEMAND * 3) as f64 > 1.5 * CAPACITY);
}
