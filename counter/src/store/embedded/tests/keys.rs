//! Idempotency keys on disk: against the model, with time in the test's hands, across restarts and crashes in odd places.

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::idempotency::Origin;
use crate::store::embedded::engine::Engine;
use crate::store::embedded::tables::Tables;
use crate::store::embedded::writer::{Request, Shared};
use crate::store::tests::model::{Call, Model, call, id, once, terms};
use crate::store::{Counted, Increment, StoreError, UnixMillis};

/// The tables without the writer's thread.
struct Opened {
    tables: Tables,
    shared: Shared,
}

impl Opened {
    fn at(directory: &TempDir, memory: u64) -> Self {
        let tables = Tables::open(directory.path(), &terms(memory)).unwrap();
        let shared = Shared::new(&tables);
        Self { tables, shared }
    }

    /// Writes one batch.
    fn write(&mut self, now: i64, increments: Vec<Increment>) -> Vec<Result<Counted, StoreError>> {
        let (mut requests, mut answers) = (Vec::new(), Vec::new());
        for increment in increments {
            let (reply, answer) = oneshot::channel();
            requests.push(Request { increment, reply });
            answers.push(answer);
        }
        let now = UnixMillis(now);
        self.tables
            .write(&self.shared, now, None, &mut requests)
            .unwrap();
        let answer = |mut answer: oneshot::Receiver<_>| answer.try_recv().unwrap();
        answers.into_iter().map(answer).collect()
    }

    fn add(&mut self, now: i64, key: &str) -> Result<Counted, StoreError> {
        self.write(now, vec![once("a:like", 1, key, Origin::Client)])
            .remove(0)
    }

    fn count(&self) -> i64 {
        self.tables.engine().count(&id("a:like")).unwrap()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<Call>),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batch = prop::collection::vec(call(), 1..8).prop_map(Step::Batch);
    prop::collection::vec(prop_oneof![8 => batch, 1 => Just(Step::Restart)], 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A batch takes place at one time, so the pauses of all its calls come before it.
    #[test]
    fn repeats_get_the_first_answer_across_batches_and_restarts(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let (mut opened, mut model) = (Opened::at(&directory, 1 << 20), Model::default());
        let mut now = 1_700_000_000_000;
        for step in steps {
            match step {
                Step::Restart => {
                    drop(opened);
                    opened = Opened::at(&directory, 1 << 20);
                }
                Step::Batch(calls) => {
                    now += calls.iter().map(|call| call.pause).sum::<i64>();
                    let answers = opened.write(now, calls.iter().map(Call::increment).collect());
                    for (call, answer) in calls.iter().zip(&answers) {
                        model.check(now, call, answer);
                    }
                }
            }
        }
        for (counter, count) in &model.counts {
            prop_assert_eq!(opened.tables.engine().count(counter).unwrap(), *count);
        }
    }
}

#[test]
fn the_bound_holds_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = Opened::at(&directory, 1000);
    let fit = (0..)
        .take_while(|n| opened.add(1, &format!("k{n}")).is_ok())
        .count();
    assert!((5..20).contains(&fit), "{fit} keys in 1000 bytes");
    let taken = opened.shared.key_bytes();
    drop(opened);
    let mut opened = Opened::at(&directory, 1000);
    assert_eq!(opened.shared.key_bytes(), taken);
    for n in 0..fit {
        assert!(opened.add(999, &format!("k{n}")).unwrap().replayed);
    }
    let full = opened.add(999, "another").unwrap_err();
    assert!(
        matches!(full, StoreError::KeysFull { memory: 1000, .. }),
        "{full}"
    );
    assert_eq!(opened.count(), i64::try_from(fit).unwrap());
    // Two turns later they are forgotten, and there is room.
    assert!(opened.add(1100, "another").is_err());
    assert!(opened.add(2200, "another").is_ok());
}

#[test]
fn an_idle_store_drops_its_tables() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = Opened::at(&directory, 1 << 20);
    opened.add(1, "k").unwrap();
    opened.tables.forget(&opened.shared, UnixMillis(500));
    assert!(opened.add(999, "k").unwrap().replayed);
    opened.tables.forget(&opened.shared, UnixMillis(5000));
    assert_eq!(opened.shared.key_bytes(), [0, 0]);
    assert!(!opened.add(5001, "k").unwrap().replayed);
    let tables = |engine: &Engine| {
        let names = engine.table_names();
        names.filter(|name| name.starts_with("keys-")).count()
    };
    assert_eq!(tables(&opened.tables.engine()), 1);
}

#[test]
fn tables_that_a_crash_left_over_are_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = Opened::at(&directory, 1 << 20);
    opened.add(1, "k").unwrap();
    // Made for a turn that was never written down.
    opened.tables.engine().table("keys-client-9").unwrap();
    drop(opened);
    let mut opened = Opened::at(&directory, 1 << 20);
    let names: Vec<_> = opened.tables.engine().table_names().collect();
    assert!(
        !names.iter().any(|name| name == "keys-client-9"),
        "{names:?}"
    );
    assert!(opened.add(2, "k").unwrap().replayed);
}

#[test]
fn a_key_that_overflowed_is_not_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = Opened::at(&directory, 1 << 20);
    let over = || once("a:like", i64::MAX, "k", Origin::Client);
    opened.add(1, "first").unwrap();
    let answers = opened.write(
        2,
        vec![over(), once("a:like", -1, "back", Origin::Client), over()],
    );
    assert!(
        matches!(answers[0], Err(StoreError::Overflow { .. })),
        "{answers:?}"
    );
    assert_eq!(answers[2].as_ref().unwrap().value, i64::MAX);
    assert_eq!(opened.count(), i64::MAX);
}
