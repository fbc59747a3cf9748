//! The state against a naive model: the events themselves, summed up anew for each question.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod many;
mod model;

use highpress_analytics::event::{self, Batch, Origin};
use highpress_analytics::state::{Over, Period};
use highpress_analytics::tally::Tally;
use proptest::prelude::*;

use self::model::{Event, MEMORY, Model, NOW, batch, compare, deliver, pages, reopen, run, step};
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

fn top(state: &Tally, period: Period, now: i64) -> Vec<(String, i128)> {
    pages(state, "like", Over::Period(period), now)
}

#[test]
fn windows_roll_and_counts_stay() {
    let state = Tally::in_memory(MEMORY);
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
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    state
        .apply(&batch(3, &[event(70, "a", 1, 1, NOW)]), NOW)
        .unwrap();
    state
        .apply(&batch(1, &[event(5, "b", 1, 1, NOW)]), NOW)
        .unwrap();
    let again = [event(5, "b", 1, 1, NOW), event(5, "b", 1, 1, NOW)];
    let applied = state.apply(&batch(1, &again), NOW).unwrap();
    assert_eq!((applied.applied, applied.repeated), (0, 2));
    state.checkpoint(NOW).unwrap();
    drop(state);
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    assert_eq!(
        state.positions().iter().collect::<Vec<_>>(),
        [(1, 6), (3, 71)]
    );
}

#[test]
fn a_directory_in_use_or_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    let error = Tally::open(dir.path(), MEMORY, NOW)
        .unwrap_err()
        .to_string();
    assert!(error.contains("in use by another process"), "{error}");
    drop(state);
    {
        let database = fjall::Database::builder(dir.path()).open().unwrap();
        let meta = database
            .keyspace("meta", fjall::KeyspaceCreateOptions::default)
            .unwrap();
        meta.insert("format", 99_u32.to_be_bytes()).unwrap();
    }
    let error = Tally::open(dir.path(), MEMORY, NOW)
        .unwrap_err()
        .to_string();
    assert!(error.contains("format Some(99), not 2"), "{error}");
}

#[test]
fn what_is_past_its_retention_leaves_memory_and_disk() {
    let dir = tempfile::tempdir().unwrap();
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
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
    assert_eq!(
        Tally::open(dir.path(), MEMORY, NOW).unwrap().size().cells,
        0
    );
}

#[test]
fn events_of_another_source_start_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    assert!(!state.adopt("one").unwrap());
    deliver(&state, vec![event(0, "a", 1, 1, NOW)], NOW);
    state.checkpoint(NOW).unwrap();
    drop(state);
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    assert!(!state.adopt("one").unwrap());
    assert_eq!(state.positions().next(0), 1);
    assert!(state.adopt("two").unwrap());
    assert_eq!((state.positions().next(0), state.size().counters), (0, 0));
}

#[test]
fn clearing_forgets_positions_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    deliver(&state, vec![event(0, "a", 1, 1, NOW)], NOW);
    state.checkpoint(NOW).unwrap();
    state.clear(0).unwrap();
    assert_eq!(state.positions().next(0), 0);
    drop(state);
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    assert_eq!((state.positions().next(0), state.size().counters), (0, 0));
}

#[test]
fn a_snapshot_goes_on_elsewhere_as_if_nothing_had_happened() {
    let state = Tally::in_memory(MEMORY);
    let mut model = Model::default();
    for at in 0..500_i64 {
        let resource = format!("r{}", at % 23);
        let event = model.add("like", &resource, at % 7 - 2, NOW - at * 611, NOW);
        deliver(&state, vec![event], NOW);
    }
    assert_eq!(state.snapshot(0), None, "it is nobody's yet");
    state.assign(&[0], NOW).unwrap();
    let snapshot = state.snapshot(0).unwrap();
    assert_eq!(snapshot.position, 500);

    let dir = tempfile::tempdir().unwrap();
    let other = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    deliver(&other, vec![event(0, "gone", 1, 1, NOW)], NOW);
    other.checkpoint(NOW).unwrap();
    other.install(0, &snapshot, NOW).unwrap();
    let event = model.add("like", "r3", 5, NOW, NOW);
    deliver(&other, vec![event], NOW);
    compare(&other, &model, NOW);
    other.checkpoint(NOW).unwrap();
    drop(other);
    compare(&reopen(&dir, &mut model, NOW), &model, NOW);

    let mut torn = snapshot.clone();
    torn.records.pop();
    assert!(state.install(0, &torn, NOW).is_err());
    torn = snapshot;
    torn.position += 1;
    assert!(state.install(0, &torn, NOW).is_err());
}

#[test]
fn repeats_are_dropped_by_outbox_through_crashes() {
    let dir = tempfile::tempdir().unwrap();
    let send = |state: &Tally, position: u64, origin: Origin<'_>| {
        let mut batch = Batch::new(0, position);
        batch.push(&event::Event {
            position,
            origin,
            resource_id: "a",
            counter_type: "like",
            delta: 1,
            new_value: 1,
            timestamp_ms: NOW * 1000,
        });
        state.apply(&batch, NOW).unwrap().applied == 1
    };
    let outbox = |sequence| Origin::Outbox {
        name: "o",
        sequence,
    };
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    assert!(send(&state, 0, outbox(7)) && !send(&state, 1, outbox(7)));
    assert!(send(&state, 2, Origin::Id(5)));
    state.checkpoint(NOW).unwrap();
    assert!(send(&state, 3, outbox(8)));
    drop(state);
    let state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    assert_eq!(state.positions().next(0), 3);
    assert!(!send(&state, 3, outbox(6)) && send(&state, 4, outbox(8)));
    assert!(!send(&state, 5, Origin::Id(5)) && send(&state, 6, Origin::Id(6)));
}
