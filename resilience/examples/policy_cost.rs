//! What the policies cost a request: `cargo run --release -p resilience --example policy_cost`.
//!
//! Each line is the time of one call, the best of several rounds, by one thread alone and by two that share the
//! policy. The clock is read once for all, as it is in the gateway.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use resilience::Verdict;
use resilience::adaptive::Gradient;
use resilience::backoff::Backoff;
use resilience::breaker::{self, Admission, Breaker};
use resilience::budget::{RetryBudget, Terms};
use resilience::latency::LiveQuantile;
use resilience::outlier::{self, Detector, Record};
use resilience::overload::{self, Overload, Priority};
use resilience::rate::{Buckets, Gcra};
use resilience::retry::Series;
use resilience::split::Split;
use tokio::time::Instant;

const CALLS: u32 = 200_000;
const ROUNDS: usize = 7;
const TOOK: Duration = Duration::from_millis(1);
const TERMS: Terms = Terms {
    ratio: 0.2,
    min_per_second: 3,
};
const BREAKER: breaker::Settings = breaker::Settings {
    window: Duration::from_secs(10),
    min_requests: NonZeroU32::new(20).unwrap(),
    failure_ratio: 0.5,
    slow_call: Duration::from_secs(1),
    slow_ratio: 0.9,
    hold: Duration::from_secs(5),
    max_hold: Duration::from_secs(60),
    probes: NonZeroU32::new(3).unwrap(),
};
const OUTLIER: outlier::Settings = outlier::Settings {
    consecutive_failures: NonZeroU32::new(5).unwrap(),
    success_rate: true,
    latency: false,
    interval: Duration::from_secs(5),
    base_ejection: Duration::from_secs(10),
    max_ejection: Duration::from_secs(300),
    max_ejected: 0.5,
};
const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(25), Duration::from_secs(1)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("the bounds make no backoff"),
};

fn main() {
    println!(
        "{:<52} {:>9} {:>9}",
        "nanoseconds a call", "1 thread", "2 threads"
    );
    every_request();
    at_the_door();
    failures();
}

fn every_request() {
    let budget = RetryBudget::new(TERMS);
    show("budget: first_try", |now| budget.first_try(now));
    let calm = Arc::new(Breaker::new(BREAKER));
    show("breaker: admit, record a success", |now| {
        succeed(&calm, now);
    });
    let doubtful = Arc::new(Breaker::new(BREAKER));
    let start = Instant::now();
    (0..40).for_each(|_| succeed(&doubtful, start));
    let admission = doubtful.admit(start);
    let _too_few = doubtful.record(admission, Verdict::Failure, TOOK, start);
    show("breaker: the same, with failures in the window", |now| {
        succeed(&doubtful, now);
    });
    let (detector, record) = (Detector::new(OUTLIER), Record::new());
    show("outlier: is_ejected, record a success", |now| {
        serve(&detector, &record, now);
    });
    show("all that a request pays while nothing fails", |now| {
        budget.first_try(now);
        succeed(&calm, now);
        serve(&detector, &record, now);
    });
}

fn at_the_door() {
    let overload = Overload::new(overload::Bounds::default());
    show("overload: sheds", |_| {
        black_box(overload.sheds(Priority::Low));
    });
    let (one, buckets) = (NonZeroU32::MIN, Buckets::new());
    let hour = Duration::from_secs(3600);
    let gcra = Gcra::new(NonZeroU32::MAX, hour, NonZeroU32::MAX);
    show("rate: take, one bucket for all", |now| {
        black_box(buckets.take(gcra, b"", now));
    });
    show("rate: take, by key", |now| {
        black_box(buckets.take(gcra, b"203.0.113.7 some-user", now));
    });
    let empty = Gcra::new(one, hour, one);
    show("rate: take, refused", |now| {
        black_box(buckets.take(empty, b"another", now));
    });
    if let Ok(split) = Split::new([("counter", 95), ("canary", 5)]) {
        show("split: pick one of two", |_| {
            black_box(split.pick(black_box(7)));
        });
    }
    let live = LiveQuantile::new(Duration::from_secs(10), 0.95);
    show("latency: record, and get the p95 at hand", |now| {
        live.record(TOOK, now);
        black_box(live.get(now));
    });
    let gradient = Gradient::new(8, 4096);
    show("adaptive: sample", |now| {
        black_box(gradient.sample(TOOK, 1, now));
    });
}

fn failures() {
    let budget = RetryBudget::new(TERMS);
    show("budget: try_spend, refused", |now| {
        black_box(budget.try_spend(now));
    });
    let plenty = RetryBudget::new(Terms {
        ratio: 0.0,
        min_per_second: u32::MAX,
    });
    show("budget: try_spend, allowed", |now| {
        black_box(plenty.try_spend(now));
    });
    show("retry: a series, and what follows a failure", |now| {
        let random = fastrand::Rng::with_seed(7);
        let mut series = Series::new(NonZeroU32::MAX, BACKOFF, random);
        black_box(series.after(now, now + TOOK * 1000, None));
    });
    let rejecting = Arc::new(Breaker::new(BREAKER));
    let start = Instant::now();
    for _ in 0..20 {
        let admission = rejecting.admit(start);
        let _change = rejecting.record(admission, Verdict::Failure, TOOK, start);
    }
    show("breaker: admit while rejecting", |_| {
        black_box(matches!(rejecting.admit(start), Admission::Reject));
    });
}

fn succeed(breaker: &Arc<Breaker>, now: Instant) {
    let admission = breaker.admit(now);
    black_box(breaker.record(admission, Verdict::Success, TOOK, now));
}

fn serve(detector: &Detector, record: &Record, now: Instant) {
    black_box(record.is_ejected(now));
    black_box(detector.record(record, Verdict::Success, TOOK, now));
}

fn show(what: &str, call: impl Fn(Instant) + Sync) {
    let (alone, together) = (nanoseconds(1, &call), nanoseconds(2, &call));
    println!("{what:<52} {alone:>9.1} {together:>9.1}");
}

/// The time of one call while as many threads make it, the best of the rounds.
fn nanoseconds(threads: usize, call: &(impl Fn(Instant) + Sync)) -> f64 {
    let rounds = (0..ROUNDS).map(|_| round(threads, call).as_nanos());
    let best = rounds.min().unwrap_or_default();
    best as f64 / f64::from(CALLS)
}

fn round(threads: usize, call: &(impl Fn(Instant) + Sync)) -> Duration {
    let together = Barrier::new(threads);
    let worker = || {
        together.wait();
        let start = Instant::now();
        for _ in 0..CALLS {
            call(black_box(start));
        }
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let times = all.into_iter().filter_map(|one| one.join().ok());
        times.max().unwrap_or_default()
    })
}
