#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn gcra(requests: u32, per: Duration, burst: u32) -> Gcra {
    Gcra::new(requests.try_into().unwrap(), per, burst.try_into().unwrap())
}

#[tokio::test(start_paused = true)]
async fn at_rest_exactly_the_burst_passes() {
    let (buckets, gcra) = (Buckets::new(), gcra(100, 1000 * MS, 20));
    let now = Instant::now();
    for left in (0..20).rev() {
        let decision = buckets.take(gcra, b"a", now);
        assert!(decision.allowed);
        assert_eq!((decision.limit, decision.remaining), (20, left));
        assert_eq!(decision.reset_after, 10 * MS);
    }
    let refused = buckets.take(gcra, b"a", now);
    assert!(!refused.allowed);
    assert_eq!((refused.remaining, refused.retry_after), (0, 10 * MS));
    assert!(
        buckets.take(gcra, b"b", now).allowed,
        "another key, another bucket"
    );
    assert!(!buckets.take(gcra, b"a", now + 9 * MS).allowed);
    assert!(buckets.take(gcra, b"a", now + 10 * MS).allowed);
    assert!(!buckets.take(gcra, b"a", now + 10 * MS).allowed);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_takes_nothing() {
    let (buckets, gcra) = (Buckets::new(), gcra(1, 1000 * MS, 1));
    let now = Instant::now();
    assert!(buckets.take(gcra, b"", now).allowed);
    for _ in 0..100 {
        assert!(!buckets.take(gcra, b"", now + 500 * MS).allowed);
    }
    assert!(buckets.take(gcra, b"", now + 1000 * MS).allowed);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_what_gives_way_is_nearest_to_full() {
    let (buckets, gcra) = (Buckets::new(), gcra(1, Duration::from_secs(60), 2));
    let now = Instant::now();
    let drained = b"drained";
    buckets.take(gcra, drained, now);
    buckets.take(gcra, drained, now);
    for key in 0..200_000u32 {
        assert!(
            buckets.take(gcra, &key.to_be_bytes(), now).allowed,
            "room is no reason"
        );
    }
    let kept: usize = buckets.sets.iter().map(|set| set.lock().len()).sum();
    assert!(kept <= MOST_KEYS);
    assert!(buckets.evicted() >= (200_000 - MOST_KEYS) as u64);
    // Everybody else has used one of two, and goes first.
    assert!(!buckets.take(gcra, drained, now).allowed);
}

#[tokio::test(start_paused = true)]
async fn a_full_bucket_gives_way_unnoticed() {
    let (buckets, gcra) = (Buckets::new(), gcra(1, 1000 * MS, 1));
    let mut now = Instant::now();
    for key in 0..100_000u32 {
        if key % 10_000 == 0 {
            now += 1000 * MS;
        }
        buckets.take(gcra, &key.to_be_bytes(), now);
    }
    assert_eq!(buckets.evicted(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_rate_holds_from_the_next_request_on() {
    let buckets = Buckets::new();
    let (large, small) = (gcra(10, 1000 * MS, 100), gcra(10, 1000 * MS, 5));
    let now = Instant::now();
    assert_eq!(buckets.take(large, b"a", now).remaining, 99);
    assert_eq!(buckets.take(small, b"a", now).remaining, 3);
    (0..90).for_each(|_| assert!(buckets.take(large, b"a", now).allowed));
    let empty = buckets.take(small, b"a", now);
    assert!(!empty.allowed && empty.retry_after == 100 * MS, "{empty:?}");
}

#[test]
fn threads_together_get_the_burst_and_no_more() {
    let (buckets, gcra) = (Buckets::new(), gcra(1, Duration::from_secs(3600), 1000));
    let now = Instant::now();
    for key in [&b""[..], b"key"] {
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let allowed = buckets.take(gcra, key, now).allowed;
                        passed.fetch_add(u64::from(allowed), Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1000);
    }
}

/// A bucket as the contract words it, in fractions of requests: full at first, refilled evenly.
struct Model {
    level: f64,
    at: Instant,
}

proptest! {
    /// Against the bucket of the contract: the same requests pass.
    #[test]
    fn it_is_a_bucket_that_holds_burst_and_is_refilled_evenly(
        requests in 1u32..1000, per in 1u64..100, burst in 1u32..50,
        steps in prop::collection::vec(0u64..200, 1..300), keyed: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        // A power of two of nanoseconds to a request: the model's fractions are exact.
        let per = Duration::from_nanos((per << 20) * u64::from(requests));
        let gcra = gcra(requests, per, burst);
        let buckets = Buckets::new();
        let key: &[u8] = if keyed { b"k" } else { b"" };
        let mut now = Instant::now();
        let mut model = Model { level: f64::from(burst), at: now };
        for step in steps {
            now += gcra.interval() * u32::try_from(step).unwrap() / 64;
            let refill = (now - model.at).as_nanos() as f64 / gcra.interval().as_nanos() as f64;
            model.level = (model.level + refill).min(f64::from(burst));
            model.at = now;
            let passes = model.level >= 1.0;
            if passes {
                model.level -= 1.0;
            }
            let decision = buckets.take(gcra, key, now);
            prop_assert_eq!(decision.allowed, passes);
            prop_assert_eq!(decision.remaining, model.level.floor() as u32);
            if passes {
                prop_assert_eq!(decision.retry_after, Duration::ZERO);
            } else {
                prop_assert!(!buckets.take(gcra, key, now + decision.retry_after - Duration::from_nanos(1)).allowed);
            }
        }
        let refused = (0..=burst).map(|_| buckets.take(gcra, key, now)).find(|decision| !decision.allowed).unwrap();
        prop_assert_eq!(refused.reset_after, refused.retry_after);
        prop_assert!(buckets.take(gcra, key, now + refused.retry_after).allowed);
    }
}
