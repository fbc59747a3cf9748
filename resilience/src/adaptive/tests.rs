#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// A backend that serves `slots` at once, each in `service`, and queues the rest; a gate before it that lets in
/// what the limit allows; clients that offer as much as they can get in.
struct World {
    gradient: Gradient,
    slots: usize,
    service: Duration,
    offered: usize,
    now: Instant,
}

impl World {
    fn new(slots: usize, service: Duration, offered: usize) -> Self {
        Self {
            gradient: Gradient::new(8, 4096),
            slots,
            service,
            offered,
            now: Instant::now(),
        }
    }

    /// Lets one round of answers come back; gives how many a second that makes, and how long each took.
    fn round(&mut self) -> (f64, Duration) {
        let in_flight = self.gradient.limit().min(self.offered);
        // By Little's law, as in a queue that stands.
        let latency = self
            .service
            .mul_f64((in_flight as f64 / self.slots as f64).max(1.0));
        for nth in 1..=in_flight {
            let at = self.now + latency.mul_f64(nth as f64 / in_flight as f64);
            self.gradient.sample(latency, in_flight, at);
        }
        self.now += latency;
        (in_flight as f64 / latency.as_secs_f64(), latency)
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.round();
        }
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the backend and however much is offered beyond what it bears: it is kept busy, and its queue short.
    #[test]
    fn a_saturated_backend_stays_busy_and_its_queue_short(
        slots in 8usize..300, service in 1u32..200, times in 3usize..20,
    ) {
        let runtime = paused();
        let _inside = runtime.enter();
        let mut world = World::new(slots, service * MS, slots * times);
        world.run(Duration::from_secs(20).max(100 * service * MS));
        let best = slots as f64 / world.service.as_secs_f64();
        let until = world.now + Duration::from_secs(120);
        let (mut answered, mut time, mut slowest) = (0.0, 0.0, Duration::ZERO);
        while world.now < until {
            let (rate, latency) = world.round();
            answered += rate * latency.as_secs_f64();
            time += latency.as_secs_f64();
            slowest = slowest.max(latency);
        }
        prop_assert!(answered / time > 0.9 * best, "{} of {best} a second", answered / time);
        prop_assert!(slowest < world.service.mul_f64(3.5), "{slowest:?} for {:?}", world.service);
    }

    #[test]
    fn it_stays_within_its_bounds(
        min in 1usize..50, more in 0usize..100,
        samples in prop::collection::vec((0u64..10_000, 0usize..200, 0u32..300, any::<bool>()), 1..500),
    ) {
        let runtime = paused();
        let _inside = runtime.enter();
        let gradient = Gradient::new(min, min + more);
        let mut now = Instant::now();
        for (micros, in_flight, pause, overloaded) in samples {
            now += pause * MS;
            let changed = match overloaded {
                true => gradient.overloaded(now),
                false => gradient.sample(Duration::from_micros(micros), in_flight, now),
            };
            prop_assert!((min..=min + more).contains(&gradient.limit()));
            prop_assert!(changed.is_none_or(|limit| limit == gradient.limit()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn little_traffic_does_not_move_the_limit() {
    let mut world = World::new(100, 10 * MS, 3);
    world.run(Duration::from_secs(60));
    assert_eq!(world.gradient.limit(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_got_slower_for_good_is_learnt_again() {
    let mut world = World::new(50, 10 * MS, 1000);
    world.run(Duration::from_secs(10));
    world.service = 40 * MS;
    world.run(Duration::from_secs(60));
    let idle = world.gradient.idle().unwrap();
    assert!((40 * MS..50 * MS).contains(&idle), "{idle:?}");
    assert!(world.gradient.limit() >= 50, "{}", world.gradient.limit());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_says_it_is_overloaded_gets_less() {
    let mut world = World::new(50, 10 * MS, 1000);
    world.run(Duration::from_secs(10));
    let before = world.gradient.limit();
    for _ in 0..5 {
        for _ in 0..FEWEST {
            let _limit = world.gradient.overloaded(world.now);
        }
        world.now += WINDOW;
        world.gradient.overloaded(world.now);
    }
    assert!(world.gradient.limit() < before * 7 / 10);
}

#[tokio::test(start_paused = true)]
async fn lower_bounds_hold_at_once() {
    let mut world = World::new(100, 10 * MS, 1000);
    world.run(Duration::from_secs(10));
    assert_eq!(world.gradient.set(4, 20), Some(20));
    assert_eq!(world.gradient.set(4, 20), None);
    world.run(Duration::from_secs(10));
    assert_eq!(world.gradient.limit(), 20);
}
