#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds {
    memory: Some(1000),
    loop_lag: Some(Duration::from_millis(50)),
    connections: Some(0.7),
};

fn memory(memory: u64) -> Pressure {
    Pressure {
        memory,
        ..Pressure::default()
    }
}

fn lag(millis: u64) -> Pressure {
    Pressure {
        loop_lag: Duration::from_millis(millis),
        ..Pressure::default()
    }
}

fn connections(connections: f64) -> Pressure {
    Pressure {
        connections,
        ..Pressure::default()
    }
}

#[tokio::test(start_paused = true)]
async fn each_resource_sheds_by_priority_as_its_marks_say() {
    for (marks, by) in [
        (
            [memory(999), memory(1000), memory(1100), memory(1200)],
            Resource::Memory,
        ),
        ([lag(49), lag(50), lag(100), lag(200)], Resource::LoopLag),
        (
            [0.69, 0.7, 0.81, 0.91].map(connections),
            Resource::Connections,
        ),
    ] {
        let overload = Overload::new(BOUNDS);
        let shed = || Priority::ALL.map(|priority| overload.sheds(priority));
        let now = Instant::now();
        let levels = [Level::None, Level::Low, Level::Normal, Level::All];
        for (nth, pressure) in marks.into_iter().enumerate() {
            let change = overload.observe(pressure, now);
            let expected = (nth > 0).then(|| Change {
                from: levels[nth - 1],
                to: levels[nth],
                by,
            });
            assert_eq!(change, expected, "{pressure:?}");
            assert_eq!(shed(), [nth > 0, nth > 1, nth > 2]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_comes_down_one_priority_a_second_and_only_clear_of_the_mark() {
    let overload = Overload::new(BOUNDS);
    let mut now = Instant::now();
    overload.observe(memory(1300), now);
    assert_eq!(overload.level(), Level::All);
    let mut pass = |time: Duration, pressure| {
        now += time;
        overload.observe(pressure, now);
        overload.level()
    };
    assert_eq!(
        pass(10 * HOLD, memory(1090)),
        Level::All,
        "clear of 1200 is below 1080"
    );
    assert_eq!(
        pass(HOLD, memory(0)),
        Level::All,
        "it has only just become clear"
    );
    assert_eq!(pass(HOLD / 2, memory(0)), Level::All);
    assert_eq!(pass(HOLD / 2, memory(0)), Level::Normal);
    assert_eq!(pass(HOLD, memory(0)), Level::Normal);
    assert_eq!(pass(HOLD, memory(0)), Level::Low);
    assert_eq!(pass(HOLD / 2, memory(900)), Level::Low);
    assert_eq!(
        pass(10 * HOLD, memory(0)),
        Level::Low,
        "the wait begins anew"
    );
    assert_eq!(pass(HOLD, memory(0)), Level::None);
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_nothing_is_shed() {
    let overload = Overload::new(Bounds::default());
    let pressure = Pressure {
        memory: u64::MAX,
        loop_lag: Duration::from_secs(100),
        connections: 1.0,
    };
    assert_eq!(overload.observe(pressure, Instant::now()), None);
    assert!(!overload.sheds(Priority::Low));
    overload.set(BOUNDS);
    overload.observe(pressure, Instant::now());
    assert!(overload.sheds(Priority::High));
}

proptest! {
    /// Whatever comes: a higher priority is never shed before a lower one, and a pressure below all bounds that
    /// lasts ends the shedding.
    #[test]
    fn the_least_important_go_first_and_all_come_back(
        steps in prop::collection::vec((0u64..2000, 0u64..400, 0.0f64..1.0, 0u64..2000), 1..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let overload = Overload::new(BOUNDS);
        let mut now = Instant::now();
        for (memory, lag, connections, pause) in steps {
            now += Duration::from_millis(pause);
            let pressure = Pressure { memory, loop_lag: Duration::from_millis(lag), connections };
            let before = overload.level();
            let change = overload.observe(pressure, now);
            prop_assert_eq!(change.is_some(), before != overload.level());
            let shed = Priority::ALL.map(|priority| overload.sheds(priority));
            prop_assert!(shed.is_sorted_by(|low, high| low >= high));
            prop_assert!(memory < 1000 || shed[0], "at the bound low priority is shed at once");
        }
        for _ in 0..8 {
            overload.observe(Pressure::default(), now);
            now += HOLD;
        }
        prop_assert_eq!(overload.level(), Level::None);
    }
}
