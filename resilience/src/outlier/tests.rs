#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;

const FAST: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        consecutive_failures: NonZeroU32::new(5).unwrap(),
        success_rate: true,
        latency: true,
        interval: 5 * SECOND,
        base_ejection: 10 * SECOND,
        max_ejection: 300 * SECOND,
        max_ejected: 0.5,
    }
}

/// A cluster of endpoints and their detector.
struct Cluster {
    detector: Detector,
    endpoints: Vec<Record>,
}

impl Cluster {
    fn of(endpoints: usize, settings: Settings) -> Self {
        Self {
            detector: Detector::new(settings),
            endpoints: (0..endpoints).map(|_| Record::new()).collect(),
        }
    }

    fn peers(&self) -> Vec<&Record> {
        self.endpoints.iter().collect()
    }

    fn call(&self, at: usize, verdict: Verdict, now: Instant) -> Option<Ejection> {
        let one = &self.endpoints[at];
        let reason = self.detector.record(one, verdict, FAST, now)?;
        self.detector.eject(one, reason, &self.peers(), now)
    }

    fn fail(&self, at: usize, times: usize, now: Instant) -> Option<Ejection> {
        let ejections = (0..times).map(|_| self.call(at, Verdict::Failure, now));
        ejections.fold(None, Option::or)
    }

    /// So many calls, of which so many fail, never two in a row to matter.
    fn serve(&self, at: usize, calls: u32, failures: u32, took: Duration, now: Instant) {
        let one = &self.endpoints[at];
        for _ in 0..failures {
            let _counted = self.detector.record(one, Verdict::Failure, took, now);
        }
        for _ in failures..calls {
            let _counted = self.detector.record(one, Verdict::Success, took, now);
        }
    }

    fn sweep(&self, now: Instant) -> Vec<Change> {
        self.detector.sweep(&self.peers(), now)
    }

    fn out(&self, now: Instant) -> Vec<usize> {
        let is_out = |at: &usize| self.endpoints[*at].is_ejected(now);
        (0..self.endpoints.len()).filter(is_out).collect()
    }
}

#[test]
fn five_failures_in_a_row_eject_and_four_do_not() {
    let now = Instant::now();
    let cluster = Cluster::of(2, settings());
    for _ in 0..10 {
        assert_eq!(cluster.fail(0, 4, now), None);
        assert_eq!(cluster.call(0, Verdict::Success, now), None);
    }
    let ejection = cluster.fail(0, 5, now).unwrap();
    assert_eq!(ejection.reason, Reason::ConsecutiveFailures(5));
    assert_eq!(
        ejection.to_string(),
        "ejected: 5 consecutive failures, back in 10s"
    );
    assert_eq!(cluster.out(now), [0]);
    let almost = now + 10 * SECOND - FAST;
    assert_eq!(cluster.endpoints[0].ejection(almost).unwrap().back_in, FAST);
    assert!(cluster.out(now + 10 * SECOND).is_empty());
    assert_eq!(cluster.endpoints[0].ejection(now + 10 * SECOND), None);
}

#[test]
fn what_says_nothing_neither_counts_nor_breaks_a_row() {
    let now = Instant::now();
    let cluster = Cluster::of(2, settings());
    for _ in 0..4 {
        assert_eq!(cluster.call(0, Verdict::Failure, now), None);
        assert_eq!(cluster.call(0, Verdict::Neutral, now), None);
    }
    assert!(cluster.call(0, Verdict::Failure, now).is_some());
}

#[test]
fn failures_while_out_are_not_held_against_it() {
    let now = Instant::now();
    let cluster = Cluster::of(2, settings());
    cluster.fail(0, 5, now).unwrap();
    assert_eq!(cluster.fail(0, 100, now + SECOND), None);
    let back = now + 10 * SECOND;
    assert_eq!(cluster.fail(0, 4, back), None);
    assert!(cluster.fail(0, 1, back).is_some());
}

#[test]
fn the_share_rounds_down_but_one_of_two_may_always_be_out() {
    let now = Instant::now();
    for (max_ejected, endpoints, most) in [
        (0.34, 3, 1),
        (0.33, 3, 1),
        (0.5, 5, 2),
        (0.0, 2, 1),
        (0.5, 1, 0),
        (1.0, 1, 1),
        (1.0, 4, 4),
        (0.29, 100, 29),
    ] {
        let cluster = Cluster::of(
            endpoints,
            Settings {
                max_ejected,
                ..settings()
            },
        );
        for at in 0..endpoints {
            cluster.fail(at, 6, now);
        }
        let out = cluster.out(now).len();
        assert_eq!(out, most, "{max_ejected} of {endpoints}");
    }
}

#[test]
fn who_could_not_be_ejected_is_as_soon_as_there_is_room() {
    let now = Instant::now();
    let cluster = Cluster::of(2, settings());
    cluster.fail(0, 5, now).unwrap();
    assert_eq!(cluster.fail(1, 7, now), None);
    let later = now + 10 * SECOND;
    let ejection = cluster.fail(1, 1, later).unwrap();
    assert_eq!(ejection.reason, Reason::ConsecutiveFailures(8));
}

#[test]
fn each_time_is_longer_up_to_the_cap_and_serving_takes_it_back() {
    let mut now = Instant::now();
    let short = Settings {
        max_ejection: 35 * SECOND,
        ..settings()
    };
    let cluster = Cluster::of(2, short);
    cluster.sweep(now);
    for seconds in [10, 20, 30, 35, 35] {
        let ejection = cluster.fail(0, 5, now).unwrap();
        assert_eq!(ejection.back_in, seconds * SECOND);
        now += ejection.back_in;
    }
    // The first sweep only sees it back; each one after a whole interval of service takes a step.
    for _ in 0..3 {
        cluster.sweep(now);
        now += 5 * SECOND;
    }
    assert_eq!(cluster.fail(0, 5, now).unwrap().back_in, 20 * SECOND);
    now += 20 * SECOND;
    for _ in 0..20 {
        cluster.sweep(now);
        now += 5 * SECOND;
    }
    assert_eq!(cluster.fail(0, 5, now).unwrap().back_in, 10 * SECOND);
}

#[test]
fn a_sweep_says_once_who_is_back() {
    let now = Instant::now();
    let cluster = Cluster::of(2, settings());
    cluster.fail(1, 5, now).unwrap();
    assert_eq!(cluster.sweep(now + 5 * SECOND), []);
    assert_eq!(cluster.sweep(now + 10 * SECOND), [Change::Returned(1)]);
    assert_eq!(cluster.sweep(now + 15 * SECOND), []);
}

#[test]
fn who_succeeds_less_often_than_its_peers_is_out() {
    let now = Instant::now();
    let cluster = Cluster::of(6, settings());
    for at in 0..5 {
        cluster.serve(at, 1000, 10, FAST, now);
    }
    cluster.serve(5, 1000, 300, FAST, now);
    let changes = cluster.sweep(now);
    let [Change::Ejected(5, ejection)] = changes[..] else {
        panic!("{changes:?}");
    };
    let reason = ejection.reason.to_string();
    assert_eq!(reason, "70.0% of its calls succeed, 94.2% on average");
}

#[test]
fn few_endpoints_or_few_calls_are_not_compared() {
    let now = Instant::now();
    let few = Cluster::of(4, settings());
    let quiet = Cluster::of(6, settings());
    for at in 0..3 {
        few.serve(at, 1000, 0, FAST, now);
    }
    few.serve(3, 1000, 900, SECOND, now);
    for at in 0..5 {
        quiet.serve(at, 1000, 0, FAST, now);
    }
    quiet.serve(5, 99, 90, SECOND, now);
    assert_eq!(few.sweep(now), []);
    assert_eq!(quiet.sweep(now), []);
}

#[test]
fn a_failure_or_a_millisecond_more_than_the_others_is_no_outlier() {
    let now = Instant::now();
    let cluster = Cluster::of(6, settings());
    for at in 0..6 {
        let took = FAST + Duration::from_millis(u64::from(at == 1));
        cluster.serve(at, 1000, u32::from(at == 0), took, now);
    }
    assert_eq!(cluster.sweep(now), []);
}

#[test]
fn who_is_an_outlier_twice_is_out_once() {
    let now = Instant::now();
    let cluster = Cluster::of(6, settings());
    for at in 0..5 {
        cluster.serve(at, 1000, 0, FAST, now);
    }
    cluster.serve(5, 1000, 500, SECOND, now);
    let changes = cluster.sweep(now);
    let [Change::Ejected(5, ejection)] = changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(ejection.back_in, 10 * SECOND);
}

#[test]
fn who_is_slower_than_its_peers_is_out_if_that_is_asked_for() {
    let now = Instant::now();
    for latency in [true, false] {
        let cluster = Cluster::of(
            6,
            Settings {
                latency,
                ..settings()
            },
        );
        for at in 0..5 {
            cluster.serve(at, 200, 0, FAST, now);
        }
        cluster.serve(5, 200, 0, 20 * FAST, now);
        cluster.sweep(now);
        assert_eq!(cluster.out(now).len(), usize::from(latency));
        if let Some(ejection) = cluster.endpoints[5].ejection(now) {
            let reason = ejection.reason.to_string();
            assert_eq!(reason, "its calls take 100.0 ms, 5.0 ms elsewhere");
        }
    }
}

#[test]
fn the_worst_go_first() {
    let now = Instant::now();
    let one = Settings {
        max_ejected: 0.0,
        ..settings()
    };
    let cluster = Cluster::of(20, one);
    for at in 0..20 {
        let failures = [0, 500, 900][usize::from(at == 7) + usize::from(at == 7 || at == 3)];
        cluster.serve(at, 1000, failures, FAST, now);
    }
    cluster.sweep(now);
    assert_eq!(cluster.out(now), [7]);
}

#[test]
fn what_is_forgotten_serves() {
    let now = Instant::now();
    let cluster = Cluster::of(2, settings());
    cluster.fail(0, 5, now).unwrap();
    cluster.endpoints[0].forget();
    assert!(cluster.out(now).is_empty());
    assert_eq!(cluster.fail(0, 4, now), None);
    assert_eq!(cluster.fail(0, 1, now).unwrap().back_in, 10 * SECOND);
}

#[test]
fn other_settings_hold_at_once() {
    let now = Instant::now();
    let cluster = Cluster::of(2, settings());
    let strict = Settings {
        consecutive_failures: NonZeroU32::new(1).unwrap(),
        base_ejection: SECOND,
        interval: SECOND,
        ..settings()
    };
    cluster.detector.set(strict);
    assert_eq!(cluster.detector.interval(), SECOND);
    assert_eq!(cluster.fail(0, 1, now).unwrap().back_in, SECOND);
}

proptest! {
    /// Any schedule of calls and sweeps: the share holds at every instant, no ejection is longer than the cap or
    /// shorter than the base, and everything is back after the cap.
    #[test]
    fn never_more_than_the_share_and_never_for_longer_than_the_cap(
        endpoints in 1usize..12,
        percent in 0u8..=100,
        max_seconds in 10u64..60,
        steps in proptest::collection::vec((0usize..12, 0u8..4, 0u64..8_000, 1usize..8), 1..150),
    ) {
        let max_ejected = f64::from(percent) / 100.0;
        let max_ejection = Duration::from_secs(max_seconds);
        let cluster = Cluster::of(endpoints, Settings { max_ejected, max_ejection, ..settings() });
        let share = endpoints * usize::from(percent) / 100;
        let most = share.max(usize::from(endpoints > 1));
        let mut now = Instant::now();
        for (at, what, millis, times) in steps {
            now += Duration::from_millis(millis);
            let at = at % endpoints;
            match what {
                0 => { cluster.sweep(now); }
                1 => { cluster.call(at, Verdict::Success, now); }
                2 => cluster.serve(at, 150, 100, FAST, now),
                _ => if let Some(ejection) = cluster.fail(at, times, now) {
                    prop_assert!(ejection.back_in <= max_ejection);
                    prop_assert!(ejection.back_in >= settings().base_ejection.min(max_ejection));
                }
            }
            prop_assert!(cluster.out(now).len() <= most, "{:?} of {endpoints}", cluster.out(now));
        }
        prop_assert!(cluster.out(now + max_ejection).is_empty());
    }
}

#[test]
fn threads_cannot_share_the_last_place() {
    let now = Instant::now();
    for _ in 0..50 {
        let cluster = Cluster::of(8, settings());
        let together = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for at in 0..8 {
                let (cluster, together) = (&cluster, &together);
                scope.spawn(move || {
                    together.wait();
                    cluster.fail(at, 6, now)
                });
            }
        });
        assert_eq!(cluster.out(now).len(), 4);
    }
}
