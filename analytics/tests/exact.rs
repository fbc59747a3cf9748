//! The exact state against a naive model: the events themselves, summed up anew for each question.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use highpress_analytics::event::{Batch, Event};
use highpress_analytics::exact::ExactState;
use highpress_analytics::state::{
    Over, Period, Place, Resolution, Seconds, SeriesQuery, State, TopQuery,
};
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000;
const TYPES: [&str; 2] = ["like", "view"];

#[derive(Debug, Clone)]
enum Step {
    /// Time passes, then an increment of so long ago is read.
    Event {
        passes: i64,
        counter_type: usize,
        resource: u8,
        delta: i64,
        age: i64,
    },
    /// The last so many events are delivered again.
    Repeat(usize),
    Checkpoint,
    /// The process is killed: what came after the last checkpoint is read again.
    Crash,
    /// All rankings are asked for, so that orders are kept from here on.
    Ask,
}

fn step() -> impl Strategy<Value = Step> {
    let passes = prop_oneof![
        Just(0),
        0..120_i64,
        0..7_200_i64,
        0..200_000_i64,
        Just(40 * 86400)
    ];
    let age = prop_oneof![
        0..3_600_i64,
        0..90_000_i64,
        0..40 * 86400_i64,
        Just(500 * 86400),
        -90_000..0_i64
    ];
    let delta = prop_oneof![1..5_i64, -5..0_i64, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        12 => (passes, 0..2_usize, 0..12_u8, delta, age).prop_map(|(passes, counter_type, resource, delta, age)| {
            Step::Event { passes, counter_type, resource, delta, age }
        }),
        1 => (0..20_usize).prop_map(Step::Repeat),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
        2 => Just(Step::Ask),
    ]
}

/// What was read, with the time at which it was read first.
#[derive(Debug, Default)]
struct Model {
    events: Vec<(Event, i64)>,
    counts: BTreeMap<(String, String), i64>,
}

impl Model {
    fn add(
        &mut self,
        counter_type: &str,
        resource: &str,
        delta: i64,
        second: i64,
        now: i64,
    ) -> Event {
        let count = self
            .counts
            .entry((counter_type.to_owned(), resource.to_owned()))
            .or_default();
        // The counter service refuses what does not fit; a model of it must not send it.
        let delta = if count.checked_add(delta).is_some() {
            delta
        } else {
            0
        };
        *count += delta;
        let event = Event {
            position: self.events.len() as u64,
            resource_id: resource.into(),
            counter_type: counter_type.into(),
            delta,
            new_value: *count,
            timestamp_ms: second * 1000 + 7,
        };
        self.events.push((event.clone(), now));
        event
    }

    /// The second in which an event counts, if buckets of a resolution hold it: not if it came too late for them.
    fn second(event: &Event, read: i64, resolution: Resolution) -> Option<i64> {
        let second = event.second();
        let second = if second > read + 86400 { read } else { second };
        (resolution.bucket(second) >= resolution.bucket(read - resolution.kept())).then_some(second)
    }

    fn top(&self, counter_type: &str, period: Period, now: i64) -> Vec<(String, i128)> {
        let mut sums: BTreeMap<String, i128> = BTreeMap::new();
        match period.window() {
            None => {
                let of_type = self.counts.iter().filter(|((of, _), _)| of == counter_type);
                sums.extend(
                    of_type.map(|((_, resource), count)| (resource.clone(), i128::from(*count))),
                );
            }
            Some((_, resolution)) => {
                let range = period.range(now);
                for (event, read) in self
                    .events
                    .iter()
                    .filter(|(event, _)| &*event.counter_type == counter_type)
                {
                    let second = Self::second(event, *read, resolution);
                    if second.is_some_and(|second| (range.start..range.end).contains(&second)) {
                        *sums.entry(event.resource_id.to_string()).or_default() +=
                            i128::from(event.delta);
                    }
                }
            }
        }
        let mut ranked: Vec<_> = sums.into_iter().collect();
        ranked.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        ranked
    }

    fn series(&self, query: &SeriesQuery) -> Vec<i128> {
        let width = query.resolution.width();
        let mut values =
            vec![0; usize::try_from((query.range.end - query.range.start) / width).unwrap()];
        for (event, read) in &self.events {
            if *event.counter_type == query.counter_type && *event.resource_id == query.resource_id
            {
                let second = Self::second(event, *read, query.resolution);
                if let Some(second) =
                    second.filter(|second| (query.range.start..query.range.end).contains(second))
                {
                    values[usize::try_from((second - query.range.start) / width).unwrap()] +=
                        i128::from(event.delta);
                }
            }
        }
        values
    }
}

/// All pages of a ranking, of a length that does not divide it.
fn pages(state: &ExactState, counter_type: &str, over: Over, now: i64) -> Vec<(String, i128)> {
    let mut ranked = Vec::new();
    let mut after: Option<Place> = None;
    loop {
        let query = TopQuery {
            counter_type: counter_type.to_owned(),
            over,
            limit: 5,
            after,
        };
        let top = state.top(&query, now);
        assert!(top.exact);
        for place in &top.places {
            ranked.push((place.resource_id.to_string(), place.value));
            assert_eq!(place.rank as usize, ranked.len());
        }
        if !top.more {
            return ranked;
        }
        after = top.places.last().cloned();
    }
}

fn compare(state: &ExactState, model: &Model, now: i64) {
    for counter_type in TYPES {
        for period in [
            Period::Hour,
            Period::Day,
            Period::Week,
            Period::Month,
            Period::All,
        ] {
            let ranked = pages(state, counter_type, Over::Period(period), now);
            assert_eq!(
                ranked,
                model.top(counter_type, period, now),
                "{counter_type} {period:?}"
            );
            // The same seconds asked for as a range: hours and days from minutes, weeks and months from hours.
            if period.window().is_some() {
                let range = period.range(now);
                assert_eq!(
                    pages(state, counter_type, Over::Range(range), now),
                    ranked,
                    "{counter_type} {range:?}"
                );
            }
        }
    }
    for resolution in Resolution::ALL {
        let end = (resolution.bucket(now) + 2) * resolution.width();
        let start = end - (resolution.kept() / resolution.width()).min(300) * resolution.width();
        let query = SeriesQuery {
            counter_type: "like".to_owned(),
            resource_id: "r3".to_owned(),
            range: Seconds { start, end },
            resolution,
        };
        assert_eq!(state.series(&query), model.series(&query), "{resolution:?}");
    }
}

fn deliver(state: &ExactState, events: Vec<Event>, now: i64) {
    state.apply(
        &Batch {
            partition: 0,
            events,
        },
        now,
    );
}

/// Opens what a killed process left, and reads on from there. Events may have become too late for some buckets meanwhile.
fn reopen(dir: &tempfile::TempDir, model: &mut Model, now: i64) -> ExactState {
    let state = ExactState::open(dir.path()).unwrap();
    let from = usize::try_from(state.positions().next(0)).unwrap();
    for (event, read) in &mut model.events[from..] {
        *read = now;
        deliver(&state, vec![event.clone()], now);
    }
    state
}

fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut state = ExactState::open(dir.path()).unwrap();
    let mut model = Model::default();
    let mut now = NOW;
    for step in steps {
        match step {
            Step::Event {
                passes,
                counter_type,
                resource,
                delta,
                age,
            } => {
                now += passes;
                let event = model.add(
                    TYPES[counter_type],
                    &format!("r{resource}"),
                    delta,
                    now - age,
                    now,
                );
                deliver(&state, vec![event], now);
            }
            Step::Repeat(last) => {
                let from = model.events.len().saturating_sub(last);
                deliver(
                    &state,
                    model.events[from..]
                        .iter()
                        .map(|(event, _)| event.clone())
                        .collect(),
                    now,
                );
            }
            Step::Checkpoint => {
                let positions = state.checkpoint(now).unwrap();
                assert_eq!(positions.next(0), model.events.len() as u64);
            }
            Step::Crash => {
                drop(state);
                state = reopen(&dir, &mut model, now);
            }
            Step::Ask => compare(&state, &model, now),
        }
    }
    compare(&state, &model, now);
    drop(state);
    compare(&reopen(&dir, &mut model, now), &model, now);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn equals_a_naive_model_through_time_repeats_and_crashes(steps in prop::collection::vec(step(), 1..120)) {
        run(steps);
    }
}

fn event(position: u64, resource: &str, delta: i64, new_value: i64, second: i64) -> Event {
    Event {
        position,
        resource_id: resource.into(),
        counter_type: "like".into(),
        delta,
        new_value,
        timestamp_ms: second * 1000,
    }
}

fn top(state: &ExactState, period: Period, now: i64) -> Vec<(String, i128)> {
    pages(state, "like", Over::Period(period), now)
}

#[test]
fn windows_roll_and_counts_stay() {
    let state = ExactState::in_memory();
    let events = vec![
        event(0, "b", 5, 105, NOW),
        event(1, "a", 5, 5, NOW),
        event(2, "c", -2, -2, NOW),
    ];
    deliver(&state, events, NOW);
    let ranked = |values: &[(&str, i128)]| -> Vec<(String, i128)> {
        values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    };
    let window = ranked(&[("a", 5), ("b", 5), ("c", -2)]);
    for (period, stays, gone) in [
        (Period::Hour, 3000, 3700),
        (Period::Day, 86_000, 86_500),
        (Period::Week, 7 * 86400 - 3700, 7 * 86400 + 3600),
        (Period::Month, 30 * 86400 - 3700, 30 * 86400 + 3600),
    ] {
        assert_eq!(top(&state, period, NOW), window, "{period:?} at once");
        assert_eq!(
            top(&state, period, NOW + stays),
            window,
            "{period:?} near its end"
        );
        assert_eq!(
            top(&state, period, NOW + gone),
            ranked(&[]),
            "{period:?} after it"
        );
    }
    assert_eq!(
        top(&state, Period::All, NOW + 400 * 86400),
        ranked(&[("b", 105), ("a", 5), ("c", -2)])
    );
}

#[test]
fn partitions_have_positions_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let state = ExactState::open(dir.path()).unwrap();
    state.apply(
        &Batch {
            partition: 3,
            events: vec![event(70, "a", 1, 1, NOW)],
        },
        NOW,
    );
    let twice = vec![event(5, "b", 1, 1, NOW), event(5, "b", 1, 1, NOW)];
    let applied = state.apply(
        &Batch {
            partition: 1,
            events: twice,
        },
        NOW,
    );
    assert_eq!((applied.applied, applied.repeated), (1, 1));
    state.checkpoint(NOW).unwrap();
    drop(state);
    let state = ExactState::open(dir.path()).unwrap();
    assert_eq!(
        state.positions().iter().collect::<Vec<_>>(),
        [(1, 6), (3, 71)]
    );
}

#[test]
fn a_directory_in_use_or_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = ExactState::open(dir.path()).unwrap();
    let error = ExactState::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    drop(state);
    {
        let database = fjall::Database::builder(dir.path()).open().unwrap();
        let meta = database
            .keyspace("meta", fjall::KeyspaceCreateOptions::default)
            .unwrap();
        meta.insert("format", 99_u32.to_be_bytes()).unwrap();
    }
    let error = ExactState::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("format Some(99), not 1"), "{error}");
}

#[test]
fn what_is_past_its_retention_leaves_memory_and_disk() {
    let dir = tempfile::tempdir().unwrap();
    let state = ExactState::open(dir.path()).unwrap();
    deliver(
        &state,
        (0..50)
            .map(|at| event(at, &format!("r{at}"), 1, 1, NOW))
            .collect(),
        NOW,
    );
    state.checkpoint(NOW).unwrap();
    assert_eq!((state.size().counters, state.size().cells), (50, 150));
    state.checkpoint(NOW + 401 * 86400).unwrap();
    assert_eq!((state.size().counters, state.size().cells), (50, 0));
    drop(state);
    assert_eq!(ExactState::open(dir.path()).unwrap().size().cells, 0);
}

#[test]
fn events_of_another_source_start_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = ExactState::open(dir.path()).unwrap();
    assert!(!state.adopt("one").unwrap());
    deliver(&state, vec![event(0, "a", 1, 1, NOW)], NOW);
    state.checkpoint(NOW).unwrap();
    drop(state);
    let state = ExactState::open(dir.path()).unwrap();
    assert!(!state.adopt("one").unwrap());
    assert_eq!(state.positions().next(0), 1);
    assert!(state.adopt("two").unwrap());
    assert_eq!((state.positions().next(0), state.size().counters), (0, 0));
}

#[test]
fn clearing_forgets_positions_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let state = ExactState::open(dir.path()).unwrap();
    deliver(&state, vec![event(0, "a", 1, 1, NOW)], NOW);
    state.checkpoint(NOW).unwrap();
    state.clear().unwrap();
    assert_eq!(state.positions().next(0), 0);
    drop(state);
    let state = ExactState::open(dir.path()).unwrap();
    assert_eq!((state.positions().next(0), state.size().counters), (0, 0));
}
